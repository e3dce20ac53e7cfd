"""The files of the simulated Slack: their upload in three steps, their processing, and who may see them.

Source: https://docs.slack.dev/messaging/working-with-files#upload
"""

import json
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cheapdeep_ops.testing.messages_api.replies import JsonObject

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_IMAGES: Final = {_PNG: ("image/png", "png"), b"\xff\xd8\xff": ("image/jpeg", "jpg"), b"GIF8": ("image/gif", "gif")}
"""Media type and file type by the first bytes of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackFile:
    """A file. It is private to the bot until `channels` has a place in which a message shows it."""

    id: str
    name: str
    length: int
    """Its size in bytes, as announced."""
    alt_text: str = ""
    title: str = ""
    content: bytes | None = None
    """None until it is uploaded."""
    completed_at: float | None = None
    """When its upload ended, by the server's clock."""
    channels: frozenset[str] = frozenset()


class FileStore:
    """The files by their id; threads may share it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.processing_s = 1.0
        """How long a file is processed after its upload, before a block can show it."""
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[str, SlackFile] = {}
        self._deleted: set[str] = set()

    def all(self) -> list[SlackFile]:
        """The files whose upload has ended and that are not deleted, oldest first."""
        with self._lock:
            return [each for each in self._files.values() if each.completed_at is not None]

    def clear(self) -> None:
        """Remove all files."""
        with self._lock:
            self._files.clear()

    def delete(self, file_id: str) -> bool:
        """Delete a file; returns whether it was there."""
        with self._lock:
            self._deleted.add(file_id)
            return self._files.pop(file_id, None) is not None

    def announce(self, body: JsonObject, *, url: Callable[[str], str]) -> JsonObject:
        """The answer to `files.getUploadURLExternal`; `url` makes the address for a file."""
        name, length = str(body.get("filename") or ""), str(body.get("length") or "")
        if not name or not length.isdecimal() or int(length) < 1:
            return {"ok": False, "error": "invalid_arguments"}
        with self._lock:
            file_id = f"F0SIM{len(self._files) + len(self._deleted):06d}"
            announced = SlackFile(id=file_id, name=name, length=int(length), alt_text=str(body.get("alt_txt") or ""))
            self._files[file_id] = announced
        return {"ok": True, "file_id": file_id, "upload_url": url(file_id)}

    def receive(self, file_id: str, content: bytes) -> str | None:
        """Store the content of a file; returns why it is refused, None if it is accepted."""
        with self._lock:
            file = self._files.get(file_id)
            if file is None:
                return "not found"
            if len(content) != file.length:
                return "wrong length"
            self._files[file_id] = replace(file, content=content)
        return None

    def complete(self, body: JsonObject) -> JsonObject:
        """The answer to `files.completeUploadExternal`; the file's type is not known yet."""
        named: Any = body.get("files") or []
        if isinstance(named, str):
            named = json.loads(named)
        with self._lock:
            found = [self._files.get(str(each.get("id"))) for each in named]
            if not found or any(each is None or each.content is None for each in found):
                return {"ok": False, "error": "file_not_found"}
            now, titles = self._clock(), {each["id"]: str(each.get("title") or "") for each in named}
            for file in found:
                if file is not None:
                    self._files[file.id] = replace(file, completed_at=now, title=titles[file.id])
            return {"ok": True, "files": [_shown(self._files[each]) for each in titles]}

    def info(self, file_id: str) -> JsonObject:
        """The answer to `files.info`: the media type is empty while the file is processed."""
        with self._lock:
            file = self._files.get(file_id)
            if file is None:
                return {"ok": False, "error": "file_deleted" if file_id in self._deleted else "file_not_found"}
            return {"ok": True, "file": _shown(file, is_processed=self._is_processed(file))}

    def removed(self, file_id: str) -> JsonObject:
        """The answer to `files.delete`."""
        was_deleted = file_id in self._deleted
        if self.delete(file_id):
            return {"ok": True}
        return {"ok": False, "error": "file_deleted" if was_deleted else "file_not_found"}

    def trouble(self, blocks: Sequence[JsonObject]) -> str | None:
        """Why Slack refuses the files in these blocks; None if it shows all of them.

        Source: the answers in https://github.com/slackapi/python-slack-sdk/issues/1658
        """
        for number, block in enumerate(blocks):
            named = block.get("slack_file")
            if named is not None and not self._is_image(str(named.get("id") or ""), keys=named.keys()):
                return f"invalid slack file [json-pointer:/blocks/{number}/slack_file]"
        return None

    def share(self, blocks: Sequence[JsonObject], channel: str) -> None:
        """Let the members of a channel see the files in a message's blocks."""
        with self._lock:
            for block in blocks:
                file = self._files.get(str((block.get("slack_file") or {}).get("id")))
                if file is not None:
                    self._files[file.id] = replace(file, channels=file.channels | {channel})

    def _is_image(self, file_id: str, *, keys: Collection[str]) -> bool:
        with self._lock:
            file = self._files.get(file_id)
            is_known = file is not None and self._is_processed(file) and _type_of(file)[0].startswith("image/")
            return is_known and set(keys) == {"id"}

    def _is_processed(self, file: SlackFile) -> bool:
        return file.completed_at is not None and self._clock() - file.completed_at >= self.processing_s


def _type_of(file: SlackFile) -> tuple[str, str]:
    begin = file.content or b""
    return next((kind for first, kind in _IMAGES.items() if begin.startswith(first)), ("application/octet-stream", ""))


def _shown(file: SlackFile, *, is_processed: bool = False) -> JsonObject:
    media_type, file_type = _type_of(file) if is_processed else ("", "")
    return {
        "id": file.id,
        "name": file.name,
        "title": file.title,
        "mimetype": media_type,
        "filetype": file_type,
        "size": file.length,
        "alt_txt": file.alt_text,
        "is_public": False,
        "channels": sorted(file.channels),
    }

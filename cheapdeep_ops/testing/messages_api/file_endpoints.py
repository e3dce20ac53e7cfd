"""The endpoints of the Files API, which keep files in memory."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.routing import Route

from cheapdeep_ops.testing._server import Delivery
from cheapdeep_ops.testing.messages_api.endpoints import Deliver, KeyFault, Record
from cheapdeep_ops.testing.messages_api.replies import JsonObject, Reply

_PATH: Final = "/v1/files"
_NAME: Final = re.compile(r'filename="([^"]*)"')
_TYPE: Final = re.compile(r"content-type: *([^\r\n]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file that was uploaded."""

    id: str
    name: str
    mime_type: str
    content: bytes
    at: float

    def as_json(self) -> JsonObject:
        """Return the API's file object."""
        return {
            "type": "file",
            "id": self.id,
            "filename": self.name,
            "mime_type": self.mime_type,
            "size_bytes": len(self.content),
            "created_at": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds"),
            "downloadable": True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FileApi:
    """The endpoints that upload, list, describe, download and delete files."""

    new_id: Callable[[], str]
    record: Record
    deliver: Deliver
    key_fault: KeyFault
    _files: dict[str, StoredFile] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def routes(self) -> list[Route]:
        """Return the routes of the five endpoints."""
        return [
            Route(_PATH, self._upload, methods=["POST"]),
            Route(_PATH, self._list, methods=["GET"]),
            Route(f"{_PATH}/{{file_id}}", self._retrieve, methods=["GET"]),
            Route(f"{_PATH}/{{file_id}}", self._delete, methods=["DELETE"]),
            Route(f"{_PATH}/{{file_id}}/content", self._download, methods=["GET"]),
        ]

    def clear(self) -> None:
        """Remove all files."""
        with self._lock:
            self._files.clear()

    async def _upload(self, request: Request) -> Delivery:
        raw = await request.body()
        received = self.record(request, None, raw)
        fault = self.key_fault(request.headers)
        if fault is not None:
            return self.deliver(fault, received)
        part = uploaded(request.headers.get("content-type", ""), raw)
        if part is None:
            return self.deliver(Reply.error(400, message="file: Field required"), received)
        name, mime_type, content = part
        file = StoredFile(id=self.new_id(), name=name, mime_type=mime_type, content=content, at=received.at)
        with self._lock:
            self._files[file.id] = file
        return self.deliver(Reply.body(file.as_json()), received)

    async def _list(self, request: Request) -> Delivery:
        with self._lock:
            data = [file.as_json() for file in reversed(self._files.values())]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return self._respond(request, Reply.body({"data": data, "has_more": False, **ends}))

    async def _retrieve(self, request: Request) -> Delivery:
        return self._respond(request, self._with_file(request, lambda file: Reply.body(file.as_json())))

    async def _download(self, request: Request) -> Delivery:
        def content(file: StoredFile) -> Reply:
            return Reply.body(file.content, headers={"content-type": file.mime_type})

        return self._respond(request, self._with_file(request, content))

    async def _delete(self, request: Request) -> Delivery:
        def deleted(file: StoredFile) -> Reply:
            with self._lock:
                self._files.pop(file.id, None)
            return Reply.body({"type": "file_deleted", "id": file.id})

        return self._respond(request, self._with_file(request, deleted))

    def _respond(self, request: Request, reply: Reply) -> Delivery:
        received = self.record(request, None, b"")
        return self.deliver(self.key_fault(request.headers) or reply, received)

    def _with_file(self, request: Request, reply: Callable[[StoredFile], Reply]) -> Reply:
        file_id = request.path_params["file_id"]
        with self._lock:
            file = self._files.get(file_id)
        return Reply.error(404, message=f"File {file_id} not found.") if file is None else reply(file)


def uploaded(content_type: str, body: bytes) -> tuple[str, str, bytes] | None:
    """Return name, MIME type and content of the first file in a multipart body (RFC 7578); None if it has none."""
    _, _, boundary = content_type.partition("boundary=")
    if not boundary:
        return None
    for part in body.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head.decode("utf-8", "replace"))
        if name is not None:
            mime_type = _TYPE.search(head.decode("utf-8", "replace"))
            return name[1], mime_type[1] if mime_type else "application/octet-stream", content.removesuffix(b"\r\n")
    return None

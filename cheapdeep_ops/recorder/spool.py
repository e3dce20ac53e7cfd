"""Files in which a process leaves what its store did not take, and from which the next process stores it.

Each file has the counters of one process, and answers for grading after redaction. Rows have the process's name and
hold absolute counts, so that storing a file twice changes nothing.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cheapdeep_ops.call_counters import COUNTERS, Counters

if TYPE_CHECKING:
    from cheapdeep_ops.recorder.destination import Destination
    from cheapdeep_ops.store.recording import Heartbeat

_MOST_BYTES: Final = 64 * 1024**2
"""How much all files of the folder may have together."""

_FORMAT: Final = 1
_KEYS: Final = ("route", "input_class", "process", "at")
_Row = Mapping[str, Any]


class Left(NamedTuple):
    """The rows of one process name that its store did not take, and its last heartbeat."""

    beat: "Heartbeat"
    buckets: Sequence[_Row]
    totals: Sequence[_Row]


class Spool:
    """The files for one store in `folder`; a relative SQLite path in the store's `url` starts at `base`."""

    def __init__(self, folder: Path, url: str, base: Path) -> None:
        self._folder = folder
        self._url = url
        self._base = base

    @property
    def _prefix(self) -> str:
        """How the names of this store's files begin: another store's files are not touched."""
        from cheapdeep_ops.store.url import read_address  # noqa: PLC0415 - see StoreDestination

        address = read_address(self._url, self._base)
        # Without user and password, which may change between two processes.
        place = (address.host, address.port, address.database, address.options.get("host"))
        return f"cheapdeep-{sha256(repr(place).encode()).hexdigest()[:16]}-"

    def keep(self, process: str, left: Sequence[Left], answers: Sequence[_Row]) -> tuple[Path, int] | None:
        """Write what a process leaves; returns the file and the number of answers in it, or None if there is no room.

        Answers are left out if only the counters fit. Raises OSError if the folder cannot be written to, and StoreError
        if the store's URL is malformed.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = _MOST_BYTES - sum(path.stat().st_size for path in self._folder.glob("cheapdeep-*.json"))
        counted = [
            {"beat": asdict(each.beat), "buckets": _thinned(each.buckets), "totals": _thinned(each.totals)}
            for each in left
        ]
        for kept in dict.fromkeys((len(answers), 0)):
            body = {"format": _FORMAT, "counters": counted, "answers": list(answers)[:kept]}
            text = json.dumps(body).encode()
            if len(text) <= room:
                return self._write(process, text), kept
        return None

    def take_over(self, destination: "Destination") -> int:
        """Store what earlier processes left, and delete their files; returns the number of files.

        A file that cannot be read stays, and gets another name. Raises StoreError if the store does not take the rows.
        """
        taken = 0
        for path in sorted(self._files()):
            try:
                body = json.loads(_read_own(path))
                _store(body, destination)
            except (ValueError, TypeError, KeyError, AttributeError):
                path.rename(path.with_suffix(".unreadable"))
                continue
            path.unlink(missing_ok=True)
            taken += 1
        return taken

    def _files(self) -> Iterator[Path]:
        with suppress(OSError):  # there is no folder yet
            yield from self._folder.glob(f"{self._prefix}*.json")

    def _write(self, process: str, text: bytes) -> Path:
        path = self._folder / f"{self._prefix}{process}.json"
        unfinished = path.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        # Created anew, so that neither a link nor another user's file is written to.
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        return path


def _thinned(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """The rows without their zeros, which are most of them."""
    return [{name: value for name, value in row.items() if value or name in _KEYS} for row in rows]


def _whole(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """The rows with all counters of this version; those of a later version are left out."""
    zeros = Counters().row()
    known = {*_KEYS, *COUNTERS}
    return [{**zeros, **{name: value for name, value in row.items() if name in known}} for row in rows]


def _read_own(path: Path) -> bytes:
    """The content of a regular file of this user. Raises ValueError if it is anything else."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        is_own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        if not stat.S_ISREG(status.st_mode) or not is_own:
            raise ValueError(f"{path} is not a file of this user")
        return file.read(_MOST_BYTES + 1)


def _store(body: Mapping[str, Any], destination: "Destination") -> None:
    from cheapdeep_ops.store.recording import Heartbeat  # noqa: PLC0415 - see StoreDestination

    if body["format"] != _FORMAT:
        raise ValueError(f"its format is {body['format']}")
    names = {each.name for each in fields(Heartbeat)}
    for part in body["counters"]:
        beat = Heartbeat(**{name: value for name, value in part["beat"].items() if name in names})
        destination.write_counters(buckets=_whole(part["buckets"]), totals=_whole(part["totals"]), beat=beat)
        destination.sign_off(beat.process)
    if body["answers"]:
        destination.write_candidates(body["answers"])

"""Changes the file of tokens: whole or not at all, one change after the other."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cheapdeep_ops.access.known_tokens import read_text
from cheapdeep_ops.access.token_file import NEW_FILE, TokenFileError

_OWNER_ONLY: Final = 0o600


def change(path: Path, edit: Callable[[str], str], *, creates: bool = False) -> None:
    """Replace the file's text by `edit(text)`; if `edit` raises, the file stays as it is.

    `creates` is whether a missing file is made, which only its owner can read. An existing file keeps its owner and
    permissions. Raises TokenFileError with the path, and OSError if the folder cannot be written.
    """
    # The target of a link is replaced, and not the link.
    path = path.resolve()
    with _locked(path.parent):
        if creates and not path.exists():
            text, status = NEW_FILE, None
        else:
            text, status = read_text(path)
        try:
            changed = edit(text)
        except TokenFileError as error:
            raise TokenFileError(f"{path}: {error}") from None
        _replace(path, changed, status)


def _replace(path: Path, text: str, status: os.stat_result | None) -> None:
    # A guard that reads meanwhile sees the old file or the new one, never a part.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if status is None:
                os.fchmod(descriptor, _OWNER_ONLY)
            else:
                # The guard may run as another user, who must still be able to read the file.
                if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, so that two commands do not lose each other's change."""
    # On the folder, because the file itself is replaced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

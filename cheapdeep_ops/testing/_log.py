"""A bounded list that one thread fills and others read."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Log(Sequence[T], Generic[T]):
    """Keep the newest `limit` entries; each read sees a consistent copy while other threads append."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[T] = deque(maxlen=limit)

    def append(self, entry: T) -> None:
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def snapshot(self) -> list[T]:
        with self._lock:
            return list(self._entries)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.snapshot()[index]

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self.snapshot())

    def __repr__(self) -> str:
        return repr(self.snapshot())

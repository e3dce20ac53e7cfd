"""What was read of grades before, kept as long as nothing has changed: most evaluations see no new grade."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, TypeVar, cast

from cheapdeep_ops.guard.rules.model import Finding
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import DecidedGrade, GraderVersion

_T = TypeVar("_T")
_FRESH_S: Final = 60.0
"""How long a finding may stand without a new grade: old grades leave the window by age."""


class GradeCache:
    """One judge's latest grades, route by route, and what was found in them; belongs to one guard."""

    def __init__(self, judge: GraderVersion) -> None:
        self.judge = judge
        self.versions: dict[str, int] = {}
        """How many grades of each route there ever were."""
        self._read: dict[Hashable, tuple[int, list[DecidedGrade]]] = {}
        self._lately: dict[Hashable, tuple[float, object]] = {}
        self._found: dict[Hashable, tuple[Hashable, float, Finding]] = {}

    def look(self, connection: Connection) -> None:
        """Learn which routes have new grades."""
        self.versions = grades.counts(connection)

    def newest(self, connection: Connection, route: str, limit: int) -> list[DecidedGrade]:
        """The decided grades of a route's latest calls, newest first; read again only where there are new ones."""
        read = partial(grades.newest, connection, route, self.judge, since=float("-inf"), limit=limit)
        return self._while_same(("newest", route, limit), self.versions.get(route, 0), read)

    def oldest(self, connection: Connection, route: str, since: float, limit: int) -> list[DecidedGrade]:
        """The decided grades of a route's first calls after `since`, oldest first; likewise."""
        read = partial(grades.oldest, connection, route, self.judge, since=since, limit=limit)
        return self._while_same(("oldest", route, since, limit), self.versions.get(route, 0), read)

    def unread(self, connection: Connection, test: Hashable, *, grade_id: int, route: str | None) -> list[DecidedGrade]:
        """The grades that became known after `grade_id`, for a test; none where it was given all that there are."""
        version = sum(self.versions.values()) if route is None else self.versions.get(route, 0)
        if self._read.get(("unread", test), (0, []))[0] == version:
            return []
        self._read[("unread", test)] = (version, [])
        return grades.known_after(connection, self.judge, grade_id=grade_id, route=route)

    def _while_same(self, key: Hashable, version: int, read: Callable[[], list[DecidedGrade]]) -> list[DecidedGrade]:
        held = self._read.get(key)
        if held is None or held[0] != version:
            held = self._read[key] = (version, read())
        return held[1]

    def lately(self, key: Hashable, now: float, for_s: float, look: Callable[[], _T]) -> _T:
        """What `look` gives, or gave within the last `for_s` seconds: for what is slow to change and dear to read."""
        known = self._lately.get(key)
        if known is not None and 0 <= now - known[0] < for_s:
            return cast("_T", known[1])
        self._lately[key] = (now, look())
        return cast("_T", self._lately[key][1])

    def found(self, key: Hashable, rests_on: Hashable, now: float, look: Callable[[], Finding]) -> Finding:
        """What `look` finds, or found lately where all that it `rests_on` is the same."""
        known = self._found.get(key)
        if known is not None and known[0] == rests_on and 0 <= now - known[1] < _FRESH_S:
            return known[2]
        finding = look()
        self._found[key] = (rests_on, now, finding)
        return finding

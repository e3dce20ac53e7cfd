"""A cache of grades and of results from them. Most evaluations have no new grade, so they need no query."""

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, TypeVar, cast

from cheapdeep_ops.store import grades
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import DecidedGrade, GraderVersion

_T = TypeVar("_T")
_FRESH_S: Final = 60.0
"""How long a finding is cached without a new grade; after that, old grades may have left its window."""


class GradeCache:
    """The latest grades of one grader, by route, and the findings that rest on them; one guard owns it."""

    def __init__(self, grader: GraderVersion) -> None:
        self.grader = grader
        self.versions: dict[str, int] = {}
        """How many grades each route has ever had."""
        self._grades: dict[Hashable, tuple[int, list[DecidedGrade]]] = {}
        self._complete: dict[tuple[str, float], tuple[int, list[DecidedGrade]]] = {}
        self._read: dict[Hashable, int] = {}
        """By test: how many grades there were when it last read them."""
        self._results: dict[Hashable, tuple[float, object]] = {}
        self._findings: dict[Hashable, tuple[object, float, object]] = {}

    def refresh(self, connection: Connection) -> None:
        """Read how many grades each route has; a changed number invalidates the cached grades."""
        self.versions = grades.counts(connection)

    def newest(
        self, connection: Connection, route: str, limit: int, *, max_age: float = math.inf, now: float = 0.0
    ) -> list[DecidedGrade]:
        """The decided grades of a route's latest calls, newest first; read only when the route has new ones.

        Calls were at most `max_age` seconds old at `now` (Unix time) when they were read.
        """
        read = partial(grades.newest, connection, route, self.grader, since=now - max_age, limit=limit)
        newest = self._cached(("newest", route, limit, max_age), self.versions.get(route, 0), read)
        if len(newest) < limit:
            self._complete[route, max_age] = (self.versions.get(route, 0), newest)
        return newest

    def complete(self, route: str, *, version: int, max_age: float) -> list[DecidedGrade] | None:
        """All decided grades of a route's calls within `max_age`, newest first, if `newest` has read them.

        None if it has not, or if their number was not yet `version`.
        """
        known, newest = self._complete.get((route, max_age), (None, None))
        return newest if known == version else None

    def oldest(self, connection: Connection, route: str, since: float, limit: int) -> list[DecidedGrade]:
        """The decided grades of a route's first calls after `since`, oldest first; read only when it has new ones."""
        read = partial(grades.oldest, connection, route, self.grader, since=since, limit=limit)
        return self._cached(("oldest", route, since, limit), self.versions.get(route, 0), read)

    def is_behind(self, test: Hashable, *, route: str | None) -> bool:
        """Whether a route (None: any) has new grades since the last call for this `test`."""
        # A guard whose commit fails starts with a new cache, so no grade is lost here.
        version = sum(self.versions.values()) if route is None else self.versions.get(route, 0)
        before, self._read[test] = self._read.get(test, 0), version
        return before != version

    def _cached(self, key: Hashable, version: int, read: Callable[[], list[DecidedGrade]]) -> list[DecidedGrade]:
        cached = self._grades.get(key)
        if cached is None or cached[0] != version:
            cached = self._grades[key] = (version, read())
        return cached[1]

    def cached_for(self, seconds: float, key: Hashable, now: float, read: Callable[[], _T]) -> _T:
        """The cached value if it is younger than `seconds`, else the result of `read`; for expensive queries."""
        cached = self._results.get(key)
        # A clock that was set back must not keep a value for longer.
        if cached is not None and 0 <= now - cached[0] < seconds:
            return cast("_T", cached[1])
        self._results[key] = (now, read())
        return cast("_T", self._results[key][1])

    def cached_while(self, rests_on: object, key: Hashable, now: float, compute: Callable[[], _T]) -> _T:
        """The cached result if what it `rests_on` is unchanged and it is fresh, else the result of `compute`."""
        cached = self._findings.get(key)
        if cached is not None and cached[0] == rests_on and 0 <= now - cached[1] < _FRESH_S:
            return cast("_T", cached[2])
        result = compute()
        self._findings.pop(key, None)
        self._findings[key] = (rests_on, now, result)
        # The oldest come first. Those of a route without calls would stay for good.
        while now - next(iter(self._findings.values()))[1] >= _FRESH_S:
            del self._findings[next(iter(self._findings))]
        return result

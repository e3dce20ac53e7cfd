"""A guard by its store: what commands ask of it while the store is at hand."""

import time
from collections.abc import Collection, Sequence

from cheapdeep_ops.cli.guards.protocol import Found, GuardClient
from cheapdeep_ops.guard.actions.thresholds import release_threshold, set_threshold
from cheapdeep_ops.guard.incidents.attention import acknowledge, active_silences, silence, unsilence
from cheapdeep_ops.guard.reports.quality import normals_of, relearn
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.review import label_all, next_sample, review_of, shown
from cheapdeep_ops.guard.reports.status import policy_state, status
from cheapdeep_ops.guard.reports.trends import trends
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.values import Grade


class LocalGuard(GuardClient):
    """`Controls` of the guard whose store this is; what a method does is said there."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def status(self) -> Found:
        return status(self._store, self._settings, time.time())

    def report(self, last_s: float) -> Found:
        now = time.time()
        return receipt(self._store, self._settings, since=now - last_s, until=now)

    def trends(self, *, since: float, until: float) -> Found:
        return trends(self._store, self._settings, since=since, until=until)

    def policy(self) -> Found:
        with self._store.reading() as connection:
            return policy_state(connection, self._settings)

    def pin(self, threshold: float, *, route: str, author: str, why: str) -> Found:
        by = {"author": author, "why": why}
        return set_threshold(self._store, self._settings, threshold, scope=route, now=time.time(), **by)

    def release(self, *, route: str, author: str, why: str) -> Found:
        by = {"author": author, "why": why}
        return release_threshold(self._store, self._settings, scope=route, now=time.time(), **by)

    def normal(self) -> Found:
        with self._store.reading() as connection:
            return normals_of(connection, self._settings)

    def relearn(self, *, route: str, author: str, why: str) -> Found:
        relearn(self._store, self._settings, route, author=author, why=why, now=time.time())
        return self.normal()

    def acknowledge(self, incident_id: int, *, author: str, why: str) -> Found:
        return acknowledge(self._store, self._settings, incident_id, author=author, why=why, now=time.time())

    def silences(self) -> list[Found]:
        with self._store.reading() as connection:
            return active_silences(connection, time.time())

    def silence(self, rule: str, *, route: str | None, lasts_s: float, author: str, why: str) -> list[Found]:
        by = {"author": author, "why": why}
        now = time.time()
        return silence(self._store, self._settings, rule=rule, route=route, lasts_s=lasts_s, now=now, **by)

    def unsilence(self, silence_id: int, *, author: str, why: str) -> list[Found]:
        return unsilence(self._store, silence_id, author=author, why=why, now=time.time())

    def review(self, route: str) -> Found:
        with self._store.reading() as connection:
            return review_of(connection, self._settings, route)

    def next_sample(self, route: str, *, skipped: Collection[str]) -> Found | None:
        with self._store.reading() as connection:
            found = next_sample(connection, self._settings, scope=route, skipped=skipped)
        return None if found is None else shown(found)

    def label(self, given: Sequence[tuple[str, Grade]], *, author: str) -> list[Found]:
        return label_all(self._store, self._settings, given, author=author, now=time.time())

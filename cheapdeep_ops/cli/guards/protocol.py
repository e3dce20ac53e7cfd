"""What commands ask of a guard, wherever it is: its store is at hand, or it answers over HTTP."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from cheapdeep_ops.cli.common import opened
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import Grade

Found = Any


class GuardClient(Protocol):
    """A guard's reports and orders.

    Every method raises StoreError where the store is out of reach and RemoteError where the guard is; orders raise
    PolicyError or MissingError where they cannot be carried out.
    """

    def status(self) -> Found:
        """What is so right now."""

    def report(self, last_s: float) -> Found:
        """The receipt over the last so many seconds."""

    def trends(self, *, since: float, until: float) -> Found:
        """What the receipt's plots show of a period, which is in Unix time."""

    def policy(self) -> Found:
        """The thresholds in force."""

    def pin(self, threshold: float, *, route: str, author: str, why: str) -> Found:
        """Hold a threshold; returns the policy that follows."""

    def release(self, *, route: str, author: str, why: str) -> Found:
        """Let the rules decide again; returns the policy that follows."""

    def normal(self) -> Found:
        """What false confidence is normal for each route."""

    def relearn(self, *, route: str, author: str, why: str) -> Found:
        """Have it learned anew for one route; returns what is normal then."""

    def acknowledge(self, incident_id: int, *, author: str, why: str) -> Found:
        """Say that somebody looks after an open incident; returns it."""

    def silences(self) -> list[Found]:
        """The silences that last."""

    def silence(self, rule: str, *, route: str | None, lasts_s: float, author: str, why: str) -> list[Found]:
        """Keep messages of a rule back for a while; returns the silences that last."""

    def unsilence(self, silence_id: int, *, author: str, why: str) -> list[Found]:
        """End a silence; returns those that still last."""

    def review(self, route: str) -> Found:
        """How far judge and people agree."""

    def next_sample(self, route: str, *, skipped: Collection[str]) -> Found | None:
        """The answer to label next, with its content; None where none is left."""

    def label(self, given: Sequence[tuple[str, Grade]], *, author: str) -> Sequence[Mapping[str, Any]]:
        """Store labels, all or none; returns them, each with what the judge had said."""


@contextmanager
def connected(settings: Settings) -> Iterator[GuardClient]:
    """The guard that the settings name: over HTTP where they have its URL, else by its store.

    Raises StoreError where there is no store yet, SchemaError where its schema does not fit.
    """
    if settings.guard_url is None:
        from cheapdeep_ops.cli.guards.local import LocalGuard

        with opened(settings) as store:
            yield LocalGuard(store, settings)
        return
    from cheapdeep_ops.cli.guards.remote import RemoteGuard

    with RemoteGuard(settings.guard_url, settings.guard_token) as remote:
        yield remote

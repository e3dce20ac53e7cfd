"""Where a recorder sends what it counted and kept, and where it reads the policies in force."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from cheapdeep_ops.store.clock import StoreTime
    from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows, StoredPolicy


class News(NamedTuple):
    """What a recorder learns at each read; `guard_seen` is the last heartbeat of a guard (Unix time), None: never.

    `store` changes when the store may lack what it had: it was made anew, or another server has taken over.
    """

    policies: "list[StoredPolicy]"
    guard_seen: float | None
    store: object = None


class Destination(Protocol):
    """Takes one process's rows and tells it the policies. Used by one thread at a time.

    Every method but `close` raises StoreError if the destination cannot be reached or used.
    """

    @property
    def shown_url(self) -> str:
        """Its URL without secrets."""

    def read(self) -> News:
        """The policies in force, and whether a guard is there; the object of the last read if nothing has changed."""

    def read_time(self) -> "StoreTime":
        """What the store says about time."""

    def write_counters(self, *, buckets: "Rows", totals: "Rows", beat: "Heartbeat") -> "Rejected":
        """Store the present counters of this process; returns the buckets that are rejected for good."""

    def write_candidates(self, rows: "Rows") -> "Rejected":
        """Store answers for grading; returns those that are rejected for good."""

    def sign_off(self, process: str) -> None:
        """Mark the process as stopped, if it has written anything."""

    def close(self) -> None:
        """Close all connections; the next use opens them again."""

"""Where a recorder sends what it counted and kept, and where it reads the policies in force."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from cheapdeep_ops.errors import StoreBusyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cheapdeep_ops.admission import Admitted
    from cheapdeep_ops.budgets import SliceRequest, Slices
    from cheapdeep_ops.recorder.wake import Wake
    from cheapdeep_ops.store.clock import Reading
    from cheapdeep_ops.store.recording import Heartbeat, Rejected, Rows, StoredPolicy
    from cheapdeep_ops.values import Name


class AskedToWaitError(StoreBusyError):
    """The destination asks its senders to wait `retry_after_s` seconds; what they have waits with them."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class News(NamedTuple):
    """What a recorder learns at each read, all in the store's time.

    `guard_seen` is the last heartbeat of a guard (Unix time), None: never. `time` is what the store said about time.
    `admitted` are the names that count by themselves; an unchanged set is one object at each read.
    `store` changes when the store may lack what it had: it was made anew, or another server has taken over.
    `flush_every_s` is the shortest interval between two writes that the destination asks for, None: any.
    `wants_candidates` is whether it takes answers for grading.
    """

    policies: "list[StoredPolicy]"
    guard_seen: float | None
    admitted: "Admitted"
    time: "Reading | None" = None
    store: object = None
    flush_every_s: float | None = None
    wants_candidates: bool = True


class Destination(Protocol):
    """Takes one process's rows and tells it the policies. Used by one thread at a time.

    Every method but `await_news` and `close` raises StoreError if the destination cannot be reached or used. They raise
    AskedToWaitError if it asks to wait.
    """

    @property
    def shown_url(self) -> str:
        """Its URL without secrets."""

    def read(self) -> News:
        """The policies in force, and whether a guard is there; the object of the last read if nothing has changed."""

    def await_news(self, wake: "Wake", seconds: float) -> bool:
        """Return when there may be news, when `wake` is set, or after `seconds`; returns whether `read` is due."""

    def admit(self, names: "Sequence[Name]", now: float) -> "Admitted":
        """Admit `names`, called at `now`, in their order while there is room; returns all admitted names."""

    def write_counters(self, *, buckets: "Rows", totals: "Rows", beat: "Heartbeat") -> "Rejected":
        """Store the present counters of this process; returns the buckets that are rejected for good."""

    def write_candidates(self, rows: "Rows") -> "Rejected":
        """Store answers for grading; returns those that are rejected for good."""

    def fingerprint_key(self) -> bytes:
        """The secret key of the store for fingerprints; empty if a guard of an older version gave none."""

    def ask_budgets(self, now: float, holder: str, number: int, asks: "Sequence[SliceRequest]") -> "Slices":
        """Note what this process has spent of budgets, and grant its next slices; see `store.slices.ask`."""

    def sign_off(self, process: str) -> None:
        """Mark the process as stopped, if it has written anything."""

    def close(self) -> None:
        """Close all connections; the next use opens them again."""

"""Which of several guards does which part of the work: leases, and how one guard renews, takes and gives them.

No wall clock decides. A guard takes a lease over when it has seen it unchanged for the lease's time on its own
monotonic clock. A holder that was frozen and wakes later is refused: each write transaction of its work checks the
fencing number first.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from cheapdeep_ops.errors import LeaseLostError
from cheapdeep_ops.store import leases
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.leases import LeaseState

_log: Final = logging.getLogger(__name__)
EVALUATE: Final = "evaluate"
"""The part of the work that evaluates the rules."""

STUCK_S: Final = 300.0
"""A run that has written nothing for so long is stuck: its lease is no longer renewed, so that another guard acts.

It is longer than the longest request to a grader, and than the first evaluation of a large store.
"""

_KEEP_EVERY_S: Final = (0.2, 1.0)
_KEEPS_PER_EVALUATION: Final = 5
_MARGIN_S: Final = 3.0


def keep_every_s(evaluate_every_s: float) -> float:
    """How often a guard renews its leases and looks at those of others, in seconds."""
    shortest, longest = _KEEP_EVERY_S
    return min(max(evaluate_every_s / _KEEPS_PER_EVALUATION, shortest), longest)


def lease_s(evaluate_every_s: float) -> float:
    """How long a guard must see a lease unchanged before it takes it over, in seconds.

    With two intervals of `keep_every_s` this is at most `evaluate_every_s` + 5. So the next guard evaluates within two
    evaluation intervals and 5 s after the last one was killed.
    """
    return evaluate_every_s + _MARGIN_S


@dataclass(slots=True)
class Watch:
    """What an observer has seen of a lease; times are those of its own monotonic clock."""

    state: LeaseState = field(default_factory=LeaseState)
    since: float = 0.0
    seen_at: float = float("-inf")

    def note(self, state: LeaseState, at: float, *, longest_gap_s: float) -> None:
        """Note the lease's state at `at`."""
        # An observer that was frozen, or had no store, did not see what happened meanwhile.
        if state != self.state or at - self.seen_at > longest_gap_s:
            self.since = at
        self.state, self.seen_at = state, at

    @property
    def unchanged_s(self) -> float:
        """How long the lease was seen without a change, in seconds."""
        return self.seen_at - self.since


class Lease:
    """A part of the work as this guard sees it; `store` takes writes only while this guard holds it. Thread-safe."""

    def __init__(self, name: str, *, holder: str, store: Store, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.store = store.fenced(self._fence)
        self.watch = Watch()
        self._holder = holder
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._number: int | None = None
        self._progress_at: float | None = None
        """When the run under way began, or wrote for the last time; None between runs."""

    @property
    def is_held(self) -> bool:
        """Whether this guard holds it, as far as it knows."""
        return self._number is not None

    @property
    def is_stuck(self) -> bool:
        """Whether the run under way has written nothing for too long."""
        at = self._progress_at
        return at is not None and self._monotonic() - at > STUCK_S

    @contextmanager
    def working(self) -> Iterator[bool]:
        """A run of the work; yields whether this guard may do it."""
        with self._lock:
            may_work = self.is_held
            self._progress_at = self._monotonic() if may_work else None
        try:
            yield may_work
        finally:
            self._progress_at = None

    def renew(self, connection: Connection) -> bool:
        """Renew it in a write transaction; False if another guard has taken it."""
        number = self._number
        return number is not None and leases.renew(connection, self.name, holder=self._holder, number=number)

    def take(self, connection: Connection) -> int | None:
        """Take it in a write transaction, if it is as it was last seen; returns its fencing number."""
        return leases.take(connection, self.name, holder=self._holder, seen=self.watch.state)

    def free(self, connection: Connection, number: int) -> None:
        """Release it in a write transaction, if `number` is still its fencing number."""
        leases.release(connection, self.name, holder=self._holder, number=number)

    def hold(self, number: int) -> None:
        """Note that this guard holds it."""
        self._number = number

    def give_up(self, *, between_runs: bool = False) -> int | None:
        """Note that this guard does not hold it; returns its fencing number, None if it did not hold it.

        With `between_runs`, it is kept during a run, and the result is None.
        """
        with self._lock:
            if between_runs and self._progress_at is not None:
                return None
            number, self._number = self._number, None
            return number

    def lose(self) -> None:
        """Note that another guard has taken it."""
        if self.give_up() is not None:
            _log.info("another guard has taken over this work: %s", self.name)

    def _fence(self, connection: Connection) -> None:
        if not self.renew(connection):
            raise LeaseLostError(f"another guard has taken over this work: {self.name}")
        if self._progress_at is not None:
            self._progress_at = self._monotonic()


class Leases:
    """The leases of all parts of the work; `names` begins with the part that a guard gives away first.

    A guard that has none gets one from a guard that has several. `monotonic` is a clock that never steps.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        *,
        holder: str,
        evaluate_every_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._holder = holder
        self._monotonic = monotonic
        self._every_s, self.lasts_s = keep_every_s(evaluate_every_s), lease_s(evaluate_every_s)
        self._all = {name: Lease(name, holder=holder, store=store, monotonic=monotonic) for name in names}
        self._turn = threading.Lock()
        self._kept_at = float("-inf")
        self._is_closed = False

    def __getitem__(self, name: str) -> Lease:
        return self._all[name]

    @property
    def is_due(self) -> bool:
        """Whether the time has come to keep them again."""
        return self._monotonic() - self._kept_at >= self._every_s

    def keep(self, *, guards: Callable[[Connection], Collection[str]], beat: Callable[[Connection], None]) -> set[str]:
        """Renew the leases that are held, take those that are free or abandoned; returns the names of those taken now.

        `guards` reads the guards that run; `beat` writes this guard's heartbeat. Raises StoreError.
        """
        with self._turn:
            with self._store.reading() as connection:
                states, running = leases.states(connection), guards(connection)
            at = self._kept_at = self._monotonic()
            for lease in self._all.values():
                lease.watch.note(states.get(lease.name, LeaseState()), at, longest_gap_s=self.lasts_s)
            if self._is_closed:
                return set()
            wants_work = bool(set(running) - {self._holder} - {each.holder for each in states.values()})
            return self._write(wants_work=wants_work, beat=beat)

    def _write(self, *, wants_work: bool, beat: Callable[[Connection], None]) -> set[str]:
        """Store what was decided; `wants_work` is whether another guard has no lease."""
        given = self._give() if wants_work else None
        held = [lease for lease in self._all.values() if lease.is_held and not lease.is_stuck]
        # A guard that has work leaves a free lease to one that has none, for the lease's time.
        is_modest = wants_work and bool(held)
        wanted = [
            lease
            for lease in self._all.values()
            if not lease.is_held and not (given and lease is given[0]) and self._may_take(lease, is_modest=is_modest)
        ]

        def work(connection: Connection) -> tuple[list[Lease], Mapping[str, int | None]]:
            lost = [lease for lease in held if not lease.renew(connection)]
            if given is not None:
                given[0].free(connection, given[1])
            taken = {lease.name: lease.take(connection) for lease in wanted}
            beat(connection)
            return lost, taken

        lost, taken = self._store.transact(work)
        for lease in lost:
            lease.lose()
        numbers = {name: number for name, number in taken.items() if number is not None}
        for name, number in numbers.items():
            self._all[name].hold(number)
        if numbers:
            _log.info("this guard now does: %s", ", ".join(sorted(numbers)))
        return set(numbers)

    def _give(self) -> tuple[Lease, int] | None:
        """The first lease that this guard can spare, with its number; this guard no longer holds it."""
        held = [lease for lease in self._all.values() if lease.is_held]
        for lease in held[:-1]:
            number = lease.give_up(between_runs=True)
            if number is not None:
                return lease, number
        return None

    def _may_take(self, lease: Lease, *, is_modest: bool) -> bool:
        return lease.watch.unchanged_s >= self.lasts_s or (lease.watch.state.is_free and not is_modest)

    def give_up(self) -> Callable[[Connection], None]:
        """Note that this guard holds no lease, and takes none; returns what releases them in a write transaction."""
        self._is_closed = True
        given = [(lease, number) for lease in self._all.values() if (number := lease.give_up()) is not None]

        def release(connection: Connection) -> None:
            for lease, number in given:
                lease.free(connection, number)

        return release

"""The counters of one process for each second, until the store has them."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from cheapdeep_ops.recorder.tally import Tally, increments_of
from cheapdeep_ops.values import Decision, Name

_WIDTHS_S: Final = (60, 3_600, 86_400, 2**40)
"""The periods of which a full buffer keeps one row for each route and input class, one after another."""

_ROOMY: Final = 0.75
"""The share of the capacity down to which a full buffer is reduced, so that it is not full again at once."""

_Key = TypeVar("_Key", bound=Hashable)
Second = tuple[str, str, int]
"""The key of a bucket: route, input class, and the second (Unix time)."""


def _tally_of(tallies: dict[_Key, Tally], key: _Key) -> Tally:
    """The tally under `key`, which is made if there is none."""
    tally = tallies.get(key)
    if tally is None:
        tally = tallies[key] = Tally()
    return tally


class RowBatch(NamedTuple):
    """What one transaction stores: the rows of these seconds, and of these totals (route, input class)."""

    seconds: list[Second]
    totals: list[tuple[str, str]]


class Unsent(NamedTuple):
    """Counters that the store has not seen, and those of names that wait for admission."""

    seconds: Mapping[Second, Tally]
    undecided: Mapping[Second, Tally]


class CounterBuffer:
    """One process's counters: the seconds that are open or unsaved, and the totals of all that were sent.

    A row holds the present counts of its second, and replaces the stored row as a whole. So a count may move from one
    row to another only while the store has neither of them. This is the invariant of `coarsen`:

    - `_sent` has every second whose row the store has or may have, because a transaction with it was begun.
    - `coarsen` moves counts between seconds that are not in `_sent`.
    - A second is added to `_sent` before its row leaves the buffer, and leaves `_sent` only when it is closed. A closed
      second never gets counts again.
    - `_totals` has the counts of all seconds that are, or were, in `_sent`. So what `give_unsent` gives away is in no
      total that the store may have.

    A transaction that failed may have been committed, if only its answer was lost. Its seconds are in doubt: nothing
    else is sent until they are stored. So an outage adds at most one batch to `_sent`, and all later seconds can become
    minutes.

    Not thread-safe: the owner holds a lock.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._closed_before = 0
        self._buckets: dict[Second, Tally] = {}
        self._totals: dict[tuple[str, str], Tally] = {}
        self._undecided: dict[Second, Tally] = {}
        """The counters of names that the store has neither admitted nor refused: no row of them is written."""
        self._unsaved: set[Second] = set()
        self._sent: set[Second] = set()
        self._in_doubt: set[Second] = set()
        self._absent_totals: set[tuple[str, str]] = set()
        self._full_at: int | None = None

    def add(self, decision: Decision, name: Name, *, at: int, is_decided: bool = True) -> bool:
        """Count a decision under `name` in the second `at`, or in the first open one; False if the buffer is full.

        With `is_decided` off, it waits for `settle`.
        """
        # A clock that was set back must not reopen a second that is stored and deleted: its row would be replaced.
        key = (*name, max(at, self._closed_before))
        tallies = self._buckets if is_decided else self._undecided
        if key not in tallies and self._size >= self._capacity and not self._make_room(key[2]):
            return False
        increments = increments_of(decision)
        _tally_of(tallies, key).apply(increments)
        if is_decided:
            if key in self._sent:
                _tally_of(self._totals, key[:2]).apply(increments)
            self._unsaved.add(key)
        return True

    @property
    def undecided(self) -> Counter[Name]:
        """The calls of the names that wait for `settle`."""
        calls: Counter[Name] = Counter()
        for (route, input_class, _), tally in self._undecided.items():
            calls[Name(route, input_class)] += tally.calls
        return calls

    def settle(self, counted: Callable[[Name], Name]) -> None:
        """Count all that waits under the names that `counted` gives."""
        # Whole tallies are added to rows that are replaced whole, so all sums stay exact.
        for (route, input_class, at), tally in self._undecided.items():
            key = (*counted(Name(route, input_class)), at)
            _tally_of(self._buckets, key).merge(tally)
            if key in self._sent:
                _tally_of(self._totals, key[:2]).merge(tally)
            self._unsaved.add(key)
        self._undecided.clear()

    @property
    def is_dirty(self) -> bool:
        """Whether any counters are not stored yet."""
        return bool(self.has_rows or self._undecided)

    @property
    def has_rows(self) -> bool:
        """Whether any row waits to be stored."""
        return bool(self._unsaved or self._absent_totals)

    @property
    def closed_before(self) -> int:
        """The lowest second that may still change, or that is not stored yet (Unix time)."""
        return min((self._closed_before, *(second for _, _, second in (*self._unsaved, *self._undecided))))

    @property
    def unsaved_calls(self) -> int:
        """The number of calls whose counters are not stored yet, or were not stored since they changed."""
        waiting = [*(self._buckets[key] for key in self._unsaved), *self._undecided.values()]
        return sum(tally.calls for tally in waiting)

    def next_batch(self, most: int) -> RowBatch:
        """What to store next, at most `most` seconds: what is in doubt, else the oldest. Both empty: all is stored."""
        waiting = self._in_doubt or self._unsaved
        seconds = sorted(waiting, key=lambda key: (key[2], key))[:most]
        absent = sorted(self._absent_totals)[:most]
        self._send(seconds)
        self._in_doubt.update(seconds)
        return RowBatch(seconds, list(dict.fromkeys([*(key[:2] for key in seconds), *absent])))

    def everything(self) -> RowBatch:
        """All that is not stored yet; it counts as sent."""
        seconds = sorted(self._unsaved)
        self._send(seconds)
        return RowBatch(seconds, list(dict.fromkeys([*(key[:2] for key in seconds), *sorted(self._absent_totals)])))

    def _send(self, seconds: Sequence[Second]) -> None:
        """Add seconds to those that were sent, and to the totals."""
        for key in seconds:
            if key not in self._sent:
                self._sent.add(key)
                _tally_of(self._totals, key[:2]).merge(self._buckets[key])

    def rows(self, batch: RowBatch, process: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """The buckets and totals of a batch, as rows of `process`."""
        buckets = [
            {"route": key[0], "input_class": key[1], "at": key[2], "process": process, **self._buckets[key].row()}
            for key in batch.seconds
        ]
        totals = [
            {"route": route, "input_class": name, "process": process, **self._totals[route, name].row()}
            for route, name in batch.totals
        ]
        return buckets, totals

    def give_unsent(self) -> Unsent:
        """Give away all that the store has not seen."""
        seconds = {key: self._buckets.pop(key) for key in self._unsaved - self._sent}
        self._unsaved.difference_update(seconds)
        undecided, self._undecided = self._undecided, {}
        return Unsent(seconds, undecided)

    def take(self, unsent: Unsent) -> None:
        """Take over what another buffer gave away; this one is new."""
        self._undecided.update(unsent.undecided)
        self._buckets.update(unsent.seconds)
        self._unsaved.update(unsent.seconds)

    def is_ahead_of(self, now: int) -> bool:
        """Whether seconds after `now` are closed already, which means that the clock was set back."""
        return self._closed_before > now

    def saved(self, batch: RowBatch) -> None:
        """Mark a batch as stored."""
        self._unsaved.difference_update(batch.seconds)
        self._in_doubt.difference_update(batch.seconds)
        self._absent_totals.difference_update(batch.totals)

    def discard(self, seconds: Sequence[Second]) -> int:
        """Remove the seconds that the store rejected, also from their totals; returns the number of lost calls."""
        lost = 0
        for kept in (self._unsaved, self._in_doubt):
            kept.difference_update(seconds)
        for key in seconds:
            tally = self._buckets.pop(key)
            total = self._totals[key[:2]]
            total.subtract(tally)
            if not total.calls:
                del self._totals[key[:2]]
                self._absent_totals.discard(key[:2])
            lost += tally.calls
        return lost

    def close(self, *, before: int) -> None:
        """Close all seconds before `before`, and delete the stored ones among them."""
        self._closed_before = max(self._closed_before, before)
        for key in [key for key in self._buckets if key[2] < self._closed_before and key not in self._unsaved]:
            del self._buckets[key]
        self._sent.intersection_update(self._buckets)
        self._full_at = None

    def coarsen(self, *, before: int, width: int) -> None:
        """Add up the unsent seconds before `before`, for each route, input class and period of `width` seconds.

        The sum is in the first of these seconds, so that no row appears before the seconds that are closed.
        """
        firsts: dict[tuple[str, str, int], Second] = {}
        for key in sorted(self._unsaved - self._sent):
            if key[2] >= before:
                continue
            first = firsts.setdefault((key[0], key[1], key[2] // width), key)
            if first is not key:
                self._buckets[first].merge(self._buckets.pop(key))
                self._unsaved.remove(key)
        # No row of an undecided name was ever sent.
        firsts.clear()
        for key in sorted(key for key in self._undecided if key[2] < before):
            first = firsts.setdefault((key[0], key[1], key[2] // width), key)
            if first is not key:
                self._undecided[first].merge(self._undecided.pop(key))

    def store_lost(self) -> None:
        """Mark all that is known as unsaved, because the store was made anew."""
        # The seconds stay sent: a store that was restored from a backup may have their rows.
        self._unsaved.update(self._buckets)
        self._absent_totals.update(self._totals)

    def _make_room(self, at: int) -> bool:
        """Whether there is room for another second, after a part of the waiting ones was added up."""
        # At most once a second: where all widths free nothing, the next call would fail as well.
        if self._full_at == at:
            return False
        self._full_at = at
        for width in _WIDTHS_S:
            self.coarsen(before=sys.maxsize, width=width)
            if self._size <= self._capacity * _ROOMY:
                self._full_at = None
                return True
        return self._size < self._capacity

    @property
    def _size(self) -> int:
        return len(self._buckets) + len(self._undecided)

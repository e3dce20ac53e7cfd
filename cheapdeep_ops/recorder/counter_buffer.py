"""Adds decisions to counters, one set of counters for each second."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from cheapdeep_ops.histogram import duration_bin
from cheapdeep_ops.model_names import model_name
from cheapdeep_ops.recorder.answer_lengths import answer_lengths
from cheapdeep_ops.units import NUSD_PER_USD
from cheapdeep_ops.values import COUNTERS, OTHER, Counters, Decision, Hop, Name, Outcome

_MOST: Final[Mapping[str, int]] = {"models": 50, "origins": 50, "base_origins": 0, "triage_errors": 20}
"""The largest number of names in one mapping: callers choose them, and a row must stay bounded."""

_LONGEST_MODEL: Final = 100

_WIDTHS_S: Final = (60, 3_600, 86_400, 2**40)
"""The periods of which a full buffer keeps one row for each route and input class, one after another."""

_ROOMY: Final = 0.75
"""The share of the capacity down to which a full buffer is reduced, so that it is not full again at once."""

_Key = TypeVar("_Key", bound=Hashable)
Second = tuple[str, str, int]
"""The key of a bucket: route, input class, and the second (Unix time)."""


class Increments(NamedTuple):
    """What one decision adds to counters: amounts by counter, and one for each (mapping, name) of `names`."""

    amounts: dict[str, int]
    names: list[tuple[str, str]]


class Tally(Counters):
    """Counters of some decisions; `add` counts one more."""

    __slots__ = ()

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.apply(increments_of(decision))

    def apply(self, increments: Increments) -> None:
        """Add what one decision adds."""
        for counter, amount in increments.amounts.items():
            if amount:
                setattr(self, counter, getattr(self, counter) + amount)
        for mapping, name in increments.names:
            self._count(mapping, name, 1)

    def merge(self, other: Counters) -> None:
        """Add the counters of other decisions."""
        for name in COUNTERS:
            counted = getattr(other, name)
            if isinstance(counted, int):
                setattr(self, name, getattr(self, name) + counted)
            else:
                for each, count in counted.items():
                    self._count(name, each, count)

    def subtract(self, part: Counters) -> None:
        """Take away the counters of decisions that were counted here."""
        for name in COUNTERS:
            counted = getattr(part, name)
            if isinstance(counted, int):
                setattr(self, name, getattr(self, name) - counted)
            else:
                for each, count in counted.items():
                    self._uncount(name, each, count)

    def _uncount(self, mapping: str, name: str, count: int) -> None:
        """Take away from one name of a mapping; from `other` what was counted there because the mapping was full."""
        counts = getattr(self, mapping)
        own = min(count, counts.get(name, 0))
        for each, amount in ((name, own), (OTHER, count - own)):
            left = counts.pop(each, 0) - amount
            if left > 0:
                counts[each] = left

    def _count(self, mapping: str, name: str, count: int) -> None:
        """Add to one name of a mapping, or to `other` if the mapping is full."""
        counts = getattr(self, mapping)
        # Origins are counted first. Base origins keep to their names, because a rate needs one name in both.
        known = self.origins if mapping == "base_origins" else counts
        has_room = name in known or len(known) < _MOST.get(mapping, sys.maxsize)
        counted = name if has_room else OTHER
        counts[counted] = counts.get(counted, 0) + count


def increments_of(decision: Decision) -> Increments:
    """What `decision` adds to the counters of its second, and to those of its process."""
    triaged, escalates = decision.triaged, decision.base_outcome is Outcome.ESCALATE
    amounts = {
        "calls": 1,
        "triaged": triaged,
        "shipped": decision.shipped,
        "escalated": triaged and decision.escalated,
        "base_escalated": escalates,
        "later_answers": escalates and decision.candidate is not None,
        "withheld": decision.withheld,
        # In shadow mode, a bypassed call may be triaged too.
        "bypassed": decision.bypass_cause is not None and not triaged,
        "errors": bool(decision.error),
        "fallbacks": decision.is_fallback,
        "replays_rejected": decision.is_replay_rejected,
    }
    names = _labels(decision)
    _add_costs(amounts, decision)
    if decision.is_shadow:
        _add_shadow(amounts, decision)
    for hop in decision.hops:
        _add_hop(amounts, names, hop, triaged=triaged)
    if triaged:
        amounts.update(answer_lengths(decision))
    return Increments(amounts, names)


def _add_costs(amounts: dict[str, int], decision: Decision) -> None:
    """Add the cost and the baseline cost of the call; if either is unknown, count the call as unpriced."""
    # Cost and baseline are compared, so they must be sums over one set of calls.
    if decision.cost_usd is None or decision.baseline_cost_usd is None:
        amounts["unpriced"] = 1
        amounts["unpriced_triaged"] = amounts["triaged"]
        amounts["unpriced_deep"] = amounts["bypassed"] or amounts["escalated"]
        return
    amounts["cost_nusd"] = round(decision.cost_usd * NUSD_PER_USD)
    amounts["triage_cost_nusd"] = round((decision.triage_cost_usd or 0.0) * NUSD_PER_USD)
    amounts["baseline_nusd"] = round(decision.baseline_cost_usd * NUSD_PER_USD)
    amounts["cold_cache_nusd"] = round(decision.cold_cache_usd * NUSD_PER_USD)


def _add_shadow(amounts: dict[str, int], decision: Decision) -> None:
    """Add the estimated cost of a shadow call if it had been routed, and its baseline, if both are known."""
    amounts["shadowed"] = 1
    routed, baseline = decision.routed_cost_usd, decision.baseline_cost_usd
    if routed is None or baseline is None:
        amounts["unpriced_shadowed"] = 1
        return
    amounts["shadow_cost_nusd"] = round(routed * NUSD_PER_USD)
    amounts["shadow_baseline_nusd"] = round(baseline * NUSD_PER_USD)


def _add_hop(amounts: dict[str, int], names: list[tuple[str, str]], hop: Hop, *, triaged: bool) -> None:
    """Add the tokens of a reply, and the failure or fault of a triage reply."""
    usage = hop.usage
    if usage is not None and hop.tier.is_deep:
        _add(amounts, "deep_replies", 1)
        _add(amounts, "deep_input_tokens", usage.total_input_tokens)
        _add(amounts, "deep_cache_read_tokens", usage.cache_read_tokens)
    if not triaged:
        return
    if usage is not None and hop.verdict is not None:
        _add(amounts, "triage_replies", 1)
        _add(amounts, "triage_input_tokens", usage.total_input_tokens)
        _add(amounts, "triage_output_tokens", usage.output_tokens)
        _add(amounts, "triage_cache_read_tokens", usage.cache_read_tokens)
    if hop.error and not hop.tier.is_deep:
        names.append(("triage_errors", hop.error))
    if hop.malformed_cause is not None:
        names.append(("malformed_causes", hop.malformed_cause.value))


def _add(amounts: dict[str, int], counter: str, amount: int) -> None:
    amounts[counter] = amounts.get(counter, 0) + amount


def _labels(decision: Decision) -> list[tuple[str, str]]:
    triaged = decision.triaged
    names = [("models", model_name(decision.model).name)]
    if decision.reason is not None:
        names.append(("reasons", decision.reason.value))
    if decision.base_reason is not None:
        names.append(("base_reasons", decision.base_reason.value))
    if decision.bypass_cause is not None and not triaged:
        names.append(("bypass_causes", decision.bypass_cause.value))
    # The first tier's, as `base_escalated`: together they show what another threshold would have done.
    confidence = decision.first_confidence
    if confidence is not None:
        names.append(("confidence", confidence_bin(confidence)))
    if triaged:
        origin = origin_of(decision)
        names.append(("origins", origin))
        if decision.base_outcome is Outcome.ESCALATE:
            names.append(("base_origins", origin))
        # In shadow mode triage runs beside the deep call, so it adds no latency.
        if decision.escalated and not decision.is_shadow:
            names.append(("added_latency", duration_bin(decision.triage_duration_s)))
    return names


def origin_of(decision: Decision) -> str:
    """The origin of a triaged call: `model|prompt version|policy version` of the first tier; split it from the right.

    The model's name is shortened and printable.
    """
    # The configured name, because a failed call has no reply with a snapshot's name: one model would appear as two.
    model = decision.hops[0].tier.model if decision.hops else decision.model
    return f"{_printable(model_name(model).name)}|{decision.prompt_version.replace('|', '?')}|{decision.policy_version}"


@lru_cache(maxsize=128)  # a service uses few models, and the bound limits the memory for odd names
def _printable(model: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in model[:_LONGEST_MODEL])


def confidence_bin(confidence: float) -> str:
    """A confidence in hundredths, rounded down, as the name of its bin: "80" for 0.8, "79" for 0.7999."""
    # Floating point puts 0.29 slightly below 29 hundredths, so values within 1e-9 of a hundredth belong to it.
    return str(int(confidence * 100 + 1e-7))


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
    """One process's counters: the seconds that are open or unsaved, and the totals since the process began.

    A row holds the present counts of its second, and replaces the stored row as a whole. So a count may move from one
    row to another only while the store has neither of them. This is the invariant of `coarsen`:

    - `_sent` has every second whose row the store has or may have, because a transaction with it was begun.
    - `coarsen` moves counts between seconds that are not in `_sent`.
    - A second is added to `_sent` before its row leaves the buffer, and leaves `_sent` only when it is closed. A closed
      second never gets counts again.

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
        self._sent.update(seconds)
        self._in_doubt.update(seconds)
        return RowBatch(seconds, list(dict.fromkeys([*(key[:2] for key in seconds), *absent])))

    def everything(self) -> RowBatch:
        """All that is not stored yet."""
        seconds = sorted(self._unsaved)
        return RowBatch(seconds, list(dict.fromkeys([*(key[:2] for key in seconds), *sorted(self._absent_totals)])))

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
        for key, tally in seconds.items():
            self._uncount(key[:2], tally)
        # A batch before may have stored totals with these counts.
        self._absent_totals.update({key[:2] for key in seconds} & self._totals.keys())
        undecided, self._undecided = self._undecided, {}
        return Unsent(seconds, undecided)

    def take(self, unsent: Unsent) -> None:
        """Take over what another buffer gave away; this one is new."""
        self._undecided.update(unsent.undecided)
        self._buckets.update(unsent.seconds)
        self._unsaved.update(unsent.seconds)
        for key, tally in unsent.seconds.items():
            _tally_of(self._totals, key[:2]).merge(tally)

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
            self._uncount(key[:2], tally)
            lost += tally.calls
        return lost

    def _uncount(self, name: tuple[str, str], tally: Tally) -> None:
        """Take away from a total, which is removed once it has no calls."""
        total = self._totals[name]
        total.subtract(tally)
        if not total.calls:
            del self._totals[name]
            self._absent_totals.discard(name)

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

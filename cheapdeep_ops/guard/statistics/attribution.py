"""What a rise is made of, of escalation or of wrong answers: which class, route, model or prompt, from counts alone.

After Adtributor (Bhagwan et al., NSDI 2014, https://www.usenix.org/conference/nsdi14/technical-sessions/presentation/bhagwan):
an element is to blame by its *explanatory power*, the share of the rise that it contributes, and by its *surprise*, the
Jensen-Shannon distance of that share from the one it would have if everything had got worse alike. Of the dimensions
that explain the rise with few elements, the one with the most surprise is named. An element is named only where that
it contributes more than its fair share is no chance: of fifty grades, one class or another always seems to stand out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from cheapdeep_ops.guard.report_types.units import ShareFacts
from cheapdeep_ops.guard.statistics.intervals import Estimate, Proportion, difference

MIN_CALLS: Final = 30
"""Triaged calls or grades, now and before, below which nothing is said."""

_CONFIDENCE: Final = 0.95  # that there is a rise at all: the shares of what is only noise mean nothing
_MIN_SHARE: Final = 0.1  # Adtributor's T_EEP: what contributes less is noise
_ENOUGH: Final = 0.67  # Adtributor's T_EP: what a dimension must explain to be an explanation
_MOST_ELEMENTS: Final = 3
_PER_ELEMENT: Final = 0.6  # each further element makes an explanation so much worse: succinctness
_SURPRISING: Final = 0.01  # a half of all calls that makes the whole rise has 0.04, and 70% of them 0.013
_ALIKE: Final = 0.95  # explanations this close say the same of the same calls
_SURE: Final = 2.33  # standard errors above the fair share: one-sided 1%
_FEWEST_HITS: Final = 5  # of an element that is named: below, a standard error is no measure
_Z95: Final = 1.96
_UNNAMED: Final = 0.1


_NOTHING: Final = Proportion(hits=0, n=0)


class Dimension(StrEnum):
    """What calls can be told apart by; where two explain equally well, the earlier one is named."""

    INPUT_CLASS = "input class"
    ROUTE = "route"
    MODEL = "model"
    PROMPT_VERSION = "prompt version"
    POLICY_VERSION = "policy version"
    CONFIDENCE = "confidence band"
    REASON = "reason"


_VERSIONS: Final = {Dimension.MODEL, Dimension.PROMPT_VERSION, Dimension.POLICY_VERSION}


class Kind(StrEnum):
    """How a rate rose."""

    MIX = "mix changed"
    WORSE = "got worse"
    ALL = "everything got worse"
    UNCLEAR = "no part stands out"
    UNKNOWN = "unknown"


class Share(Protocol):
    """Hits among calls: counted (a Proportion), or estimated from a sample (an Estimate)."""

    @property
    def hits(self) -> float:
        """Of `n`."""

    @property
    def n(self) -> float:
        """Calls; of an estimate, those that it is worth."""

    @property
    def count(self) -> int:
        """What was counted, unweighted."""

    @property
    def rate(self) -> float | None:
        """None where nothing is known."""

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Where the rate may lie."""


Counts = Mapping[str, Share]
"""Escalated of triaged calls, or wrong of confident answers, by element; of a reason, `n` is all triaged calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeAfter:
    """One dimension's counts, now and before."""

    before: Counts
    now: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one element contributes to a rise.

    `mix` is what its changed share of the calls adds to the rate, at the rate it had before; `worse` is what its
    changed rate adds. `share` is both of them as a share of the whole rise: the shares of a dimension add up to 1, and
    single ones can be negative or above 1. `low` and `high` are its 95% interval. `fair` is the share that it would
    have if all had got worse alike, and `is_sure` that `share` is above that by no chance. `before.rate` is None for an
    element that was not there.
    """

    dimension: Dimension
    element: str
    before: Share
    now: Share
    traffic_before: float
    traffic_now: float
    mix: float
    worse: float
    fair: float
    share: float
    low: float
    high: float
    is_sure: bool
    surprise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What a rise is made of: the culprits, most telling first, each dimension's after the one that is named.

    `alike` are elements of other dimensions that stand for the same calls. `mix` and `worse` add up to the rise.
    `counted` says what is counted: calls, or grades.
    """

    kind: Kind
    before: Share
    now: Share
    mix: float = 0.0
    worse: float = 0.0
    culprits: tuple[Contribution, ...] = ()
    alike: tuple[Contribution, ...] = ()
    also: tuple[Contribution, ...] = ()
    why: str = ""
    counted: str = "calls"


def cause_of(
    before: Share,
    now: Share,
    sides: Mapping[Dimension, BeforeAfter],
    *,
    counted: str = "calls",
    fewest: int = MIN_CALLS,
) -> Cause:
    """What the rise of a rate from `before` to `now` is made of.

    Unknown where there are fewer than `fewest` now or MIN_CALLS before, or where nothing rose.
    """
    why = _unknown(before, now, counted, fewest)
    if why:
        return Cause(kind=Kind.UNKNOWN, before=before, now=now, why=why, counted=counted)
    parts = {dimension: parts_of(dimension, sides[dimension]) for dimension in Dimension if dimension in sides}
    found = {dimension: explanation(of_dimension) for dimension, of_dimension in parts.items()}
    ranked = _ranked(found)
    named = ranked[0] if ranked else ()
    everywhere = next((of for name, of in parts.items() if name is not Dimension.REASON), [])
    split = parts[named[0].dimension] if named else everywhere
    mix, worse = sum(part.mix for part in split), sum(part.worse for part in split)
    return Cause(
        kind=_kind(named, parts.values()),
        before=before,
        now=now,
        mix=mix,
        worse=worse,
        culprits=named,
        alike=tuple(other[0] for other in ranked[1:] if _is_alike(named, other)),
        also=tuple(part for other in ranked[1:] if not _is_alike(named, other) for part in other),
        counted=counted,
    )


def _unknown(before: Share, now: Share, counted: str, fewest: int) -> str:
    if now.count < fewest:
        return f"only {now.count} {counted} now"
    if before.count < MIN_CALLS:
        return f"only {before.count} {counted} before to compare with"
    if _rate(now) <= _rate(before):
        return "the rate is no higher than before"
    later, earlier = (Estimate(rate=_rate(each), n=each.n, count=each.count) for each in (now, before))
    return "" if difference(later, earlier, _CONFIDENCE)[0] > 0 else "the rate may be no higher than before"


def _kind(named: Sequence[Contribution], of_all: Iterable[Sequence[Contribution]]) -> Kind:
    if not named:
        return Kind.UNCLEAR if any(explanation(parts, even_unsure=True) for parts in of_all) else Kind.ALL
    return Kind.MIX if sum(part.mix for part in named) > sum(part.worse for part in named) else Kind.WORSE


def parts_of(dimension: Dimension, sides: BeforeAfter) -> list[Contribution]:
    """What each element of one dimension contributes to a rise, largest surprise first; empty where nothing changed.

    The split is that of Oaxaca (1973), Int. Econ. Rev. 14, 693 (see Kitagawa 1955, J. Am. Stat. Assoc. 50, 1168):
    shares moved, with the rates as before and measured against the whole's, and rates moved, with the shares as now. An
    input class or route that was not there has no earlier rate, so all it adds is mix; a new version takes calls over
    from another one, so it is measured against the whole's rate before. A reason has no calls of its own, so all is
    rate.
    """
    elements = sorted(set(sides.before) | set(sides.now))
    change = _rate(_whole(dimension, sides.now)) - _rate(_whole(dimension, sides.before))
    if change == 0:
        return []
    parts = [_part(dimension, element, sides, change) for element in elements]
    return sorted(parts, key=lambda part: (-part.surprise, part.element))


def _part(dimension: Dimension, element: str, sides: BeforeAfter, change: float) -> Contribution:
    before, now = (side.get(element, _NOTHING) for side in (sides.before, sides.now))
    whole_before, whole_now = _whole(dimension, sides.before), _whole(dimension, sides.now)
    traffic_before, traffic_now = _ratio(before.n, whole_before.n), _ratio(now.n, whole_now.n)
    fair = traffic_before
    if dimension is Dimension.REASON:
        mix, worse = 0.0, _ratio(now.hits, whole_now.n) - _ratio(before.hits, whole_before.n)
        fair = _ratio(before.hits, whole_before.hits)
    else:
        as_before = _rate_before(dimension, before, now, _rate(whole_before))
        mix = (traffic_now - traffic_before) * (as_before - _rate(whole_before))
        worse = traffic_now * (_rate(now) - as_before)
    share = (mix + worse) / change
    error = _error(dimension, (before, whole_before), (now, whole_now), share) / abs(change)
    unfair = _error(dimension, (before, whole_before), (now, whole_now), fair) / abs(change)
    is_sure = share - fair > _SURE * unfair and round(_rate(now) * now.count) >= _FEWEST_HITS
    return Contribution(
        dimension=dimension, element=element, before=before, now=now, traffic_before=traffic_before,
        traffic_now=traffic_now, mix=mix, worse=worse, fair=fair, share=share, low=share - _Z95 * error,
        high=share + _Z95 * error, is_sure=is_sure, surprise=surprise(fair, share),
    )  # fmt: skip


def _error(dimension: Dimension, before: tuple[Share, Share], now: tuple[Share, Share], share: float) -> float:
    """The standard error of what an element adds to a rise beyond `share` of it; each side is (element, whole).

    What it adds is a difference of two means: of (whether a call is of it, less `share`) times (whether it is a hit,
    less the rate before), now and before. That rate is itself of the calls before, hence their other share. A reason
    has no calls of its own but its hits, and is measured against nothing.
    """
    if dimension is Dimension.REASON:
        sides = [(Proportion(hits=int(part.hits), n=int(part.hits)), whole, share) for part, whole in (before, now)]
        return math.sqrt(sum(_variance(part, whole, own, 0.0) for part, whole, own in sides))
    rate = _rate(before[1])
    moved = _ratio(now[0].n, now[1].n) - _ratio(before[0].n, before[1].n)
    return math.sqrt(_variance(*now, share, rate) + _variance(*before, share - moved, rate))


def _variance(part: Share, whole: Share, share: float, rate: float) -> float:
    """The variance of such a mean; a half more in each of the four cells, so that few calls are never certain."""
    others = whole.n - part.n
    cells = (
        ((1 - share) * (1 - rate), part.hits), ((share - 1) * rate, part.n - part.hits),
        (share * (rate - 1), whole.hits - part.hits), (share * rate, others - whole.hits + part.hits),
    )  # fmt: skip
    counts = [(value, max(count, 0.0) + 0.5) for value, count in cells]
    total = sum(count for _, count in counts)
    mean = sum(value * count for value, count in counts) / total
    return sum((value - mean) ** 2 * count for value, count in counts) / total**2


def _rate_before(dimension: Dimension, before: Share, now: Share, whole: float) -> float:
    if before.rate is not None:
        return before.rate
    return whole if dimension in _VERSIONS else _rate(now)


def surprise(fair: float, share: float) -> float:
    """One element's part of the Jensen-Shannon divergence, in nats, of the shares of a rise from the fair ones.

    Both are cut to [0, 1]. 0 where they are the same, at most ln(2) / 2.
    Source: Lin (1991), IEEE Trans. Inf. Theory 37, 145; its use per element is Adtributor's.
    """
    p, q = min(max(fair, 0.0), 1.0), min(max(share, 0.0), 1.0)
    return max(0.5 * sum(each * math.log(2 * each / (p + q)) for each in (p, q) if each > 0), 0.0)


def explanation(parts: Sequence[Contribution], *, even_unsure: bool = False) -> tuple[Contribution, ...]:
    """The few elements that make most of a rise, each surely more than its fair share; empty where no few do.

    Calls without a name (of no input class, of an unknown version) count, and are never to blame.
    """
    chosen: list[Contribution] = []
    for part in parts:
        if _is_suspect(part) and (part.is_sure or even_unsure):
            chosen.append(part)
        if sum(each.share for each in chosen) >= _ENOUGH:
            return tuple(chosen) if _score(chosen) >= _SURPRISING else ()
        if len(chosen) == _MOST_ELEMENTS:
            return ()
    return ()


def _is_suspect(part: Contribution) -> bool:
    return bool(part.element) and part.surprise > 0 and part.share >= max(_MIN_SHARE, part.fair)


def _is_of_calls(part: Contribution) -> bool:
    return part.dimension is not Dimension.REASON


def _score(parts: Sequence[Contribution]) -> float:
    """How good an explanation is: surprising, short, and of all of the rise."""
    explained = min(sum(part.share for part in parts), 1.0)
    return float(sum(part.surprise for part in parts) * explained * _PER_ELEMENT ** (len(parts) - 1))


def _ranked(found: Mapping[Dimension, tuple[Contribution, ...]]) -> list[tuple[Contribution, ...]]:
    """The explanations, best first; a reason tells how calls fail and not which, so it comes last."""
    known = [parts for parts in found.values() if parts]
    best = max((_score(parts) for parts in known if _is_of_calls(parts[0])), default=0.0)
    order = list(Dimension)

    def rank(parts: tuple[Contribution, ...]) -> tuple[Any, ...]:
        score = _score(parts)
        is_best = score >= best * _ALIKE
        return (not _is_of_calls(parts[0]), not is_best, 0.0 if is_best else -score, order.index(parts[0].dimension))

    return sorted(known, key=rank)


def _is_alike(named: Sequence[Contribution], other: Sequence[Contribution]) -> bool:
    """Whether both stand for the same calls."""
    if len(named) != 1 or len(other) != 1 or not (_is_of_calls(named[0]) and _is_of_calls(other[0])):
        return False
    return (named[0].before, named[0].now) == (other[0].before, other[0].now)


def _whole(dimension: Dimension, side: Counts) -> Share:
    shares = list(side.values())
    hits = sum(each.hits for each in shares)
    n = max((each.n for each in shares), default=0) if dimension is Dimension.REASON else sum(each.n for each in shares)
    return Estimate(rate=hits / n, n=n, count=sum(each.count for each in shares)) if n else _NOTHING


def _rate(share: Share) -> float:
    return share.rate or 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def is_named(side: Counts) -> bool:
    """Whether nearly all calls have a name: else one that was only not told before would seem to be new."""
    calls = sum(each.n for each in side.values())
    return calls > 0 and side.get("", _NOTHING).n <= _UNNAMED * calls


def by_reason(counts: Mapping[str, int], calls: int) -> Counts:
    """Reasons as shares of all triaged calls."""
    return {name: Proportion(hits=count, n=calls) for name, count in counts.items()}


def by_name(counted: Iterable[tuple[str, int, int]]) -> Counts:
    """(element, escalated, calls), added up by element."""
    sums: dict[str, list[int]] = {}
    for name, hits, calls in counted:
        found = sums.setdefault(name, [0, 0])
        found[0] += hits
        found[1] += calls
    return {name: Proportion(hits=hits, n=n) for name, (hits, n) in sums.items()}


def as_facts(cause: Cause) -> dict[str, object]:
    """A cause as it is stored with an incident; numbers and names only, intervals are 95%."""
    first = cause.culprits[0] if cause.culprits else None
    return {
        "kind": cause.kind.value,
        "counted": cause.counted,
        "dimension": first.dimension.value if first else "",
        "element": first.element if first else "",
        "why": cause.why,
        "before": _facts_of(cause.before),
        "now": _facts_of(cause.now),
        "mix": cause.mix,
        "worse": cause.worse,
        "parts": [
            {"role": role, **_part_facts(part)}
            for role, parts in (("culprit", cause.culprits), ("alike", cause.alike), ("also", cause.also))
            for part in parts
        ],
    }


def _part_facts(part: Contribution) -> dict[str, object]:
    return {
        "dimension": part.dimension.value,
        "element": part.element,
        "share": part.share,
        "share_low": part.low,
        "share_high": part.high,
        "surprise": part.surprise,
        "mix": part.mix,
        "worse": part.worse,
        "traffic_before": part.traffic_before,
        "traffic_now": part.traffic_now,
        "before": _facts_of(part.before),
        "now": _facts_of(part.now),
    }


def _facts_of(share: Share) -> ShareFacts:
    low, high = share.interval()
    return {"rate": share.rate, "low": low, "high": high, "n": share.count}

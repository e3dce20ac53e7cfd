"""What each class, route, model or prompt contributes to a rise of a rate, from counts alone. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from cheapdeep_ops.guard.statistics.intervals import Estimate, Proportion

_SIGNIFICANT: Final = 2.33  # standard errors above the fair share: one-sided 1%
_MIN_HITS: Final = 5  # an element with fewer hits is not named: its standard error is no good measure
_Z95: Final = 1.96
_MAX_UNNAMED: Final = 0.1

NOTHING: Final = Proportion(hits=0, n=0)


class Dimension(StrEnum):
    """The labels by which calls are compared; of two equal explanations, the earlier dimension is named."""

    INPUT_CLASS = "input class"
    ROUTE = "route"
    MODEL = "model"
    PROMPT_VERSION = "prompt version"
    POLICY_VERSION = "policy version"
    CONFIDENCE = "confidence band"
    REASON = "reason"


_VERSIONS: Final = {Dimension.MODEL, Dimension.PROMPT_VERSION, Dimension.POLICY_VERSION}


class Share(Protocol):
    """Hits among calls: counted (a Proportion), or estimated from a sample (an Estimate)."""

    @property
    def hits(self) -> float:
        """Hits among `n` calls."""

    @property
    def n(self) -> float:
        """The number of calls; the effective number for an estimate."""

    @property
    def count(self) -> int:
        """The number of observations, unweighted."""

    @property
    def rate(self) -> float | None:
        """Hits by calls; None without calls."""

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The confidence interval of the rate."""


Counts = Mapping[str, Share]
"""Escalated of triaged calls, or wrong of confident answers, by element; for reasons, `n` is all triaged calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeAfter:
    """The counts of one dimension before the rise and now."""

    before: Counts
    now: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one element contributes to a rise."""

    dimension: Dimension
    element: str
    before: Share
    """Its rate is None for a new element."""
    now: Share
    traffic_before: float
    traffic_now: float
    mix: float
    """What the change of its traffic share adds to the rate."""
    worse: float
    """What the change of its own rate adds to the rate."""
    fair: float
    """The share that it would have if all elements had got worse alike."""
    share: float
    """`mix` and `worse` as a share of the whole rise; those of a dimension add up to 1, and may be negative."""
    low: float
    """The lower bound of the share's 95% interval."""
    high: float
    """The upper bound of the share's 95% interval."""
    is_sure: bool
    """Whether `share` is significantly above `fair`."""
    surprise: float
    """See `surprise`."""


def contributions(dimension: Dimension, sides: BeforeAfter) -> list[Contribution]:
    """The contributions of a dimension's elements, largest surprise first; empty if the rate is unchanged.

    The decomposition is that of Oaxaca (1973), Int. Econ. Rev. 14, 693 (see Kitagawa 1955, J. Am. Stat. Assoc. 50,
    1168): changed traffic shares at the rates before, and changed rates at the traffic shares now.
    """
    elements = sorted(set(sides.before) | set(sides.now))
    change = rate_of(_whole(dimension, sides.now)) - rate_of(_whole(dimension, sides.before))
    if change == 0:
        return []
    parts = [_contribution(dimension, element, sides, change) for element in elements]
    return sorted(parts, key=lambda part: (-part.surprise, part.element))


def _contribution(dimension: Dimension, element: str, sides: BeforeAfter, change: float) -> Contribution:
    before, now = (side.get(element, NOTHING) for side in (sides.before, sides.now))
    whole_before, whole_now = _whole(dimension, sides.before), _whole(dimension, sides.now)
    traffic_before, traffic_now = _ratio(before.n, whole_before.n), _ratio(now.n, whole_now.n)
    fair = traffic_before
    # A reason has no calls of its own, so its whole contribution is a change of rate.
    if dimension is Dimension.REASON:
        mix, worse = 0.0, _ratio(now.hits, whole_now.n) - _ratio(before.hits, whole_before.n)
        fair = _ratio(before.hits, whole_before.hits)
    else:
        reference = _rate_before(dimension, before, now, rate_of(whole_before))
        mix = (traffic_now - traffic_before) * (reference - rate_of(whole_before))
        worse = traffic_now * (rate_of(now) - reference)
    share = (mix + worse) / change
    error = _standard_error(dimension, (before, whole_before), (now, whole_now), share) / abs(change)
    fair_error = _standard_error(dimension, (before, whole_before), (now, whole_now), fair) / abs(change)
    is_sure = share - fair > _SIGNIFICANT * fair_error and round(rate_of(now) * now.count) >= _MIN_HITS
    return Contribution(
        dimension=dimension, element=element, before=before, now=now, traffic_before=traffic_before,
        traffic_now=traffic_now, mix=mix, worse=worse, fair=fair, share=share, low=share - _Z95 * error,
        high=share + _Z95 * error, is_sure=is_sure, surprise=surprise(fair, share),
    )  # fmt: skip


def _rate_before(dimension: Dimension, before: Share, now: Share, whole: float) -> float:
    """The rate that an element's rate now is compared with."""
    if before.rate is not None:
        return before.rate
    # A new version takes calls over from others, so the whole's rate is its rate before.
    # A new input class or route has no earlier rate, so all that it adds counts as mix.
    return whole if dimension in _VERSIONS else rate_of(now)


def _standard_error(dimension: Dimension, before: tuple[Share, Share], now: tuple[Share, Share], share: float) -> float:
    """The standard error of what an element adds to a rise beyond `share` of it; each side is (element, whole).

    The addition is a difference of two means, now and before: of (whether a call has the element, minus `share`) times
    (whether it is a hit, minus the rate before).
    """
    if dimension is Dimension.REASON:
        sides = [(Proportion(hits=int(part.hits), n=int(part.hits)), whole, share) for part, whole in (before, now)]
        return math.sqrt(sum(_variance(part, whole, own, 0.0) for part, whole, own in sides))
    rate = rate_of(before[1])
    # The rate before is estimated from the calls before, so these calls have another share.
    moved = _ratio(now[0].n, now[1].n) - _ratio(before[0].n, before[1].n)
    return math.sqrt(_variance(*now, share, rate) + _variance(*before, share - moved, rate))


def _variance(part: Share, whole: Share, share: float, rate: float) -> float:
    """The variance of such a mean over four cells: hit or not, of the element or not."""
    others = whole.n - part.n
    cells = (
        ((1 - share) * (1 - rate), part.hits), ((share - 1) * rate, part.n - part.hits),
        (share * (rate - 1), whole.hits - part.hits), (share * rate, others - whole.hits + part.hits),
    )  # fmt: skip
    # Half an observation more in each cell keeps few calls from having no variance.
    counts = [(value, max(count, 0.0) + 0.5) for value, count in cells]
    total = sum(count for _, count in counts)
    mean = sum(value * count for value, count in counts) / total
    return sum((value - mean) ** 2 * count for value, count in counts) / total**2


def surprise(fair: float, share: float) -> float:
    """One element's part of the Jensen-Shannon divergence between shares and fair shares, in nats; 0 to ln(2) / 2.

    Both shares are clipped to [0, 1]. Source: Lin (1991), IEEE Trans. Inf. Theory 37, 145; its use per element is
    Adtributor's.
    """
    p, q = min(max(fair, 0.0), 1.0), min(max(share, 0.0), 1.0)
    return max(0.5 * sum(each * math.log(2 * each / (p + q)) for each in (p, q) if each > 0), 0.0)


def rate_of(share: Share) -> float:
    """The rate; 0 without calls."""
    return share.rate or 0.0


def _whole(dimension: Dimension, side: Counts) -> Share:
    shares = list(side.values())
    hits = sum(each.hits for each in shares)
    n = max((each.n for each in shares), default=0) if dimension is Dimension.REASON else sum(each.n for each in shares)
    return Estimate(rate=hits / n, n=n, count=sum(each.count for each in shares)) if n else NOTHING


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def is_named(side: Counts) -> bool:
    """Whether at least 90% of the calls have a name for the element."""
    # Otherwise a name that was only missing before would look like a new element.
    calls = sum(each.n for each in side.values())
    return calls > 0 and side.get("", NOTHING).n <= _MAX_UNNAMED * calls


def by_reason(counts: Mapping[str, int], calls: int) -> Counts:
    """Reasons as shares of all triaged calls."""
    return {name: Proportion(hits=count, n=calls) for name, count in counts.items()}


def by_name(rows: Iterable[tuple[str, int, int]]) -> Counts:
    """The sums of (element, escalated, calls) by element."""
    sums: dict[str, list[int]] = {}
    for name, hits, calls in rows:
        totals = sums.setdefault(name, [0, 0])
        totals[0] += hits
        totals[1] += calls
    return {name: Proportion(hits=hits, n=n) for name, (hits, n) in sums.items()}

"""Which class, route, model or prompt explains a rise, of escalation or of wrong answers. Pure.

After Adtributor (Bhagwan et al., NSDI 2014, https://www.usenix.org/conference/nsdi14/technical-sessions/presentation/bhagwan):
an element's *explanatory power* is the share of the rise that it contributes. Its *surprise* is the Jensen-Shannon
divergence between that share and its fair share, when everything gets worse alike. Of the dimensions that
explain the rise with few elements, the one with the most surprise is named. Beyond Adtributor, an element is named only
if it contributes significantly more than its fair share: among fifty grades, some class always stands out by chance.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cheapdeep_ops.guard.report_types.units import ShareFacts
from cheapdeep_ops.guard.statistics.contributions import (
    BeforeAfter,
    Contribution,
    Dimension,
    Share,
    contributions,
    rate_of,
)
from cheapdeep_ops.guard.statistics.intervals import Estimate, difference

MIN_CALLS: Final = 30
"""With fewer triaged calls or grades, now or before, the cause is unknown."""

_CONFIDENCE: Final = 0.95  # that there is a rise at all: the shares of mere noise mean nothing
_MIN_SHARE: Final = 0.1  # Adtributor's T_EEP: an element that contributes less is noise
_EXPLAINED: Final = 0.67  # Adtributor's T_EP: a dimension must explain this share of the rise
_MAX_ELEMENTS: Final = 3
_PER_ELEMENT: Final = 0.6  # succinctness: each further element multiplies the score by this
_SURPRISING: Final = 0.01  # half of all calls that make the whole rise have 0.04, and 70% of them 0.013
_EQUAL: Final = 0.95  # explanations with scores this close count as equal


class Kind(StrEnum):
    """How a rate rose."""

    MIX = "mix changed"
    WORSE = "got worse"
    ALL = "everything got worse"
    UNCLEAR = "no part stands out"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The explanation of a rise."""

    kind: Kind
    before: Share
    now: Share
    mix: float = 0.0
    """The part of the rise by changed traffic shares; with `worse` it adds up to the rise."""
    worse: float = 0.0
    """The part of the rise by changed rates."""
    contributors: tuple[Contribution, ...] = ()
    """The elements that explain the rise, largest surprise first."""
    equivalent: tuple[Contribution, ...] = ()
    """Elements of other dimensions that cover these very calls."""
    also: tuple[Contribution, ...] = ()
    """The elements of other dimensions' explanations, best explanation first."""
    why: str = ""
    """Why the cause is unknown; else empty."""
    counted: str = "calls"
    """What the shares count: calls, or grades."""


def cause_of(
    before: Share,
    now: Share,
    sides: Mapping[Dimension, BeforeAfter],
    *,
    counted: str = "calls",
    fewest: int = MIN_CALLS,
) -> Cause:
    """The explanation of a rise from `before` to `now`.

    It is unknown with fewer than `fewest` observations now or MIN_CALLS before, or if nothing rose.
    """
    why = _unknown(before, now, counted, fewest)
    if why:
        return Cause(kind=Kind.UNKNOWN, before=before, now=now, why=why, counted=counted)
    parts = {dimension: contributions(dimension, sides[dimension]) for dimension in Dimension if dimension in sides}
    ranked = _ranked({dimension: explanation(of_dimension) for dimension, of_dimension in parts.items()})
    best = ranked[0] if ranked else ()
    # Without an explanation, mix and worse are those of any dimension whose elements have calls.
    first_with_calls = next((of for name, of in parts.items() if name is not Dimension.REASON), [])
    split = parts[best[0].dimension] if best else first_with_calls
    mix, worse = sum(part.mix for part in split), sum(part.worse for part in split)
    return Cause(
        kind=_kind(best, parts.values()),
        before=before,
        now=now,
        mix=mix,
        worse=worse,
        contributors=best,
        equivalent=tuple(other[0] for other in ranked[1:] if _is_equivalent(best, other)),
        also=tuple(part for other in ranked[1:] if not _is_equivalent(best, other) for part in other),
        counted=counted,
    )


def _unknown(before: Share, now: Share, counted: str, fewest: int) -> str:
    if now.count < fewest:
        return f"only {now.count} {counted} now"
    if before.count < MIN_CALLS:
        return f"only {before.count} {counted} before to compare with"
    if rate_of(now) <= rate_of(before):
        return "the rate is no higher than before"
    later, earlier = (Estimate(rate=rate_of(each), n=each.n, count=each.count) for each in (now, before))
    return "" if difference(later, earlier, _CONFIDENCE)[0] > 0 else "the rate may be no higher than before"


def _kind(best: Sequence[Contribution], all_parts: Iterable[Sequence[Contribution]]) -> Kind:
    if not best:
        return Kind.UNCLEAR if any(explanation(parts, even_unsure=True) for parts in all_parts) else Kind.ALL
    return Kind.MIX if sum(part.mix for part in best) > sum(part.worse for part in best) else Kind.WORSE


def explanation(parts: Sequence[Contribution], *, even_unsure: bool = False) -> tuple[Contribution, ...]:
    """Up to three elements that make most of a rise, each significantly above its fair share; empty if there are none.

    With `even_unsure`, significance is not required.
    """
    chosen: list[Contribution] = []
    for part in parts:
        if _is_candidate(part) and (part.is_sure or even_unsure):
            chosen.append(part)
        if sum(each.share for each in chosen) >= _EXPLAINED:
            return tuple(chosen) if _score(chosen) >= _SURPRISING else ()
        if len(chosen) == _MAX_ELEMENTS:
            return ()
    return ()


def _is_candidate(part: Contribution) -> bool:
    # Calls without a name count in the whole, but naming them would say nothing.
    return bool(part.element) and part.surprise > 0 and part.share >= max(_MIN_SHARE, part.fair)


def _has_calls(part: Contribution) -> bool:
    return part.dimension is not Dimension.REASON


def _score(parts: Sequence[Contribution]) -> float:
    """The quality of an explanation: higher if it is surprising, short, and covers the whole rise."""
    explained = min(sum(part.share for part in parts), 1.0)
    return float(sum(part.surprise for part in parts) * explained * _PER_ELEMENT ** (len(parts) - 1))


def _ranked(explanations: Mapping[Dimension, tuple[Contribution, ...]]) -> list[tuple[Contribution, ...]]:
    """The explanations, best first; that by reason last."""
    known = [parts for parts in explanations.values() if parts]
    best = max((_score(parts) for parts in known if _has_calls(parts[0])), default=0.0)
    order = list(Dimension)

    # A reason says how calls fail, but not which calls.
    def rank(parts: tuple[Contribution, ...]) -> tuple[Any, ...]:
        score = _score(parts)
        is_best = score >= best * _EQUAL
        return (not _has_calls(parts[0]), not is_best, 0.0 if is_best else -score, order.index(parts[0].dimension))

    return sorted(known, key=rank)


def _is_equivalent(best: Sequence[Contribution], other: Sequence[Contribution]) -> bool:
    """Whether both name one element each, with equal counts, so that they cover equal calls."""
    if len(best) != 1 or len(other) != 1 or not (_has_calls(best[0]) and _has_calls(other[0])):
        return False
    return (best[0].before, best[0].now) == (other[0].before, other[0].now)


def as_facts(cause: Cause) -> dict[str, object]:
    """A cause as JSON for an incident; intervals are 95%."""
    first = cause.contributors[0] if cause.contributors else None
    return {
        "kind": cause.kind.value,
        "counted": cause.counted,
        "dimension": first.dimension.value if first else "",
        "element": first.element if first else "",
        "why": cause.why,
        "before": _share_facts(cause.before),
        "now": _share_facts(cause.now),
        "mix": cause.mix,
        "worse": cause.worse,
        "parts": [
            {"role": role, **_part_facts(part)}
            for role, parts in (("culprit", cause.contributors), ("alike", cause.equivalent), ("also", cause.also))
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
        "before": _share_facts(part.before),
        "now": _share_facts(part.now),
    }


def _share_facts(share: Share) -> ShareFacts:
    low, high = share.interval()
    return {"rate": share.rate, "low": low, "high": high, "n": share.count}

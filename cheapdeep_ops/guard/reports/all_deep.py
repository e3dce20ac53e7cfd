"""What the deep tier alone would have cost, with an interval: from the length of its answers beside cheap ones.

The routers estimate the output of a shipped call from the cheap answer's length, times the ratio of the tokenizers.
Here it is estimated from calls of the route that both tiers answered in the last 30 days. Those are shadow calls, and
calls that a raise escalated. Where only doubtful cheap answers were compared, the interval reaches from the routers'
estimate to theirs. Answers of which the cheap tier is sure may differ from them.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cheapdeep_ops.guard.report_types.figures import AllDeep
from cheapdeep_ops.guard.statistics.ratio import Ratio, ratio_of
from cheapdeep_ops.pricing import PriceBook, tokenizer_ratio
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.counts import Sums
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.units import DAY_S, HOUR_S, MINUTE_S
from cheapdeep_ops.values import Usage

ENOUGH: Final = 30
"""With fewer compared calls, a route's ratio is unknown."""

_LOOKS: Final = ((30 * DAY_S, int(DAY_S)), (2 * DAY_S, int(HOUR_S)), (2 * HOUR_S, int(MINUTE_S)))
"""How far to look back, and in parts of which length (seconds); the first look with enough parts counts."""

_MILLION: Final = 1_000_000
_KINDS: Final = ("compared", "doubtful")
_NAMES: Final = tuple(f"{kind}{part}" for kind in _KINDS for part in ("", "_tokens", "_deep_tokens"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAnswers:
    """The shipped answers of one route: their output tokens, and the deep tier's tokens for each of them.

    `compared` is the number of calls that say so; they had sure cheap answers if `is_sure`, else doubtful ones. The
    ratio is None if it is unknown.
    """

    tokens: int
    ratio: Ratio | None = None
    compared: int = 0
    is_sure: bool = False


def all_deep_of(
    connection: Connection, settings: Settings, sums: Sums, *, since: float, until: float
) -> AllDeep | None:
    """The cost of the deep tier alone for calls of `[since, until)`; None if nothing is known of its answers."""
    shipped = counters.grouped(connection, ("route",), ("answer_tokens",), since=since, until=until)
    answers = {
        route: RouteAnswers(tokens=counted["answer_tokens"])
        for (route,), counted in shipped.items()
        if counted["answer_tokens"]
    }
    deep = settings.tiers[-1]
    million_usd = PriceBook(settings.price_overrides).cost(deep, Usage(output_tokens=_MILLION), at=until)
    if not answers or not sums.baseline_nusd or million_usd is None:
        return None
    for back_s, step_s in _LOOKS:
        if any(not each.is_sure for each in answers.values()):
            begin = until - back_s
            counted = counters.grouped(connection, ("route", "at"), _NAMES, since=begin, until=until, step_s=step_s)
            parts = _by_route(counted)
            answers = {route: _after(each, parts[route]) for route, each in answers.items()}
    assumed = tokenizer_ratio(settings.tiers[0], deep)
    return figures_of(list(answers.values()), sums, assumed=assumed, token_usd=million_usd / _MILLION)


def _by_route(counted: Mapping[tuple[Any, ...], Mapping[str, int]]) -> Mapping[str, Sequence[Mapping[str, int]]]:
    parts: dict[str, list[Mapping[str, int]]] = defaultdict(list)
    for (route, _), part in counted.items():
        parts[route].append(part)
    return parts


def _after(known: RouteAnswers, parts: Sequence[Mapping[str, int]]) -> RouteAnswers:
    """What is known of a route after one more look; sure comparisons replace doubtful ones."""
    for kind in _KINDS if known.ratio is None else () if known.is_sure else _KINDS[:1]:
        calls = sum(part[kind] for part in parts)
        ratio = ratio_of([(part[f"{kind}_tokens"], part[f"{kind}_deep_tokens"]) for part in parts])
        if calls >= ENOUGH and ratio is not None:
            return replace(known, ratio=ratio, compared=calls, is_sure=kind == "compared")
    return known


def figures_of(answers: Sequence[RouteAnswers], sums: Sums, *, assumed: float, token_usd: float) -> AllDeep | None:
    """The figures for routes whose output tokens the routers multiplied with `assumed`; None if no ratio is known."""
    known = [(each, each.ratio) for each in answers if each.ratio is not None]
    sure = [(each.tokens * token_usd, ratio) for each, ratio in known if each.is_sure]
    doubtful = [(each.tokens * token_usd, ratio) for each, ratio in known if not each.is_sure]
    if not known:
        return None
    usd = sums.baseline_usd + math.fsum(cost * (ratio.value - assumed) for cost, ratio in sure)
    # Routes are independent, so errors by chance add up in squares. Unknown ones may all have one direction.
    low = usd - math.sqrt(math.fsum((cost * (ratio.value - ratio.low)) ** 2 for cost, ratio in sure))
    high = usd + math.sqrt(math.fsum((cost * (ratio.high - ratio.value)) ** 2 for cost, ratio in sure))
    low += math.fsum(cost * min(ratio.low - assumed, 0.0) for cost, ratio in doubtful)
    high += math.fsum(cost * max(ratio.high - assumed, 0.0) for cost, ratio in doubtful)
    total = sum(each.tokens for each in answers)
    return {
        "usd": usd,
        "interval_usd": (low, high),
        "saving": 1 - sums.cost_usd / usd if usd > 0 else None,
        "saving_interval": (1 - sums.cost_usd / low, 1 - sums.cost_usd / high) if low > 0 else None,
        "compared": sum(each.compared for each in answers),
        "length_ratio": _length_ratio(known) / assumed,
        "sure_share": sum(each.tokens for each, _ in known if each.is_sure) / total,
        "doubtful_share": sum(each.tokens for each, _ in known if not each.is_sure) / total,
    }


def _length_ratio(known: Sequence[tuple[RouteAnswers, Ratio]]) -> float:
    return sum(each.tokens * ratio.value for each, ratio in known) / sum(each.tokens for each, _ in known)

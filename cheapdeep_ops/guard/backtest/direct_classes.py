"""Which input classes would cost less without triage, because nearly all of their calls escalate: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.guard.statistics.attribution import MIN_CALLS
from cheapdeep_ops.guard.statistics.intervals import Proportion
from cheapdeep_ops.pricing import is_covered
from cheapdeep_ops.units import USD_PER_NUSD

CLASS_COUNTERS: Final = (
    "calls", "triaged", "escalated", "base_escalated", "unpriced", "unpriced_triaged", "cost_nusd", "triage_cost_nusd",
    "baseline_nusd", "shadowed", "unpriced_shadowed", "shadow_cost_nusd", "shadow_baseline_nusd",
)  # fmt: skip
"""The counters of a class that are read here."""

_CERTAINTY: Final = 0.95
"""Of all classes together: with this probability, none is named whose rate lies below its break-even."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectClass:
    """An input class of a route whose share of base escalations is surely above `break_even`.

    There, a triage costs as much as the deep calls that it saves. `saved_usd` is in US dollars: the mean for each
    triaged call if the class were sent straight to the deep tier.
    """

    route: str
    input_class: str
    rate: Proportion
    interval: tuple[float, float]
    break_even: float
    saved_usd: float

    def as_facts(self) -> dict[str, Any]:
        """The class as JSON."""
        return {
            "route": self.route,
            "input_class": self.input_class,
            "triaged": self.rate.n,
            "base_escalation_rate": self.rate.rate,
            "base_escalation_interval": self.interval,
            "break_even_rate": self.break_even,
            "saved_usd_per_call": self.saved_usd,
        }


def direct_classes(counted: Mapping[tuple[str, str], Mapping[str, int]]) -> list[DirectClass]:
    """The classes that cost less without triage, those that save most first; `counted` has `CLASS_COUNTERS` of each.

    Classes with few triaged calls, or with fewer than half of them priced, are never among them.
    """
    known = {
        name: counts
        for name, counts in counted.items()
        if counts["triaged"] >= MIN_CALLS and is_covered(unpriced=counts["unpriced_triaged"], of=counts["triaged"])
    }
    # Many classes are looked at, so each interval is wider (Bonferroni).
    confidence = 1 - 2 * (1 - _CERTAINTY) / max(len(known), 1)
    classes = [_class_of(*name, counts, confidence) for name, counts in known.items()]
    named = [each for each in classes if each.interval[0] > each.break_even]
    return sorted(named, key=lambda each: -each.saved_usd * each.rate.n)


def _class_of(route: str, input_class: str, counts: Mapping[str, int], confidence: float) -> DirectClass:
    rate = Proportion(hits=counts["base_escalated"], n=counts["triaged"])
    priced = counts["triaged"] - counts["unpriced_triaged"]
    triage_usd = counts["triage_cost_nusd"] * USD_PER_NUSD / priced
    deep_usd = _spared_usd(counts, priced, triage_usd)
    share = rate.hits / rate.n
    return DirectClass(
        route=route,
        input_class=input_class,
        rate=rate,
        interval=rate.interval(confidence),
        break_even=max(1 - triage_usd / deep_usd, 0.0) if deep_usd else 0.0,
        saved_usd=triage_usd - (1 - share) * deep_usd,
    )


def _spared_usd(counts: Mapping[str, int], priced: int, triage_usd: float) -> float:
    """What the deep tier would have cost for a call that shipped, on average; without shipped calls, for any call."""
    # The deep tier answers every call of shadow mode, so those count as escalated.
    shipped = priced * (1 - counts["escalated"] / counts["triaged"])
    # Deep calls are in both sums, so their difference is what the shipped ones would have cost.
    spared = counts["baseline_nusd"] - (counts["cost_nusd"] - counts["triage_cost_nusd"])
    shadowed = counts["shadowed"] - counts["unpriced_shadowed"]
    if shadowed > 0:
        shipped += shadowed * (1 - counts["base_escalated"] / counts["triaged"])
        spared += counts["shadow_baseline_nusd"] - counts["shadow_cost_nusd"]
        spared += round(shadowed * triage_usd / USD_PER_NUSD)
    if shipped >= 1:
        return max(spared, 0) * USD_PER_NUSD / shipped
    return counts["baseline_nusd"] * USD_PER_NUSD / max(counts["calls"] - counts["unpriced"], 1)

"""The period before a receipt's, to compare with; and the incidents of a period."""

from typing import Final

from cheapdeep_ops.guard.report_types.figures import Counted, PeriodBefore, PeriodIncident
from cheapdeep_ops.guard.reports.all_deep import all_deep_of
from cheapdeep_ops.guard.reports.costs import call_figures, cost_figures, has_prices, savings_of
from cheapdeep_ops.guard.reports.quality import grading_usd, shipped_false_confidence
from cheapdeep_ops.guard.statistics.intervals import difference_of
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, incidents
from cheapdeep_ops.store.counts import SUMS, Sums
from cheapdeep_ops.store.engine import Connection

MOST_INCIDENTS: Final = 50
"""How many incidents a receipt lists: the newest ones."""

_NEARLY_ALL: Final = 0.01
"""A first call within this share of the period makes no total incomplete."""

Interval = tuple[float, float]


def before_of(
    connection: Connection, settings: Settings, later: Counted, *, since: float, until: float
) -> PeriodBefore | None:
    """The figures of the period before `[since, until)`, compared with those of the period, `later`.

    None if the store has no call before the period.
    """
    begin, end = 2 * since - until, since
    first = counters.first_second(connection, since=0.0, until=end)
    if first is None:
        return None
    # Without the mappings, which no comparison needs and which take longest to add up.
    sums = Sums(**counters.sums_of(connection, SUMS, since=begin, until=end))  # type: ignore[arg-type]
    all_deep = all_deep_of(connection, settings, sums, since=begin, until=end) if has_prices(sums) else None
    grading = grading_usd(connection, since=begin, until=end)
    figures: Counted = {
        **call_figures(sums),
        **cost_figures(sums),
        **shipped_false_confidence(connection, since=begin, until=end),
    }
    return {
        "since": begin,
        "until": end,
        "counted_since": float(first) if first > begin + _NEARLY_ALL * (end - begin) else None,
        **figures,
        **savings_of(sums, all_deep, grading_usd=grading),
        "escalation_change": _change(
            later["escalation_rate"], later["escalation_interval"],
            figures["escalation_rate"], figures["escalation_interval"],
        ),
        "base_escalation_change": _change(
            later["base_escalation_rate"], later["base_escalation_interval"],
            figures["base_escalation_rate"], figures["base_escalation_interval"],
        ),
        "false_confident_change": _change(
            later["false_confident_rate"], later["false_confident_interval"],
            figures["false_confident_rate"], figures["false_confident_interval"],
        ),
    }  # fmt: skip


def _change(
    later: float | None, later_interval: Interval, earlier: float | None, earlier_interval: Interval
) -> Interval | None:
    if later is None or earlier is None:
        return None
    return difference_of(later, later_interval, earlier, earlier_interval)


def incidents_of(connection: Connection, *, since: float, until: float) -> list[PeriodIncident]:
    """The incidents that were open in `[since, until)`, newest first."""
    found = incidents.open_within(connection, since=since, until=until, limit=MOST_INCIDENTS)
    return [
        {
            "id": each["id"],
            "rule": each["rule"],
            "scope": each["scope"],
            "summary": str(each["announced"].get("summary", "")),
            "started_at": each["started_at"],
            "resolved_at": each["resolved_at"],
            "acknowledged_by": each["acknowledged"]["author"] if each["acknowledged"] else "",
        }
        for each in found
    ]

"""The command `backtest`: the effect that other thresholds and rules would have had."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from time import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, app, conditions_in, filled_option, opened, seconds_in
from cheapdeep_ops.cli.groups import TRY, example
from cheapdeep_ops.cli.render.reliability import SHIPPED, show_confidence
from cheapdeep_ops.cli.render.runs import is_known
from cheapdeep_ops.guard.formatting import bounds, coverage, exact_money, percent, timestamp
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.units import HOUR_S
from cheapdeep_ops.values import ALL_ROUTES

if TYPE_CHECKING:
    from cheapdeep_ops.guard.backtest.counterfactual import OutcomeAt
    from cheapdeep_ops.guard.backtest.threshold_cost import PeriodCost
    from cheapdeep_ops.guard.report_types.figures import Confidence

_USUAL: Final = (0.7, 0.8, 0.9, 0.95)
_CHEAP_AND_DEEP: Final = 2
_RECORDED: Final = "from what the recorded calls used"


@app.command(rich_help_panel=TRY, epilog=example("backtest --threshold 0.85 --last 7d"))
def backtest(  # noqa: PLR0917 - typer passes options by name
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="A CSV file as for replay; without it, the store."),
    ] = None,
    json: Json = False,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE selects rows; repeatable.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="A threshold to try; repeatable.")] = None,
    rules: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A rules file to try.")] = None,
    last: Annotated[str | None, typer.Option(help="The period of the store, up to now; 24h if absent.")] = None,
    route: Annotated[str | None, typer.Option(callback=filled_option, help="One route of the store.")] = None,
) -> None:
    """Print the effect of other thresholds and rules. It has escalation, false confidence, cost and alerts."""
    settings = Settings(rules_file=rules) if rules else Settings()
    tried = _thresholds(threshold or [*_USUAL, settings.base_threshold])
    if file is None and where:
        raise typer.BadParameter("selects rows of a file, and FILE is missing", param_hint="--where")
    if file is not None and (last or route):
        raise typer.BadParameter("applies to the store, not to a file", param_hint="--last" if last else "--route")
    if file is None:
        backtested = _of_store(settings, tried, period_s=_period(last or "24h"), route=route or ALL_ROUTES)
    else:
        backtested = _of_file(settings, file, conditions_in(where or ()), tried)
    if json:
        output.print_json(backtested)
    else:
        _show(backtested)


def _thresholds(values: Sequence[float]) -> list[float]:
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise typer.BadParameter(f"{wrong[0]:g} is not from 0 to 1", param_hint="--threshold")
    return sorted(set(values))


def _period(last: str) -> float:
    period_s = seconds_in(last)
    if not period_s:
        raise typer.BadParameter("needs a period longer than 0", param_hint="--last")
    return period_s


def _of_file(settings: Settings, file: Path, where: Mapping[str, str], tried: Sequence[float]) -> dict[str, object]:
    """Thresholds from the rows of the file; alerts from one replay of them at the base threshold."""
    from cheapdeep_ops.demo.recording import read_recording
    from cheapdeep_ops.demo.replay import Replay, ReplayOptions
    from cheapdeep_ops.guard.backtest.counterfactual import of_recorded
    from cheapdeep_ops.guard.backtest.threshold_cost import spent_on
    from cheapdeep_ops.testing import SimulatedGrader

    rows = read_recording(file, where)
    with Replay(rows, settings=settings, options=ReplayOptions(grader=SimulatedGrader())) as played:
        output.show_progress(played.run(), total=len(rows), what="calls replayed")
        report = played.report()
        spent = spent_on(played.priced, prices=_prices(settings, f"from {played.cost_basis}"))
    return {
        "source": str(file),
        "period": None,
        "n": len(rows),
        **_priced(lambda value: of_recorded(rows, value), spent, tried, base=settings.base_threshold),
        "alerts": report["alerts"],
        "policy_changes": report["policy_changes"],
        "alerts_at_threshold": settings.base_threshold,
        "confidence": _worth(
            (row.confidence, not row.cheap_correct, 1.0)
            for row in rows
            if row.confidence is not None and row.cheap_correct is not None
        ),
    }


def _of_store(settings: Settings, tried: Sequence[float], *, period_s: float, route: str) -> dict[str, object]:
    """Thresholds from stored counters and grades; alerts from a rerun of the rules over them."""
    from cheapdeep_ops.guard.backtest.counterfactual import TriageCounts, of_stored
    from cheapdeep_ops.guard.backtest.history import History, ReplayPeriod
    from cheapdeep_ops.guard.backtest.threshold_cost import spent_in
    from cheapdeep_ops.guard.grading.grader import grader_version
    from cheapdeep_ops.guard.rules.book import read_rulebook
    from cheapdeep_ops.store import counters, grades

    until = time()
    wanted: dict[str, Any] = {"since": until - period_s, "until": until}
    rulebook = read_rulebook(settings.rules_file)
    with opened(settings) as store:
        with store.reading() as connection:
            sums = counters.summed(connection, **wanted, scope=route)
            first = counters.first_second(connection, **wanted, scope=route)
            minutes_since = counters.minutes_since(connection)
            graded = grades.confidences(connection, grader_version(settings), **wanted, scope=route)
            # Hours are too long for the windows of rules, so alerts begin with the first minute.
            rerun_from = max(wanted["since"], float(minutes_since))
            resolution_s = counters.resolution_s(connection, since=rerun_from, until=until)
        # The report shows the period that has data, which may begin later than the wanted one.
        since = until if first is None else max(float(first), wanted["since"])
        period = ReplayPeriod(
            since=rerun_from, counted=max(since, rerun_from), until=until, route=route, resolution_s=resolution_s
        )
        history = History(store=store, settings=settings, period=period, follow=output.show_progress)
        past = history.rerun(rulebook.rules)
    base, spent = settings.base_threshold, spent_in(sums, prices=_prices(settings, _RECORDED))
    counted = TriageCounts(triaged=sums.triaged, confidence=sums.confidence, base_reasons=sums.base_reasons)
    return {
        "source": "store",
        "period": {
            "since": since,
            "until": until,
            "asked_since": wanted["since"],
            # Some tolerance, because counters have whole seconds, minutes or hours.
            "is_whole": since <= wanted["since"] + _tolerance_s(resolution_s, is_rerun=rerun_from == wanted["since"]),
            "alerts_since": rerun_from,
            "alerts_resolution_s": resolution_s,
        },
        "n": sums.triaged,
        **_priced(lambda value: of_stored(counted, graded, value, base=base), spent, tried, base=base),
        "confidence": _worth(graded),
        **past,
    }


def _tolerance_s(resolution_s: int, *, is_rerun: bool) -> int:
    """How much later than asked a whole period may begin: one entry, which is an hour before the first minute."""
    return resolution_s if is_rerun else HOUR_S


def _worth(grades: Iterable[tuple[float, bool, float]]) -> "Confidence":
    """The worth of confidence, from tuples of confidence, whether the answer is wrong, and inclusion probability."""
    from cheapdeep_ops.guard.statistics.calibration import as_facts

    return as_facts(list(grades), Random(0))  # noqa: S311 - a simulation, no secret


def _prices(settings: Settings, basis: str) -> str:
    between = "; the estimate assumes that tiers in between answer no call"
    return f"{basis}{between}" if len(settings.tiers) > _CHEAP_AND_DEEP else basis


def _priced(
    row_of: Callable[[float], "OutcomeAt"], spent: "PeriodCost", tried: Sequence[float], *, base: float
) -> dict[str, object]:
    """A row for each threshold with its estimated cost, and the cost that was paid."""
    from cheapdeep_ops.guard.backtest.threshold_cost import estimated_cost, paid_cost

    rows = [row_of(value) for value in tried]
    at_base = estimated_cost(spent, row_of(base)["escalation_rate"])
    return {
        "thresholds": [{**row, **estimated_cost(spent, row["escalation_rate"])} for row in rows],
        "paid": {"base_threshold": base, **paid_cost(spent, at_base=at_base["cost_usd"])},
    }


def _show(backtested: Mapping[str, Any]) -> None:
    out = output.console()
    columns = ("threshold", "escalation", "95%", "calls", "false-confident rate", "95%", "graded", "cost", "saving", "")
    rows = [_row(each) for each in backtested["thresholds"]]
    out.print(output.table(f"Backtest of {backtested['source']}", columns, rows))
    _show_paid(backtested)
    period = backtested["period"]
    if period and not period["is_whole"]:
        out.print(f"The store has data only since {timestamp(period['since'])}: the period begins there.")
    if period and period["alerts_since"] > period["asked_since"]:
        out.print(f"Alerts are rerun since {timestamp(period['alerts_since'])}: older minutes are not stored.")
    steps = " (from counts of each minute)" if period and period["alerts_resolution_s"] > 1 else ""
    out.print(f"Alerts{steps}: {len(backtested['alerts']) or 'none'}")
    if idle := backtested.get("rules_not_run"):
        out.print(f"Rules that were not rerun: {', '.join(idle)}", markup=False)
    if unknown := backtested.get("rules_without_data"):
        grades = f"{backtested['grades_read']:,}"
        out.print(f"Rules with too few grades ({grades}) to decide: {', '.join(unknown)}", markup=False)
    for transition in backtested["alerts"]:
        when = timestamp(transition["at"]) if "at" in transition else f"call {transition['at_call']}"
        out.print(f"  {when}  {transition['rule']} [{transition['scope']}] {transition['state']}", markup=False)
    for change in backtested.get("policy_changes", ()):
        out.print(f"  call {change['at_call']}  threshold {change['from']} to {change['to']}", markup=False)
    show_confidence(out, {ALL_ROUTES: backtested["confidence"]}, covers="" if period is None else SHIPPED)


def _show_paid(backtested: Mapping[str, Any]) -> None:
    """Print the cost that was paid, the estimate for the same threshold, and the basis of the costs."""
    # The two costs show how far the estimate can be trusted.
    out, paid = output.console(), backtested["paid"]
    at_base = paid["estimate_at_base_usd"]
    beside = paid["why"] if at_base is None else f"{exact_money(at_base)} by the estimate at {paid['base_threshold']:g}"
    over = coverage(paid["unpriced_calls"], paid["calls"]) or f" for {paid['calls']:,} calls"
    out.print(f"Paid: {exact_money(paid['cost_usd'])}{over}; {beside or 'no estimate at base'}", markup=False)
    rows = backtested["thresholds"]
    for basis in dict.fromkeys(each["cost_basis"] for each in rows):
        at = ", ".join(f"{each['threshold']:g}" for each in rows if each["cost_basis"] == basis)
        out.print(f"Cost at {at}: {basis}", markup=False)


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    escalation, wrong = each["escalation_rate"], each["false_confident_rate"]
    return (
        f"{each['threshold']:g}",
        percent(escalation),
        "" if escalation is None else bounds(each["escalation_interval"]),
        f"{each['calls']:,}",
        percent(wrong),
        "" if wrong is None else bounds(each["false_confident_interval"]),
        f"{each['graded']:,}",
        exact_money(each["cost_usd"]),
        percent(each["saving"] if is_known(each["cost_basis"]) else None),
        each["why"],
    )

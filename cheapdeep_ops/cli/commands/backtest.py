"""The command that asks what other thresholds and rules would have done."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from time import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, app, conditions_in, opened, seconds_in, text_given
from cheapdeep_ops.cli.render.reliability import SHIPPED, show_confidence
from cheapdeep_ops.guard.formatting import bounds, exact_money, percent, timestamp
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

if TYPE_CHECKING:
    from cheapdeep_ops.guard.backtest.counterfactual import OutcomeAt
    from cheapdeep_ops.guard.backtest.threshold_cost import PeriodCost
    from cheapdeep_ops.guard.report_types.figures import Confidence

_USUAL: Final = (0.7, 0.8, 0.9, 0.95)
_CHEAP_AND_DEEP: Final = 2
_RECORDED: Final = "from what the recorded calls used"
_PLAYED: Final = (
    "from the recorded questions and placeholder answers that were played, for a file has no tokens: beside answers so "
    "short, triage looks dearer than it is"
)


@app.command()
def backtest(  # noqa: PLR0917 - typer passes options by name
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="CSV as for replay; without it, the store.")
    ] = None,
    json: Json = False,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE picks rows; may be given again.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="A threshold to try; may be given again.")] = None,
    rules: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Rules to try.")] = None,
    last: Annotated[str | None, typer.Option(help="The period up to now, of the store; 24h.")] = None,
    route: Annotated[str | None, typer.Option(callback=text_given, help="One route of the store.")] = None,
) -> None:
    """Print what other thresholds and rules would have done: escalation, false confidence, alerts."""
    settings = Settings(rules_file=rules) if rules else Settings()
    tried = _thresholds(threshold or [*_USUAL, settings.base_threshold])
    if file is None and where:
        raise typer.BadParameter("picks rows of a file, and none is given", param_hint="--where")
    if file is not None and (last or route):
        raise typer.BadParameter("is for the store, not for a file", param_hint="--last" if last else "--route")
    if file is None:
        found = _of_store(settings, tried, period_s=_period(last or "24h"), route=route or ALL_ROUTES)
    else:
        found = _of_file(settings, file, conditions_in(where or ()), tried)
    if json:
        output.print_json(found)
    else:
        _show(found)


def _thresholds(values: Sequence[float]) -> list[float]:
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise typer.BadParameter(f"{wrong[0]:g} is not from 0 to 1", param_hint="--threshold")
    return sorted(set(values))


def _period(last: str) -> float:
    period_s = seconds_in(last)
    if not period_s:
        raise typer.BadParameter("needs a period of some length", param_hint="--last")
    return period_s


def _of_file(settings: Settings, file: Path, where: Mapping[str, str], tried: Sequence[float]) -> dict[str, object]:
    """Thresholds from the rows as they are; alerts from the whole product, played once at the base threshold."""
    from cheapdeep_ops.demo.recording import read_recording
    from cheapdeep_ops.demo.replay import Replay, ReplayOptions
    from cheapdeep_ops.guard.backtest.counterfactual import of_recorded
    from cheapdeep_ops.guard.backtest.threshold_cost import spent_on
    from cheapdeep_ops.testing import SimulatedGrader

    rows = read_recording(file, where)
    with Replay(rows, settings=settings, options=ReplayOptions(grader=SimulatedGrader())) as played:
        output.show_progress(played.run(), total=len(rows), what="calls replayed")
        report = played.report()
        spent = spent_on([each.decision for each in played.outcomes], prices=_prices(settings, _PLAYED))
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
    """Thresholds from counters and grades; alerts from rules that are run again over them."""
    from cheapdeep_ops.guard.backtest.counterfactual import TriageCounts, of_stored
    from cheapdeep_ops.guard.backtest.history import History, ReplayPeriod
    from cheapdeep_ops.guard.backtest.threshold_cost import spent_in
    from cheapdeep_ops.guard.grading.grader import grader_version
    from cheapdeep_ops.guard.rules.book import read_rulebook
    from cheapdeep_ops.store import counters, grades

    until = time()
    asked: dict[str, Any] = {"since": until - period_s, "until": until}
    rulebook = read_rulebook(settings.rules_file)
    with opened(settings) as store:
        with store.reading() as connection:
            sums = counters.summed(connection, **asked, scope=route)
            first = counters.first_second(connection, **asked, scope=route)
            graded = grades.confidences(connection, grader_version(settings), **asked, scope=route)
        since = until if first is None else max(float(first), asked["since"])
        period = ReplayPeriod(since=asked["since"], counted=since, until=until, route=route)
        history = History(store=store, settings=settings, period=period, follow=output.show_progress)
        past = history.rerun(rulebook.rules)
    base, spent = settings.base_threshold, spent_in(sums, prices=_prices(settings, _RECORDED))
    counted = TriageCounts(triaged=sums.triaged, confidence=sums.confidence, base_reasons=sums.base_reasons)
    return {
        "source": "store",
        "period": {
            "since": since,
            "until": until,
            "asked_since": asked["since"],
            "is_whole": since <= asked["since"] + 1,
        },
        "n": sums.triaged,
        **_priced(lambda value: of_stored(counted, graded, value, base=base), spent, tried, base=base),
        "confidence": _worth(graded),
        **past,
    }


def _worth(grades: Iterable[tuple[float, bool, float]]) -> "Confidence":
    """What confidence is worth, from (confidence, whether it is wrong, inclusion); of a recording, over all of it."""
    from cheapdeep_ops.guard.statistics.calibration import as_facts

    return as_facts(list(grades), Random(0))  # noqa: S311 - a simulation, no secret


def _prices(settings: Settings, said: str) -> str:
    return f"{said}; tiers in between are taken to answer nothing" if len(settings.tiers) > _CHEAP_AND_DEEP else said


def _priced(
    row_of: Callable[[float], "OutcomeAt"], spent: "PeriodCost", tried: Sequence[float], *, base: float
) -> dict[str, object]:
    """A row for each threshold with what it would have cost, and what was paid."""
    from cheapdeep_ops.guard.backtest.threshold_cost import estimated_cost, paid_cost

    rows = [row_of(value) for value in tried]
    at_base = estimated_cost(spent, row_of(base)["escalation_rate"])
    return {
        "thresholds": [{**row, **estimated_cost(spent, row["escalation_rate"])} for row in rows],
        "paid": {"base_threshold": base, **paid_cost(spent, at_base=at_base["cost_usd"])},
    }


def _show(found: Mapping[str, Any]) -> None:
    out = output.console()
    columns = ("threshold", "escalation", "95%", "calls", "false confidence", "95%", "graded", "cost", "saving", "")
    out.print(output.table(f"Backtest of {found['source']}", columns, [_row(each) for each in found["thresholds"]]))
    _show_paid(found)
    period = found["period"]
    if period and not period["is_whole"]:
        out.print(f"Stored since {timestamp(period['since'])} only: the period begins there.")
    out.print(f"Alerts: {len(found['alerts']) or 'none'}")
    if idle := found.get("rules_not_run"):
        out.print(f"Not run again: {', '.join(idle)}", markup=False)
    if unknown := found.get("rules_without_data"):
        out.print(f"Too few grades ({found['grades_read']:,}) to judge: {', '.join(unknown)}", markup=False)
    for turn in found["alerts"]:
        when = timestamp(turn["at"]) if "at" in turn else f"call {turn['at_call']}"
        out.print(f"  {when}  {turn['rule']} [{turn['scope']}] {turn['state']}", markup=False)
    for change in found.get("policy_changes", ()):
        out.print(f"  call {change['at_call']}  threshold {change['from']} to {change['to']}", markup=False)
    show_confidence(out, {ALL_ROUTES: found["confidence"]}, covers="" if period is None else SHIPPED)


def _show_paid(found: Mapping[str, Any]) -> None:
    """What was paid beside what the estimate makes of it, and what the costs rest on."""
    out, paid = output.console(), found["paid"]
    at_base = paid["estimate_at_base_usd"]
    beside = paid["why"] if at_base is None else f"{exact_money(at_base)} by the estimate at {paid['base_threshold']:g}"
    out.print(
        f"Paid: {exact_money(paid['cost_usd'])} for {paid['calls']:,} calls; {beside or 'no estimate at base'}",
        markup=False,
    )
    rows = found["thresholds"]
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
        percent(each["saving"]),
        each["why"],
    )

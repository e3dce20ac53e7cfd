"""The command `recommend`: the lowest threshold that holds a limit on wrong answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from time import time
from typing import Annotated, Any, Final

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, app, conditions_in, filled_option, opened, seconds_in
from cheapdeep_ops.cli.groups import TRY, example
from cheapdeep_ops.guard.backtest.direct_classes import CLASS_COUNTERS, DirectClass
from cheapdeep_ops.guard.backtest.recommend import ErrorSharing
from cheapdeep_ops.guard.formatting import bounds, exact_money, percent, two_digits
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

# A file has answers of every confidence; the store has grades only from the base threshold on.
_OF_FILE: Final = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
_ABOVE_BASE: Final = (0.85, 0.9, 0.95, 0.99)
Thresholds = Sequence[Mapping[str, Any]]


@app.command(rich_help_panel=TRY, epilog=example("recommend --limit 0.02"))
def recommend(  # noqa: PLR0917 - typer passes options by name
    limit: Annotated[
        float, typer.Option(help="The largest false-confident rate: the share of shipped answers that are wrong.")
    ],
    certainty: Annotated[float, typer.Option(help="The confidence level of the guarantee, between 0 and 1.")] = 0.95,
    json: Json = False,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A CSV file as for replay; without it, the store.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="COLUMN=VALUE selects rows; repeatable.")] = None,
    route: Annotated[str | None, typer.Option(callback=filled_option, help="One route of the store.")] = None,
    last: Annotated[str, typer.Option(help="The period of the store, up to now.")] = "30d",
    test: Annotated[
        ErrorSharing,
        typer.Option(help="Which thresholds the test expects to hold; choose it before you see the grades."),
    ] = ErrorSharing.SHARED,
) -> None:
    """Print the cheapest threshold that holds a limit, and its guarantee. If there is none, print the reason."""
    _check(limit, "--limit")
    _check(certainty, "--certainty")
    settings = Settings()
    if file is None and where:
        raise typer.BadParameter("selects rows of a file, and --file is missing", param_hint="--where")
    direct: Sequence[DirectClass] = ()
    if file is None:
        grades, tried, direct = _of_store(settings, period_s=seconds_in(last), route=route or ALL_ROUTES)
    else:
        grades, tried = _of_file(file, conditions_in(where or ()))
    advice = {
        **_advice(grades, tried, limit=limit, certainty=certainty, test=test),
        "direct_classes": [each.as_facts() for each in direct],
    }
    if json:
        output.print_json(advice)
    else:
        _show(advice)


def _check(value: float, option: str) -> None:
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value:g} is not between 0 and 1", param_hint=option)


def _of_file(file: Path, where: Mapping[str, str]) -> tuple[list[tuple[float, bool]], Thresholds]:
    from cheapdeep_ops.demo.recording import read_recording
    from cheapdeep_ops.guard.backtest.counterfactual import of_recorded

    rows = read_recording(file, where)
    grades = [
        (row.confidence, not row.cheap_correct)
        for row in rows
        if row.confidence is not None and row.cheap_correct is not None
    ]
    return grades, [of_recorded(rows, value) for value in _OF_FILE]


def _of_store(
    settings: Settings, *, period_s: float, route: str
) -> tuple[list[tuple[float, bool]], Thresholds, Sequence[DirectClass]]:
    """Grades of answers that ship at base, the thresholds from base on, and classes for which triage costs more."""
    # Lower thresholds are not tried, because answers below base have no grades.
    from cheapdeep_ops.guard.backtest.counterfactual import TriageCounts, of_stored
    from cheapdeep_ops.guard.backtest.direct_classes import direct_classes
    from cheapdeep_ops.guard.backtest.recommend import evenly_sampled
    from cheapdeep_ops.guard.grading.grader import grader_version
    from cheapdeep_ops.store import counters, grades

    until = time()
    period: dict[str, Any] = {"since": until - period_s, "until": until}
    with opened(settings) as store, store.reading() as connection:
        sums = counters.summed(connection, **period, scope=route)
        graded = grades.confidences(connection, grader_version(settings), **period, scope=route)
        direct = direct_classes(
            counters.grouped(connection, ("route", "input_class"), CLASS_COUNTERS, **period, scope=route)
        )
    counted = TriageCounts(triaged=sums.triaged, confidence=sums.confidence, base_reasons=sums.base_reasons)
    base = settings.base_threshold
    tried = [base, *(value for value in _ABOVE_BASE if value > base)]
    # The guarantee needs grades of equal weight.
    even = evenly_sampled(graded, Random(0))  # noqa: S311 - a sample, no secret
    return even, [of_stored(counted, graded, value, base=base) for value in tried], direct


def _advice(
    grades: Sequence[tuple[float, bool]], tried: Thresholds, *, limit: float, certainty: float, test: ErrorSharing
) -> dict[str, object]:
    from cheapdeep_ops.guard.backtest.recommend import recommended, separates, why_none
    from cheapdeep_ops.guard.statistics.calibration import separation

    values = [row["threshold"] for row in tried]
    wanted: dict[str, Any] = {"thresholds": values, "limit": limit, "certainty": certainty, "test": test}
    choice = recommended(grades, **wanted)
    chosen_row: Mapping[str, Any] = next((row for row in tried if row["threshold"] == choice.threshold), {})
    auroc = separation(grades)
    return {
        "threshold": choice.threshold,
        "limit": limit,
        "certainty": certainty,
        "why": "holds" if choice.threshold is not None else why_none(grades, **wanted),
        "guarantee": _guarantee(choice.threshold, limit=limit, certainty=certainty, test=test),
        "test": test.value,
        "false_confident_rate": choice.shipped.rate if choice.shipped else None,
        "false_confident_interval": choice.shipped.interval() if choice.shipped else None,
        "graded": choice.shipped.n if choice.shipped else 0,
        "escalation_rate": chosen_row.get("escalation_rate"),
        "escalation_interval": chosen_row.get("escalation_interval"),
        "n": len(grades),
        "separates": separates(grades),
        "auroc": auroc[0] if auroc else None,
        "auroc_interval": auroc[1:] if auroc else None,
        "thresholds": list(tried),
    }


def _guarantee(threshold: float | None, *, limit: float, certainty: float, test: ErrorSharing) -> str:
    if threshold is None:
        return ""
    return (
        f"at {threshold:g}, at most {percent(limit)} of the shipped answers are wrong, if they are like those graded; "
        f"this fails in at most {percent(1 - certainty)} of cases (Learn then Test, fallback: {test})"
    )


def _show(advice: Mapping[str, Any]) -> None:
    out = output.console()
    threshold = "none" if advice["threshold"] is None else f"{advice['threshold']:g}"
    out.print(f"threshold {threshold}: {advice['guarantee'] or advice['why']}", markup=False)
    rows = [
        (
            f"{row['threshold']:g}",
            percent(row["escalation_rate"]),
            percent(row["false_confident_rate"]),
            bounds(row["false_confident_interval"] or (0.0, 1.0)),
            str(row["graded"]),
        )
        for row in advice["thresholds"]
    ]
    columns = ("threshold", "escalation", "false-confident rate", "95% interval", "n")
    out.print(output.table("Thresholds", columns, rows))
    if advice["auroc"] is not None:
        low, high = map(two_digits, advice["auroc_interval"])
        auroc = f"{two_digits(advice['auroc'])} ({low} to {high}; 0.5 is chance)"
        out.print(f"confidence separates right from wrong with an AUROC of {auroc}", markup=False)
    if advice["direct_classes"]:
        _show_direct(advice["direct_classes"])


def _show_direct(classes: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            each["route"],
            each["input_class"] or "-",
            f"{each['triaged']:,}",
            f"{percent(each['base_escalation_rate'])} ({bounds(each['base_escalation_interval'])})",
            percent(each["break_even_rate"]),
            exact_money(each["saved_usd_per_call"]),
        )
        for each in classes
    ]
    columns = ("route", "input class", "triaged", "escalate at base", "break even", "saved a call")
    output.console().print(output.table("Cheaper sent straight to the deep tier", columns, rows))

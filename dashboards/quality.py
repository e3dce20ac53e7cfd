"""Whether confident answers are right, whether that has changed, and whether the judge can be believed."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cheapdeep_ops.telemetry import names
from panels import ALL_ROUTES, COUNT, FINE, LIMIT, RED, UNSURE, WITH_INTERVAL, board, lines, one_of, rows, stat_panel
from queries import ALL, ONLY_ROUTES, PERIOD, ROUTE, ROUTE_OR_ALL, SCOPE, counted, gauge

AN_HOUR = 3600
ONE = 'route="$one"'
GRADES = f"{names.FLEET_GRADES}_total"
VERDICTS = counted(names.FLEET_GRADES, by="verdict", labels="route, verdict", where=ROUTE)


def _evidence() -> str:
    evidence = gauge(names.FLEET_EVIDENCE, "rule, scope", where=SCOPE)
    return f"{evidence} / on (rule, scope) ({gauge(names.FLEET_EVIDENCE_LIMIT, 'rule, scope', where=SCOPE)} > 0)"


def _with_interval(rate: str, low: str, high: str) -> dict[str, str]:
    """Of the one route that is chosen."""
    return {key: gauge(name, "route", where=ONE) for key, name in (("rate", rate), ("low", low), ("high", high))}


def _line(value: float, name: str, where: str) -> str:
    """A constant to compare `name` with; without a figure there is no line, so that the panel says why."""
    return f"0 * {gauge(name, '', where=where)} + {value}"


HEADLINES = (
    stat_panel(
        "Top false-confident rate",
        "The highest share of shipped answers that are wrong, of the chosen routes and the calls of 24 hours, in "
        "the judge's eyes and uncorrected. Read it with its interval and what is normal below: of few grades it says "
        "little. Unknown: no grades, or the grader is down.",
        gauge(names.FLEET_FALSE_CONFIDENT, "", where=ROUTE),
        unit="percentunit",
        empty="unknown",
        decimals=1,
    ),
    stat_panel(
        "Grades, 24 hours",
        "How many grades the false-confident rates rest on, of the chosen routes. Below some hundred only a large "
        "climb can be seen; `cheapdeep-ops report` says how soon which one would be.",
        f"sum({gauge(names.FLEET_FALSE_CONFIDENT_GRADES, 'route', where=ROUTE)})",
        unit="locale",
        empty="unknown",
    ),
    stat_panel(
        "Grader",
        "Whether the grader does its work. Down: false confidence is unknown, so its rules neither fire nor let go; "
        "the alert `GraderFailing` and `cheapdeep-ops status` say why. It is also down where grading is off.",
        gauge(names.FLEET_GRADER_UP, ""),
        unit="none",
        empty="no guard seen",
        steps=[(None, "red"), (1, "green")],
        words={0: ("down", "red"), 1: ("up", "green")},
    ),
    stat_panel(
        "Judge: kappa",
        "Agreement of the judge with people beyond chance: 1 is perfect, 0 is what chance alone would give. Below 0.6 "
        "the rates on this board say more about the judge than about the answers: mend its rubric, or take another "
        "model. Its interval is below.",
        gauge(names.FLEET_JUDGE_KAPPA, ""),
        unit="none",
        empty="no labels yet",
        steps=[(None, "red"), (0.4, "orange"), (0.6, "green")],
        decimals=2,
    ),
    stat_panel(
        "Labels",
        "Grades that people have labelled. From 30 of answers judged correct and 20 of those judged incorrect on, the "
        "receipt is corrected for the judge's errors. `cheapdeep-ops review` asks for the next one.",
        f"sum({gauge(names.FLEET_JUDGE_LABELS, 'verdict')})",
        unit="locale",
        empty="no guard seen",
    ),
    stat_panel(
        "Withheld",
        "Calls of the shown period that would have shipped at the base threshold and went on to the deep tier, "
        "because the threshold was higher. That is what raises and pins have cost in deep calls.",
        counted(names.FLEET_WITHHELD, over=PERIOD, function="increase"),
        unit="locale",
        empty="no calls counted",
    ),
)

FALSE_CONFIDENCE = (
    lines(
        "False-confident rate by route",
        "Share of shipped answers that are wrong, calls of the last 24 hours at every point, in the judge's eyes "
        "and uncorrected. A gap: no decided grade in 24 hours, or the grader was down; unknown is never drawn as "
        "zero.",
        {"{{route}}": gauge(names.FLEET_FALSE_CONFIDENT, "route", where=ROUTE)},
        unit="percentunit",
        empty="Unknown: no grades, or the grader is down.",
        low=0,
        many=True,
    ),
    lines(
        "False-confident rate of $one, with its 95% interval and what is normal",
        "The same of one route between its 95% bounds, what was normal when it was learned, and the number of grades "
        "it rests on (right axis). A lower bound above normal is a climb, or will soon be called one; a rate above "
        "normal within a wide band is a hint. Normal is missing until it is learned, from 200 grades.",
        {
            **_with_interval(
                names.FLEET_FALSE_CONFIDENT, names.FLEET_FALSE_CONFIDENT_LOW, names.FLEET_FALSE_CONFIDENT_HIGH
            ),
            "normal": gauge(names.FLEET_NORMAL, "route", where=ONE),
            "grades": gauge(names.FLEET_FALSE_CONFIDENT_GRADES, "route", where=ONE),
        },
        unit="percentunit",
        empty="Unknown: no grades of this route, or the grader is down.",
        low=0,
        looks={**WITH_INTERVAL, "normal": LIMIT, "grades": COUNT},
    ),
    lines(
        "Evidence as a share of the alarm line",
        "How far each sequential test has come: 1 is where its rule fires. Evidence is a logarithm and sinks back to "
        "zero by itself where nothing is wrong, so a line that rises step by step is worth a look before it arrives. "
        "Bursts within a second move it little, by design. What fires goes on rising, out of the panel.",
        {"{{rule}} {{scope}}": _evidence(), "alarm": _line(1, names.FLEET_EVIDENCE, SCOPE)},
        unit="none",
        empty="No evidence known: too few calls and grades yet, or the guard is not scraped.",
        low=0,
        high=2,
        many=True,
        looks={"alarm": LIMIT},
    ),
    lines(
        "Grades per hour by verdict",
        "Gradings by what came of them. `unsure` counts for neither side; all other words but `correct` and "
        "`incorrect` are gradings that failed. Many failures, or none at all while answers ship: see the grader's "
        "alert.",
        {"{{verdict}}": f"{AN_HOUR} * {VERDICTS}"},
        unit="locale",
        empty="Nothing graded yet.",
        every="15m",
        stacked=True,
        low=0,
        decimals=0,
        looks={"correct": FINE, "incorrect": RED, "unsure": UNSURE},
    ),
)

CONFIDENCE = (
    rows(
        "Reliability of $one",
        "What answers claim and how much of it is right, by range of confidence, over the grades of a week; the right "
        "share has its 95% interval. Right far below claimed: the model is too sure of itself there. It is of answers "
        "that ship at the base threshold, so nothing is known below that.",
        {
            "claimed": ("percentunit", gauge(names.FLEET_RELIABILITY_CLAIMED, "confidence", where=ONE)),
            "right": ("percentunit", gauge(names.FLEET_RELIABILITY_RIGHT, "confidence", where=ONE)),
            "low": ("percentunit", gauge(names.FLEET_RELIABILITY_RIGHT_LOW, "confidence", where=ONE)),
            "high": ("percentunit", gauge(names.FLEET_RELIABILITY_RIGHT_HIGH, "confidence", where=ONE)),
            "grades": ("locale", gauge(names.FLEET_RELIABILITY_GRADES, "confidence", where=ONE)),
        },
        by="confidence",
        empty="No grades of this route in a week, or not worked out yet.",
        width=10,
    ),
    rows(
        "What confidence is worth, by route",
        "Over the grades of a week: the AUROC, how surely a right answer claims more than a wrong one (0.5 is "
        "chance), and the expected calibration error, the mean distance between what is claimed and what is right, "
        "both with 95% intervals. An AUROC that may be 0.5: raising the threshold costs money and catches nothing.",
        {
            "AUROC": ("none", gauge(names.FLEET_AUROC, "route", where=ROUTE_OR_ALL)),
            "AUROC low": ("none", gauge(names.FLEET_AUROC_LOW, "route", where=ROUTE_OR_ALL)),
            "AUROC high": ("none", gauge(names.FLEET_AUROC_HIGH, "route", where=ROUTE_OR_ALL)),
            "error": ("percentunit", gauge(names.FLEET_CALIBRATION_ERROR, "route", where=ROUTE_OR_ALL)),
            "error low": ("percentunit", gauge(names.FLEET_CALIBRATION_ERROR_LOW, "route", where=ROUTE_OR_ALL)),
            "error high": ("percentunit", gauge(names.FLEET_CALIBRATION_ERROR_HIGH, "route", where=ROUTE_OR_ALL)),
        },
        by="route",
        empty="No grades in a week, or not worked out yet.",
        width=14,
    ),
    lines(
        "AUROC of confidence of $one, with its 95% interval",
        "How surely a right answer of this route claims more than a wrong one, over the grades of a week at every "
        "point; renewed every few minutes. While the interval holds 0.5, the threshold may be deciding nothing: see "
        "`InertGate` in alerts/README.md.",
        {
            **_with_interval(names.FLEET_AUROC, names.FLEET_AUROC_LOW, names.FLEET_AUROC_HIGH),
            "chance": _line(0.5, names.FLEET_AUROC, ONE),
        },
        unit="none",
        empty="Unknown: this route needs a right and a wrong graded answer.",
        high=1,
        looks={**WITH_INTERVAL, "chance": LIMIT},
    ),
    lines(
        "Calibration error by route",
        "The mean distance between what is claimed and what is right, over the grades of a week at every point. "
        "Chance makes it larger than it is, the more so the fewer grades there are. A step up at one "
        "moment: look for a new prompt or model at that time.",
        {
            "{{route}}": gauge(names.FLEET_CALIBRATION_ERROR, "route", where=ONLY_ROUTES),
            "all routes": gauge(names.FLEET_CALIBRATION_ERROR, "", where=ALL),
        },
        unit="percentunit",
        empty="No grades in a week, or not worked out yet.",
        low=0,
        looks=ALL_ROUTES,
        many=True,
    ),
)

JUDGE = (
    lines(
        "Judge against people: kappa, with its 95% interval",
        "Cohen's kappa of the judge and people over all labels, between its 95% bounds, and how many labels it rests "
        "on (right axis). A wide band asks for more labels; a new grader model or prompt begins anew.",
        {
            "rate": gauge(names.FLEET_JUDGE_KAPPA, ""),
            "low": gauge(names.FLEET_JUDGE_KAPPA_LOW, ""),
            "high": gauge(names.FLEET_JUDGE_KAPPA_HIGH, ""),
            "labels": f"sum({gauge(names.FLEET_JUDGE_LABELS, 'verdict')})",
        },
        unit="none",
        empty="No labels yet: `cheapdeep-ops review` asks for them.",
        looks={**WITH_INTERVAL, "labels": COUNT},
    ),
    lines(
        "Withheld by route",
        "Calls per second that would have shipped at the base threshold and went on to the deep tier. More than "
        "nothing only while a threshold is above the base; how much of it was really wrong, `cheapdeep-ops report` "
        "says.",
        {"{{route}}": counted(names.FLEET_WITHHELD, by="route")},
        unit="suffix: calls/s",
        empty="No calls counted yet.",
        every="5m",
        stacked=True,
        low=0,
        many=True,
    ),
)

BOARD: Dashboard = board(
    "quality",
    "The false-confident rate with its interval and what is normal, the evidence of a climb, what confidence is worth, "
    "and whether the judge can be believed.",
    [*HEADLINES, *FALSE_CONFIDENCE, *CONFIDENCE, *JUDGE],
    variables=[one_of("one", "Details of", f"label_values({GRADES}{{{ROUTE}}}, route)")],
)

"""What routing costs and saves, what triage of escalated calls is thrown away, and what grading costs."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cheapdeep_ops.telemetry import names
from panels import RED, board, lines, rows, stat_panel
from queries import PERIOD, all_deep, cost, counted, escalation_rate, grading, priced, saving, triage, triage_waste

AN_HOUR = 3600
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [10, 10]}}

HEADLINES = (
    stat_panel(
        "Spent on routing",
        "What all priced model calls of the chosen routes cost in the shown period, triage included and grading not. "
        "Unpriced calls are not in it: see their panel below.",
        cost(over=PERIOD, function="increase"),
        unit="currencyUSD",
        empty="no calls counted",
        decimals=2,
    ),
    stat_panel(
        "All-deep estimate",
        "What the same calls would have cost at the deep tier alone, estimated: escalated calls at what the deep tier "
        "really used, less what its cold prompt cache cost; shipped ones from the cheap tier's tokens.",
        all_deep(over=PERIOD, function="increase"),
        unit="currencyUSD",
        empty="no cost estimate",
        decimals=2,
    ),
    stat_panel(
        "Saving",
        "Share of the all-deep estimate that routing saved in the shown period, grading not counted. Red, below zero: "
        "every escalated call pays for its triage as well, and too many escalate.",
        saving(over=PERIOD),
        unit="percentunit",
        empty="no cost estimate",
        steps=[(None, "red"), (0, "green")],
        decimals=1,
    ),
    stat_panel(
        "Saving after grading",
        "The same with the cost of grading taken off. Where it is far below the saving beside it, grading is dear for "
        "this traffic: lower `CHEAPDEEP_SAMPLE_RATE`, or grade in batches at half the price.",
        saving(over=PERIOD, and_grading=True),
        unit="percentunit",
        empty="no cost estimate",
        steps=[(None, "red"), (0, "green")],
        decimals=1,
    ),
    stat_panel(
        "Triage waste",
        "What triage of calls that escalated has cost in the shown period, estimated as if every triage cost the "
        "same. It buys no answer, only the knowledge that one was needed.",
        triage_waste(over=PERIOD, function="increase"),
        unit="currencyUSD",
        empty="no triaged calls",
        decimals=2,
    ),
    stat_panel(
        "Grading cost",
        "What grading has cost in the shown period, by the API's token counts. It is in none of the costs of routing.",
        grading(over=PERIOD, function="increase"),
        unit="currencyUSD",
        empty="nothing graded yet",
        decimals=2,
    ),
)

PER_CALL = (
    lines(
        "Cost per call against all-deep",
        "What a call costs on average, triage included and grading not, against the estimate for sending everything "
        "straight to the deep tier. The distance is the saving. When the lines meet, routing no longer pays: too much "
        "escalates. Unpriced calls are in neither the costs nor the calls. Each point covers at least five minutes.",
        {"routed": f"{cost()} / {priced()}", "all deep (estimate)": f"{all_deep()} / {priced()}"},
        unit="currencyUSD",
        empty="No priced calls in this period.",
        every="5m",
        low=0,
        looks={"all deep (estimate)": DASHED},
    ),
    lines(
        "Cost per call by route",
        "What a call of each route costs on average, grading not counted. A step up while a threshold is raised is "
        "the price of the raise; without one, prompts got longer or more escalates.",
        {"{{route}}": f"{cost(by='route')} / {priced(by='route')}"},
        unit="currencyUSD",
        empty="No priced calls in this period.",
        every="5m",
        low=0,
        many=True,
    ),
    lines(
        "Saving by route",
        "Share of the all-deep estimate that each route saves, grading not counted. A route below zero for long is "
        "better sent straight to the deep tier. A route without calls has a gap here.",
        {"{{route}}": saving(by="route")},
        unit="percentunit",
        empty="No cost estimate in this period.",
        every="5m",
        many=True,
    ),
    lines(
        "Triage waste by route",
        "Share of each route's cost that went into triage of calls that then escalated, estimated as if every triage "
        "cost the same. It grows with escalation and with the length of what is asked: where it is large, a shorter "
        "triage template or no triage for that route saves money.",
        {"{{route}}": f"{triage_waste(by='route')} / on (route) ({cost(by='route')} > 0)"},
        unit="percentunit",
        empty="No triaged calls in this period.",
        every="5m",
        low=0,
        many=True,
    ),
)

SPENDING = (
    lines(
        "Spending per hour by kind",
        "US dollars per hour: triage, everything after it (the deep tier, and calls that never were triaged), and "
        "grading. The sum is what the API bills for the chosen routes, unpriced calls excepted.",
        {
            "triage": f"{AN_HOUR} * {triage()}",
            "after triage": f"{AN_HOUR} * ({cost()} - {triage()})",
            "grading": f"{AN_HOUR} * {grading()}",
        },
        unit="currencyUSD",
        empty="No calls counted yet.",
        every="5m",
        stacked=True,
        low=0,
    ),
    lines(
        "Grading cost per hour by route",
        "US dollars per hour that grading of each route's answers costs. More under suspicion and less in calm is "
        "meant to be; on average it keeps to the sample rate. The limit is `CHEAPDEEP_MAX_GRADER_USD_PER_DAY`.",
        {"{{route}}": f"{AN_HOUR} * {grading(by='route')}"},
        unit="currencyUSD",
        empty="Nothing graded yet.",
        every="15m",
        low=0,
        many=True,
    ),
    rows(
        "Routes, whole period",
        "The shown period by route: calls, escalation, cost, its all-deep estimate and the share saved. The dearest "
        "routes decide what is saved in all; blank cells are unknown, such as the escalation of a route without "
        "triage.",
        {
            "calls": ("locale", counted(names.FLEET_CALLS, by="route", over=PERIOD, function="increase")),
            "escalated": ("percentunit", escalation_rate(base=False, by="route", over=PERIOD)),
            "cost": ("currencyUSD", cost(by="route", over=PERIOD, function="increase")),
            "all deep": ("currencyUSD", all_deep(by="route", over=PERIOD, function="increase")),
            "saved": ("percentunit", saving(by="route", over=PERIOD)),
        },
        by="route",
        empty="No calls counted yet.",
    ),
    lines(
        "Failed and unpriced calls",
        "Calls per minute that ended in an error for the caller, and calls whose cost is not known. Failures: see the "
        "error types on the traces, and the status of the API. Unpriced: a model without a price, or a reply without "
        "usage; the cost figures leave these calls out, so give the model a price.",
        {"failed": f"60 * {counted(names.FLEET_ERRORS)}", "unpriced": f"60 * {counted(names.FLEET_UNPRICED)}"},
        unit="suffix: /min",
        empty="No calls counted yet.",
        every="5m",
        low=0,
        looks={"failed": RED},
    ),
)

BOARD: Dashboard = board(
    "money",
    "What routing costs and saves by route, what triage is thrown away, and what grading costs, in US dollars.",
    [*HEADLINES, *PER_CALL, *SPENDING],
)

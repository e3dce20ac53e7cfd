"""The board that is looked at first: how much escalates, why, and what the guard has done about it."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cheapdeep_ops.telemetry import names
from panels import ALL_ROUTES, COUNT, LIMIT, WITH_INTERVAL, board, lines, one_of, stat_panel, timeline
from queries import (
    ALL,
    CLASS_LABELS,
    ONLY_ROUTES,
    PERIOD,
    ROUTE_OR_ALL,
    SCOPE,
    TRAFFIC,
    any_alert,
    claimed_at_least,
    counted,
    escalation_rate,
    fired,
    gauge,
    quantile,
    saving,
)

STORM = 'rule="EscalationStorm"'
LIMIT_OF_STORM = gauge(names.FLEET_LIMIT, "", where=STORM)
SIGNAL = f'{STORM},scope="$scope"'
REASONS = f"{CLASS_LABELS}, reason"
MODEL = names.GEN_AI_REQUEST_MODEL.replace(".", "_")

HEADLINES = (
    stat_panel(
        "Alerts firing",
        "How many alerts fire now for the chosen routes and for all of them together. Above zero: see which one "
        "below, then the incident in Slack, which has the numbers and the runbook.",
        f"sum({gauge(names.FLEET_ALERT, 'rule, scope', where=SCOPE)})",
        unit="none",
        empty="no guard seen",
        steps=[(None, "green"), (1, "red")],
    ),
    stat_panel(
        "Base escalation",
        "Share of triaged calls in the shown period that would have left the cheap tier at the base threshold. "
        "Raising the threshold does not move it. Above 35% the cheap tier is not up to this traffic: look at what the "
        "escalations are made of.",
        escalation_rate(base=True, over=PERIOD),
        unit="percentunit",
        empty="no triaged calls",
        steps=[(None, "green"), (0.35, "red")],
        decimals=1,
    ),
    stat_panel(
        "Actual escalation",
        "Share of triaged calls in the shown period that went on to the deep tier. While a threshold is raised this "
        "stands above the base rate; that gap is the price of the raise and no storm by itself.",
        escalation_rate(base=False, over=PERIOD),
        unit="percentunit",
        empty="no triaged calls",
        decimals=1,
    ),
    stat_panel(
        "Saving",
        "Share of the estimated all-deep cost that routing saved in the shown period, grading not counted. Below zero "
        "routing costs more than it saves: traffic escalates too much, so send those routes straight to the deep "
        "tier. Calls that failed count with their cost and without an estimate, so failures make it look worse, not "
        "better.",
        saving(over=PERIOD),
        unit="percentunit",
        empty="no cost estimate",
        steps=[(None, "red"), (0, "green")],
        decimals=1,
    ),
    stat_panel(
        "Calls",
        "Calls in the shown period, bypassed ones included. It says how much the shares beside it rest on: below some "
        "hundred calls a share is a hint, not a finding.",
        counted(names.FLEET_CALLS, function="increase", over=PERIOD),
        unit="locale",
        empty="no calls counted",
    ),
    stat_panel(
        "Highest threshold now",
        "The strictest threshold in force among the chosen routes. Orange means above 0.8, the default base: a "
        "guardrail or a person raised it. The policy log of the guard says who and why.",
        gauge(names.FLEET_THRESHOLD, "", where=ROUTE_OR_ALL),
        unit="none",
        empty="no guard seen",
        steps=[(None, "green"), (0.8001, "orange")],
        decimals=2,
    ),
)

GUARDRAIL = (
    timeline(
        "Alerts",
        "Alerts of the chosen routes, and of all routes together (`*`), that fired in the shown period: red while they "
        "did. A gap means that the guard was not there to say. Read it with the threshold beside it: a firing "
        "guardrail raises the threshold of its scope until the cause has ended.",
        {"any alert": any_alert(where=SCOPE), "{{rule}} {{scope}}": fired("rule, scope", where=SCOPE)},
        empty="No alert state: the guard is not scraped, or has not evaluated yet.",
    ),
    lines(
        "Threshold in force by route",
        "The confidence from which an answer of the cheap tier ships. Steps up are raises, by a guardrail or a "
        "person; steps down are releases. The marks across all panels are the same changes. A threshold that stays up "
        "for days: see which cause holds it, or pin it by hand.",
        {
            "{{route}}": gauge(names.FLEET_THRESHOLD, "route", where=ONLY_ROUTES),
            "all routes": gauge(names.FLEET_THRESHOLD, "", where=ALL),
        },
        unit="none",
        empty="No threshold known: the guard is not scraped.",
        stepped=True,
        low=0.5,
        high=1,
        looks=ALL_ROUTES,
        many=True,
    ),
)

ESCALATION = (
    lines(
        "Base escalation rate by route",
        "Share of triaged calls that would have left the cheap tier at the base threshold, whatever is in force: this "
        "is what the storm rule reads. Each point covers at least five minutes, so at low traffic it jumps; trust the "
        "interval in the signal panel. Above the line for long: look at the reasons and the input classes, then mend "
        "the prompt, route that class elsewhere, or accept the cost.",
        {"{{route}}": escalation_rate(base=True, by="route"), "limit": LIMIT_OF_STORM},
        unit="percentunit",
        empty="No triaged calls in this period.",
        every="5m",
        low=0,
        looks={"limit": LIMIT},
        many=True,
    ),
    lines(
        "Actual escalation rate by route",
        "Share of triaged calls that did go on to the deep tier; bypassed calls are not in it. While a threshold is "
        "raised it stands above the base rate, and the distance is what the raise costs. High here and low in base: "
        "the raise does it, no storm. High in both: a storm.",
        {"{{route}}": escalation_rate(base=False, by="route"), "limit": LIMIT_OF_STORM},
        unit="percentunit",
        empty="No triaged calls in this period.",
        every="5m",
        low=0,
        looks={"limit": LIMIT},
        many=True,
    ),
    lines(
        "Storm signal of $scope, with its 95% interval",
        "The base escalation rate as the guard itself measured it for the chosen scope (`*` is all routes), between "
        "its 95% bounds, and the number of calls it rests on (right axis). Only a lower bound above the limit is "
        "evidence of a storm: 7 of 20 is 35% and means 18% to 57%. A wide band asks for patience, not for action.",
        {
            "rate": gauge(names.FLEET_SIGNAL, "scope", where=SIGNAL),
            "low": gauge(names.FLEET_SIGNAL_LOW, "scope", where=SIGNAL),
            "high": gauge(names.FLEET_SIGNAL_HIGH, "scope", where=SIGNAL),
            "calls": gauge(names.FLEET_SIGNAL_CALLS, "scope", where=SIGNAL),
            "limit": LIMIT_OF_STORM,
        },
        unit="percentunit",
        empty="No signal for this scope: too few calls yet, or the guard is not scraped.",
        low=0,
        looks={**WITH_INTERVAL, "calls": COUNT, "limit": LIMIT},
    ),
    lines(
        "Escalations by reason",
        "Why calls left the cheap tier, in calls per second, bypassed ones included. `low_confidence` and "
        "`no_answer`: the questions got harder or the prompt worse. `malformed`, `truncated` or `triage_error`: mend "
        "the integration, the cheap tier was not even heard. `raised_threshold`: answers held back by a raise. "
        "`bypass`: requests that are never triaged, such as those with tools or images.",
        {"{{reason}}": counted(names.FLEET_ESCALATIONS, by="reason", labels=REASONS)},
        unit="suffix: calls/s",
        empty="No escalations in this period.",
        every="5m",
        stacked=True,
        low=0,
        many=True,
    ),
)

TRAFFIC_PANELS = (
    lines(
        "Traffic by route",
        "Calls per second through all routers, bypassed ones included. A route that falls to zero has stopped "
        "calling, or its router no longer reaches the store: see the board on health. One call per minute is 0.017 "
        "here.",
        {"{{route}}": counted(names.FLEET_CALLS, by="route")},
        unit="suffix: calls/s",
        empty="No calls counted yet: no router has written to this store, or the guard is not scraped.",
        every="1m",
        stacked=True,
        low=0,
        many=True,
    ),
    lines(
        "Base escalations by input class",
        "What a storm is made of: calls per second that would have left the cheap tier at the base threshold, by "
        "input class. One class that grows alone names the culprit; all of them together point at the prompt or the "
        "model.",
        {"{{input_class}}": counted(names.FLEET_BASE_ESCALATIONS, by="input_class", labels=REASONS)},
        unit="suffix: calls/s",
        empty="No base escalations in this period.",
        every="5m",
        stacked=True,
        low=0,
        many=True,
    ),
    lines(
        "Confidence of first answers",
        "Share of readable first answers of the chosen routes that claim at least so much; the line of 0.8 is what "
        "ships at the default base threshold. A line that sinks: the questions got harder, or the model or the prompt "
        "has changed. All lines at 100%: confidence decides nothing, see the board on quality. The input class does "
        "not matter here.",
        {
            "0.6 or more": claimed_at_least("0.59"),
            "0.8 or more": claimed_at_least("0.79"),
            "0.9 or more": claimed_at_least("0.89"),
            "0.95 or more": claimed_at_least("0.94"),
            "0.99 or more": claimed_at_least("0.98"),
        },
        unit="percentunit",
        empty="No readable first answers in this period.",
        every="5m",
        low=0,
        high=1,
        width=24,
    ),
)

NO_ROUTER = "No router's own metrics: have routers export OTLP, or scrape them (dashboards/README.md)."

LATENCY = (
    lines(
        "Duration of calls",
        "How long calls of the chosen routes and input classes took from beginning to end, streams to their last "
        "event: half of them at most the lowest line. An escalated call waits for its triage first. Read within "
        "buckets that double, so small differences mean nothing. A dot is a call, and leads to its trace where routers "
        "export OTLP. From the routers' own metrics, not from the guard's page.",
        {
            "p50": quantile(0.5, names.CALL_DURATION, where=TRAFFIC),
            "p95": quantile(0.95, names.CALL_DURATION, where=TRAFFIC),
            "p99": quantile(0.99, names.CALL_DURATION, where=TRAFFIC),
        },
        unit="s",
        empty=NO_ROUTER,
        every="5m",
        exemplars=True,
        low=0,
    ),
    lines(
        "Duration of model calls, p95",
        "Within what time 95% of the calls to each model came back, failed ones too, of all routes whatever is chosen "
        "above. A cheap model that comes near the deep one: triage costs more time than it is worth. From the routers' "
        "own metrics.",
        {"{{gen_ai_request_model}}": quantile(0.95, names.OPERATION_DURATION, by=MODEL)},
        unit="s",
        empty=NO_ROUTER,
        every="5m",
        exemplars=True,
        low=0,
    ),
    lines(
        "Overhead of routing",
        "What the router itself adds to a call, outside of its model calls, of all routes whatever is chosen above. "
        "Below a millisecond is healthy. More: the process has too little CPU, or its event loop is blocked. From the "
        "routers' own metrics.",
        {"p50": quantile(0.5, names.OVERHEAD_DURATION), "p99": quantile(0.99, names.OVERHEAD_DURATION)},
        unit="s",
        empty=NO_ROUTER,
        every="5m",
        exemplars=True,
        low=0,
        width=24,
    ),
)

BOARD: Dashboard = board(
    "routing",
    "Traffic, escalation, confidence and thresholds of cheap-then-deep routing, from one scrape target: the guard's "
    "/metrics. Durations are from the routers' own metrics.",
    [*HEADLINES, *GUARDRAIL, *ESCALATION, *TRAFFIC_PANELS, *LATENCY],
    variables=[one_of("scope", "Signal of", f"label_values({names.FLEET_SIGNAL}{{{STORM}}}, scope)")],
)

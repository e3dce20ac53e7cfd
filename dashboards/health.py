"""Whether the guard, its grader, its messages and the routers' records do their work."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from cheapdeep_ops.telemetry import names
from panels import ALL_ROUTES, COUNT, FINE, RED, board, lines, stat_panel, timeline
from queries import ONLY_ROUTES, PERIOD, WINDOW, any_alert, counted, fired, gauge

AN_HOUR = 3600
NO_GUARD = "no guard seen"
AGE = f"time() - max(last_over_time({names.FLEET_LAST_EVALUATION}[1h]) > 0)"
DROPPED = f"{names.FLEET_DROPPED}_total"
LATE = f"{names.FLEET_LATE}_total"
NOTHING_FIRED = "No alert has fired in this period, or no guard is there to say: the panel above knows which."
ROUTES_AT = f'count_values("threshold", {gauge(names.FLEET_THRESHOLD, "route", where=ONLY_ROUTES)})'
MESSAGES = counted(names.FLEET_NOTIFICATIONS, by="outcome", labels="outcome", where="")
JOBS = counted(names.FLEET_JOBS, by="task, outcome", labels="task, outcome", where="")

HEADLINES = (
    stat_panel(
        "Age of last evaluation",
        "Seconds since the guard last ran its rules, with the age of the last scrape in it; it goes on growing for an "
        "hour after a guard has gone. Green is a watched fleet. Red: nobody watches and thresholds are neither raised "
        "nor released, so start the guard (`cheapdeep-ops serve`) or read its log. Calls are still answered.",
        AGE,
        unit="s",
        empty="no guard for an hour",
        steps=[(None, "green"), (90, "orange"), (300, "red")],
        unknown="red",
    ),
    stat_panel(
        "Guards seen",
        "Guard processes that have shown themselves in the last minute. One is enough; of several, one acts and the "
        "others stand by.",
        gauge(names.FLEET_GUARDS, ""),
        unit="none",
        empty=NO_GUARD,
        steps=[(None, "red"), (1, "green")],
        unknown="red",
    ),
    stat_panel(
        "Routers seen",
        "Router processes that have shown themselves in the guard's store of late. Fewer than you run: some write to "
        "another database, cannot reach this one, or have had no traffic.",
        gauge(names.FLEET_ROUTERS, ""),
        unit="none",
        empty=NO_GUARD,
        steps=[(None, "red"), (1, "green")],
    ),
    stat_panel(
        "Pending messages",
        "Messages that wait for Slack. A few for a moment are normal; a number that stays or grows means that Slack "
        "refuses them or cannot be reached, and that nobody is being told. Check the token and the channel with "
        "`cheapdeep-ops alert test`.",
        gauge(names.FLEET_PENDING_NOTIFICATIONS, ""),
        unit="none",
        empty=NO_GUARD,
        steps=[(None, "green"), (5, "orange"), (20, "red")],
    ),
    stat_panel(
        "Decisions dropped",
        "Decisions that routers could not record in the shown period because their buffers were full. The calls were "
        "answered, but every figure here is short by as many. Above zero: the store is slow or away.",
        f"max(increase({DROPPED}[{PERIOD}]))",
        unit="locale",
        empty=NO_GUARD,
        steps=[(None, "green"), (1, "red")],
    ),
    stat_panel(
        "Oldest sample waits",
        "How long the oldest sample waits for its grade. Up to a few minutes is normal, and up to a day where grading "
        "goes by batch. Longer: the daily limit of cost is reached, or `CHEAPDEEP_GRADE_CONCURRENCY` is too small.",
        gauge(names.FLEET_OLDEST_WAIT, ""),
        unit="s",
        empty=NO_GUARD,
        steps=[(None, "green"), (AN_HOUR, "orange"), (24 * AN_HOUR, "red")],
    ),
)

GUARDRAIL = (
    timeline(
        "Alerts of all scopes",
        "Every alert that fired in the shown period, of all routes whatever is chosen above: red while it did; a gap "
        "means that no guard was there to say. `RouterSilent`, `RouterOutdated`, "
        "`RecorderDropping`, `LabelsFolded`, `NotificationsFailing`, `SchedulerStalled`, `ClockSkewed`, "
        "`GraderFailing` and `SchemaChanged` are about the watching itself; each has its heading in alerts/README.md.",
        {"any alert": any_alert(), "{{rule}} {{scope}}": fired("rule, scope")},
        empty="No alert state: the guard is not scraped, or has not evaluated yet.",
        width=24,
    ),
    lines(
        "Alerts firing by rule",
        "How many scopes each rule fires for. Many routes at once point at what they share: the model, the prompt, "
        "the API.",
        {"{{rule}}": f"sum by (rule) ({fired('rule, scope')})"},
        unit="none",
        empty=NOTHING_FIRED,
        stacked=True,
        stepped=True,
        low=0,
        decimals=0,
    ),
    lines(
        "Routes by threshold in force",
        "How many of the chosen routes are decided at which threshold: above the base are the raised ones and those "
        "that a person has pinned. Routes that stay up for days without an alert: see who pinned them, or what holds "
        "them.",
        {"{{threshold}}": ROUTES_AT},
        unit="none",
        empty="No threshold known: no route has called yet, or the guard is not scraped.",
        stacked=True,
        stepped=True,
        low=0,
        decimals=0,
    ),
    lines(
        "Policy changes",
        "Raises, releases, pins and their ends within the step, by scope. A threshold that goes up "
        "and down all day sits on its limit: set another one, or pin it.",
        {
            "{{scope}}": f'max by (scope) (changes({names.FLEET_POLICY_VERSION}{{scope!="*"}}[{WINDOW}]))',
            "all routes": f'max(changes({names.FLEET_POLICY_VERSION}{{scope="*"}}[{WINDOW}]))',
        },
        unit="none",
        empty="No policy known: the guard is not scraped.",
        every="5m",
        bars=True,
        low=0,
        decimals=0,
        looks=ALL_ROUTES,
        many=True,
    ),
)

PIPELINE = (
    lines(
        "Messages by outcome",
        "Attempts to deliver a message per hour. Failures that go on mean that nobody is told: Slack is away, or "
        "refuses the token or the channel. Messages wait in order and are sent when it is mended.",
        {"{{outcome}}": f"{AN_HOUR} * {MESSAGES}"},
        unit="suffix: /h",
        empty="No guard seen.",
        every="5m",
        low=0,
        looks={"failed": RED, "delivered": FINE},
    ),
    timeline(
        "Grader",
        "Whether the grader does its work; down it fails, is paused or is off. While it is down, the rules on false "
        "confidence neither fire nor let go.",
        {"grader": gauge(names.FLEET_GRADER_UP, "")},
        empty="No guard seen.",
        words={0: ("down", "red"), 1: ("up", "green")},
        width=24,
        height=5,
    ),
    lines(
        "Samples that wait for a grade",
        "How many samples wait, and how long the oldest of them has (right axis). A queue that only grows: the grader "
        "fails, is paused, or has spent its daily limit; rates are then unknown, not old.",
        {"samples": gauge(names.FLEET_SAMPLES_WAITING, ""), "oldest": gauge(names.FLEET_OLDEST_WAIT, "")},
        unit="short",
        empty="No guard seen.",
        low=0,
        looks={"oldest": {**COUNT, "unit": "s"}},
    ),
    lines(
        "Jobs by outcome",
        "How often per minute each job of the guard ended in which way. Steady is healthy. An outcome other than "
        "`done` that stays is for the guard's log; jobs that stop altogether mean that the guard hangs.",
        {"{{task}} {{outcome}}": f"60 * {JOBS}"},
        unit="suffix: /min",
        empty="No guard work seen: the guard is not scraped.",
        every="5m",
        low=0,
    ),
    lines(
        "Dropped, late and failed",
        "Decisions per minute that were not recorded, calls that came too late to count, and calls that ended in an "
        "error for the caller. All are zero in a healthy fleet. Dropped ones: the store is slow or out of reach. Late "
        "ones: a router was silent for so long that the guard had closed its seconds. Failed ones: the status of the "
        "API, and the error types on the traces.",
        {
            "dropped": f"60 * max(rate({DROPPED}[{WINDOW}]))",
            "late": f"60 * max(rate({LATE}[{WINDOW}]))",
            "failed": f"60 * {counted(names.FLEET_ERRORS)}",
        },
        unit="suffix: /min",
        empty="No calls counted yet.",
        every="5m",
        low=0,
        looks={"failed": RED},
    ),
    lines(
        "Watchers",
        "Guards and routers that have shown themselves in the last minute. A router that goes without signing off is "
        "told as `RouterSilent`; a step down at a deployment that comes back is fine.",
        {"guards": gauge(names.FLEET_GUARDS, ""), "routers": gauge(names.FLEET_ROUTERS, "")},
        unit="none",
        empty="No guard seen.",
        stepped=True,
        low=0,
        decimals=0,
    ),
)

BOARD: Dashboard = board(
    "health",
    "Guardrail and pipeline: alerts and raises, grading, messages, recording, and whether anyone watches.",
    [*HEADLINES, *GUARDRAIL, *PIPELINE],
)

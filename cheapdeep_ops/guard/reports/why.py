"""Why the rules fire in a route, or do not: an evaluation of that moment, of which nothing is stored."""

from dataclasses import replace
from typing import Final, NamedTuple

from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.incidents.evaluation import Evaluation
from cheapdeep_ops.guard.incidents.stored import alert_of
from cheapdeep_ops.guard.report_types.why import RuleProgress, Why
from cheapdeep_ops.guard.rules.book import Rulebook, read_rulebook
from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.guard.rules.kinds import kind_of
from cheapdeep_ops.guard.rules.model import AlertState, Finding, Level, Rule
from cheapdeep_ops.guard.rules.progress import Pace, of_finding
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, grades, incidents, policies
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.records import StoredAlert
from cheapdeep_ops.units import DAY_S, HOUR_S
from cheapdeep_ops.values import ALL_ROUTES


def why(store: Store, settings: Settings, *, route: str, now: float) -> Why:
    """How far each rule is from firing in `route` at `now` (Unix time).

    Rules on routes are evaluated; the others are shown as the guard last found them. Raises StoreError, or RulesError
    if the rules file is faulty.
    """
    rules = read_rulebook(settings.rules_file).rules
    measured = [rule for rule in rules if kind_of(rule).progress is not of_finding]
    # While one that holds grades fires, rules on grades do not read them.
    evaluated = tuple(rule for rule in rules if rule in measured or rule.holds_grades_s)
    with store.snapshot() as connection:
        evaluation = Evaluation(
            connection, settings=settings, rulebook=Rulebook(rules=evaluated),
            cache=GradeCache(grader_version(settings)), now=now, started_at=now, only={route, ALL_ROUTES},
        )  # fmt: skip
        stored = {(row["rule"], row["scope"]): row for row in incidents.alerts(connection)}
        paces = {scope: _pace(connection, scope, now) for scope in (route, ALL_ROUTES)}
        book = policies.read_book(connection, base=settings.base_threshold, raised=settings.raised_threshold)
    evaluation.run()
    found = {
        (update.rule.alert, update.alert.scope): _Found(update.alert.state, update.finding)
        for update, _ in evaluation.updates
        if update.rule in measured
    }
    progress: list[RuleProgress] = []
    for rule in rules:
        for scope in dict.fromkeys((route, ALL_ROUTES)):
            of_scope = found.get((rule.alert, scope)) or _as_stored(rule, stored.get((rule.alert, scope)))
            # A rule without data in a route waits for it.
            if of_scope is None and rule in measured and scope == route != ALL_ROUTES:
                of_scope = _Found(AlertState.INACTIVE, Finding(level=Level.NO_DATA))
            if of_scope is not None:
                progress.append(_progress(rule, scope, of_scope, paces[scope]))
    policy = book.for_route(route)
    return {
        "at": now,
        "route": route,
        "threshold": policy.threshold,
        "pin": policy.threshold if policy.pinned else None,
        "mode": settings.mode,
        "has_data": paces[route].calls > 0 or paces[route].known_grades > 0 or route in book.scopes,
        "rules": progress,
    }


_UNTIL: Final = {
    Level.UNCLEAR: "It fires until there is enough evidence that the rate is back.",
    Level.BELOW: "The rate is back, so it resolves after its hold time.",
}
"""What a firing rule waits for, by what it finds."""


class _Found(NamedTuple):
    state: AlertState
    finding: Finding


def _as_stored(rule: Rule, row: StoredAlert | None) -> _Found | None:
    """The last finding of a rule that is not evaluated here; None if there is none."""
    if row is None or kind_of(rule).progress is not of_finding:
        return None
    return _Found(alert_of(row).state, Finding(level=Level(row["level"]), signal=row["signal"]))


def _progress(rule: Rule, scope: str, found: _Found, pace: Pace) -> RuleProgress:
    finding = found.finding
    progress = kind_of(rule).progress(rule, finding, pace)
    if found.state is AlertState.FIRING and finding.level in _UNTIL:
        progress = replace(progress, missing=_UNTIL[finding.level], wait_s=None, example="", needed=progress.have)
    evidence, limit = finding.signal.get("evidence"), finding.signal.get("evidence_limit")
    return {
        "rule": rule.alert,
        "scope": scope,
        "state": found.state.value,
        "level": finding.level.value,
        "found": progress.found,
        "evidence": None if evidence is None else float(evidence),
        "evidence_limit": None if limit is None else float(limit),
        "unit": progress.unit,
        "have": progress.have,
        "needed": progress.needed,
        "missing": progress.missing,
        "wait_s": progress.wait_s,
        "example": progress.example,
    }


def _pace(connection: Connection, scope: str, now: float) -> Pace:
    """The pace of the last hour's calls, or of a day's if that hour had none. The pace of grades is that of a day."""
    hour, day = (
        counters.sums_of(connection, ("triaged",), since=now - length, until=now, scope=scope)["triaged"]
        for length in (HOUR_S, DAY_S)
    )
    graded, known = grades.graded_by_route(connection, since=now - DAY_S), grades.counts(connection)
    is_all = scope == ALL_ROUTES
    return Pace(
        calls=hour / HOUR_S if hour else day / DAY_S,
        grades=(sum(graded.values()) if is_all else graded.get(scope, 0)) / DAY_S,
        known_grades=sum(known.values()) if is_all else known.get(scope, 0),
    )

"""What must be true after a run, by the logs of the simulated servers and of the services, and by the database."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.world import FLUSH_S, LIFE, World

_SLACK_S = 1.0
"""What a killed service may lose beside one flush: calls under way, and a write under way."""


@dataclass
class Findings:
    """The figures of a run, and what is wrong with it."""

    figures: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def check(self, holds: object, text: str) -> None:
        if not holds:
            self.wrong.append(text)


def audit(world: World) -> Findings:
    found = Findings()
    _calls(world, found)
    _messages(world, found)
    _policies(world, found)
    _grades(world, found)
    return found


def _calls(world: World, found: Findings) -> None:
    logged = list(world.calls())
    failed = [each for each in logged if "error" in each[2]]
    found.check(not failed, f"{len(failed)} calls failed, such as {failed[:1]}")
    took = sorted(each["ended"] - each["begun"] for _, _, each in logged)
    found.figures["calls"] = len(logged)
    found.figures["p50_ms"] = round(1e3 * statistics.median(took), 1)
    found.figures["p99_ms"] = round(1e3 * took[int(0.99 * len(took))], 1)
    # A service that is killed may have asked for an answer that it never logged, and may have counted it.
    asked: dict[tuple[str, int], set[int]] = defaultdict(set)
    for request in world.api.requests:
        if request.is_triage:
            number = _number(request.question)
            asked[f"service{number // LIFE // 100}", number // LIFE % 100].add(number)
    by_life: dict[tuple[str, int], list[float]] = defaultdict(list)
    for name, life, call in logged:
        by_life[name, life].append(call["ended"])
    killed = {(each.name, each.life): each.at for each in world.killed}
    least = most = 0
    for key in asked.keys() | by_life.keys():
        at = killed.get(key)
        ended = by_life[key]
        least += len(ended) if at is None else sum(each < at - FLUSH_S - _SLACK_S for each in ended)
        most += len(asked[key])
    counted = sum(row["calls"] for row in world.rows("SELECT calls FROM total"))
    found.figures.update(asked=most, counted=counted, certain=least, services_killed=len(killed))
    found.check(least <= counted <= most, f"{counted} calls were counted, at least {least} and at most {most} expected")
    # A second is in `bucket` until it is folded into the rows of its second, minute, hour and day.
    folded = "SELECT calls FROM rollup WHERE width_s = 86400 AND route <> '*'"
    by_second = world.rows(
        f"SELECT coalesce(sum(calls), 0) AS n FROM (SELECT calls FROM bucket UNION ALL {folded}) AS c"
    )
    found.check(by_second[0]["n"] == counted, f"seconds add up to {by_second[0]['n']}, totals to {counted}")
    late = world.rows("SELECT coalesce(sum(late), 0) AS n, coalesce(sum(dropped), 0) AS dropped FROM process")[0]
    found.figures.update(late=int(late["n"]), dropped=int(late["dropped"]))
    found.check(
        not late["n"] and not late["dropped"], f"{late['n']} calls came too late, {late['dropped']} were dropped"
    )


def _number(question: str) -> int:
    return max(int(word) for word in "".join(each if each.isdigit() else " " for each in question).split())


def _messages(world: World, found: Findings) -> None:
    incidents = world.rows("SELECT id, rule, scope, resolved_at FROM incident ORDER BY id")
    found.figures["incidents"] = len(incidents)
    found.check(bool(incidents), "no incident began: the run shows nothing")
    open_ones = [each["id"] for each in incidents if each["resolved_at"] is None]
    found.check(not open_ones, f"incidents {open_ones} never ended")
    known = {each["id"] for each in incidents}
    posts = [each for each in world.slack.posts if "EscalationStorm" in each.text]
    messages = Counter(each.metadata.get("event_payload", {}).get("incident_id") for each in posts)
    lines = Counter(_digest_lines(world))
    found.figures.update(messages=messages.total(), digest_lines=lines.total())
    twice = [each for counts in (messages, lines) for each, times in counts.items() if times > 1]
    found.check(not twice, f"incidents {twice} have two messages, or two lines of a digest")
    # An incident that began and ended while its messages did not arrive has no message, but a line of a digest.
    untold = known - messages.keys() - lines.keys()
    found.check(not untold, f"incidents {sorted(untold)} have neither a message nor a line of a digest")
    strange = [each.text for each in posts if each.metadata.get("event_payload", {}).get("incident_id") not in known]
    found.check(not strange, f"messages of no incident: {strange}")
    red = [each.text for each in posts if "resolved" not in each.text]
    found.check(not red, f"messages that do not say that it is over: {red}")
    waited = world.rows("SELECT max(delivered_at - since) AS s FROM delivery WHERE state = 'delivered'")[0]["s"]
    found.figures["longest_wait_s"] = None if waited is None else round(waited, 1)


def _digest_lines(world: World) -> Iterator[int]:
    """The incidents that the digests in Slack tell of."""
    shown = [each.metadata.get("event_payload", {}).get("delivery_id") for each in world.slack.posts]
    sent = world.rows("SELECT d.delivery_id, o.payload FROM delivery d JOIN outbox o ON o.id = d.message_id")
    for each in sent:
        if each["delivery_id"] in shown and each["payload"]["kind"] == "digest":
            yield from (item["incident_id"] for item in each["payload"]["items"])


def _policies(world: World, found: Findings) -> None:
    changes = world.rows("SELECT scope, act, cause FROM policy_change WHERE applied ORDER BY version")
    found.figures["policy_changes"] = len(changes)
    last: dict[tuple[str, str], str] = {}
    for each in changes:
        key = each["scope"], each["cause"]
        found.check(last.get(key) != each["act"], f"{each['act']} of {key} is there twice in a row")
        last[key] = each["act"]
    for key, act in last.items():
        found.check(act == "release", f"the raise of {key} was never released")


def _grades(world: World, found: Findings) -> None:
    grades = Counter(row["call_id"] for row in world.rows("SELECT call_id FROM grade WHERE verdict IS NOT NULL"))
    twice = [call for call, times in grades.items() if times > 1]
    found.check(not twice, f"{len(twice)} calls have two grades, such as {twice[:1]}")
    requests = Counter(each.graded_answer for each in world.api.requests if each.is_grading)
    found.figures.update(grades=len(grades), grading_requests=requests.total())
    counted = world.rows("SELECT coalesce(sum(count), 0) AS n FROM grade_total")[0]["n"]
    stored = world.rows("SELECT count(*) AS n FROM grade")[0]["n"]
    found.check(counted == stored, f"{stored} grades are stored, totals say {counted}")

"""Scripted storms with a known culprit, through the real tally, store and attribution.

As a script it prints one table: `python tests/bench/cause.py`.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cheapdeep_ops.guard.rules.escalation.explanation import storm_cause
from cheapdeep_ops.recorder.counter_buffer import CounterBuffer
from cheapdeep_ops.store import recording
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.values import Decision, Hop, Name, Outcome, Reason, Tier

BEGIN = 1_800_000_000
BEFORE_S, WINDOW_S, APART_S = 3_600, 300, 2 * 86_400
EVERY_S = 30
"""Calls come in seconds this far apart, so that a storm takes no second to play."""

CALM, DURING = 24, 40
"""Calls in each of those seconds: 2880 in the hour before, 400 in the storm's window."""

REASONS = (Reason.LOW_CONFIDENCE, Reason.NO_ANSWER, Reason.MALFORMED, Reason.TRUNCATED, Reason.REFUSAL)
WEIGHTS = (60, 22, 8, 6, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Shares of (route, input class), and what is so of the calls at one time."""

    shares: dict[tuple[str, str], float]
    rates: dict[tuple[str, str], float]
    model: str = "claude-haiku-4-5"
    prompt: str = "aaaa1111"
    policy: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call before it is known whether it escalates."""

    cell: tuple[str, str]
    model: str
    prompt: str
    policy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """A change that begins with the window, and what should be named."""

    dimension: str
    element: str
    kind: str
    shares: Callable[[Traffic, random.Random], dict[tuple[str, str], float]] = lambda traffic, _rng: traffic.shares
    call: Callable[[Call, random.Random], Call] = lambda call, _rng: call
    is_hit: Callable[[Call], bool] = lambda _call: False
    rate: float = 0.0
    reason: Reason | None = None
    scope: str = "*"


def ordinary(rng: random.Random) -> Traffic:
    """Three routes with three or four classes each, one of which some share, each with a rate and share of its own."""
    cells = [(f"route-{r}", f"class-{r}{c}") for r in "abc" for c in range(rng.randint(2, 3))]
    cells += [(f"route-{r}", "general") for r in "abc"]
    shares = {cell: rng.uniform(0.4, 1.6) for cell in cells}
    rates = {cell: rng.uniform(0.02, 0.2) for cell in cells}
    hard = rng.choice(cells[:-3])
    return Traffic(
        shares={**shares, hard: 0.4}, rates={**rates, hard: 0.65},
        model="claude-haiku-4-5", prompt="aaaa1111", policy=7,
    )  # fmt: skip


def storms(traffic: Traffic, rng: random.Random) -> dict[str, Storm]:
    """One storm of each sort for this traffic."""
    easy = [cell for cell in traffic.shares if cell[1] != "general" and traffic.rates[cell] < 0.5]
    hard = next(cell for cell in traffic.shares if traffic.rates[cell] > 0.5)
    cell = max(easy, key=lambda each: traffic.shares[each])
    route, rate = rng.choice("abc"), rng.uniform(0.45, 0.7)
    through = rng.choice((0.6, 0.8, 1.0))
    return {
        "class": Storm(
            dimension="input class", element=cell[1], kind="got worse", is_hit=lambda call: call.cell == cell,
            rate=rng.uniform(0.7, 1.0), reason=rng.choice((None, *REASONS)), scope=rng.choice(("*", cell[0])),
        ),
        "route": Storm(
            dimension="route", element=f"route-{route}", kind="got worse", rate=rate,
            is_hit=lambda call: call.cell[0] == f"route-{route}",
        ),
        "reason": Storm(
            dimension="reason", element="malformed", kind="got worse", rate=rate, is_hit=lambda _call: True,
            reason=Reason.MALFORMED,
        ),
        "model": _versions("model", "model", "claude-haiku-4-6", rate, through),
        "prompt": _versions("prompt", "prompt version", "bbbb2222", rate, through),
        "policy": _versions("policy", "policy version", 8, rate, through),
        "mix": Storm(
            dimension="input class", element=hard[1], kind="mix changed",
            shares=lambda found, _rng: {**found.shares, hard: 0.8 * sum(found.shares.values())},
        ),
    }  # fmt: skip


def _versions(field: str, dimension: str, new: str | int, rate: float, through: float) -> Storm:
    """A new version that takes over so many of all calls, of every class."""
    return Storm(
        dimension=dimension,
        element=str(new),
        kind="got worse",
        rate=rate,
        call=lambda call, rng: replace(call, **{field: new}) if rng.random() < through else call,
        is_hit=lambda call: getattr(call, field) == new,
    )


Rows = list[dict[str, Any]]


def played(traffic: Traffic, storm: Storm, rng: random.Random, *, begin: int) -> tuple[Rows, Rows]:
    """An hour of ordinary traffic and one window of storm, as the rows that a router would store."""
    ledger = CounterBuffer(capacity=10**6)
    changes = begin + BEFORE_S
    for at in range(begin, changes + WINDOW_S, EVERY_S):
        now = storm if at >= changes else None
        for call in _calls(traffic, now, rng, DURING if now else CALM):
            decision = _decided(call, traffic, now, rng, at)
            ledger.add(decision, Name(decision.route, decision.input_class), at=at)
    return ledger.rows(ledger.everything(), "router")


def _calls(traffic: Traffic, storm: Storm | None, rng: random.Random, many: int) -> Iterator[Call]:
    shares = storm.shares(traffic, rng) if storm else traffic.shares
    for cell in rng.choices(list(shares), weights=list(shares.values()), k=many):
        call = Call(cell=cell, model=traffic.model, prompt=traffic.prompt, policy=traffic.policy)
        yield storm.call(call, rng) if storm else call


def _decided(call: Call, traffic: Traffic, storm: Storm | None, rng: random.Random, at: int) -> Decision:
    reason = rng.choices(REASONS, weights=WEIGHTS)[0] if rng.random() < traffic.rates[call.cell] else None
    if storm and storm.is_hit(call) and rng.random() < storm.rate:
        reason = storm.reason or rng.choices(REASONS, weights=WEIGHTS)[0]
    tier = Tier(model=call.model, index=0, is_deep=False)
    outcome = Outcome.ESCALATE if reason else Outcome.SHIP
    return Decision(
        call_id="id", route=call.cell[0], input_class=call.cell[1], tier=0, model=call.model, confidence=None,
        threshold=0.8, policy_version=call.policy, escalated=reason is not None, reason=reason, bypass_cause=None,
        base_outcome=outcome, base_reason=reason, cost_usd=None, triage_cost_usd=None, baseline_cost_usd=None,
        baseline_basis="", started_at=float(at), duration_s=0.0, triage_duration_s=0.0,
        hops=(Hop(tier=tier, usage=None, cost_usd=None),), prompt_version=call.prompt,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was named of a storm, and what should have been."""

    sort: str
    storm: Storm
    cause: dict
    escalation: float

    @property
    def is_right(self) -> bool:
        """Whether the culprit is named first."""
        return (self.cause["dimension"], self.cause["element"]) == (self.storm.dimension, self.storm.element)

    @property
    def is_right_kind(self) -> bool:
        """Whether the mix is told apart from what got worse as well."""
        return self.is_right and self.cause["kind"] == self.storm.kind


def answers(store: Store, *, many: int = 50, seed: int = 1) -> Iterator[Answer]:
    """So many storms, the sorts in turn, days apart so that none is another's past."""
    for number in range(many):
        rng = random.Random(f"{seed}:{number}")
        traffic = ordinary(rng)
        sorts = storms(traffic, rng)
        sort = list(sorts)[number % len(sorts)]
        begin = BEGIN + number * APART_S
        rows = played(traffic, sorts[sort], rng, begin=begin)
        store.transact(recording.prepare_counters(buckets=rows[0], totals=rows[1]))
        seen = float(begin + BEFORE_S + WINDOW_S)
        with store.reading() as connection:
            cause = storm_cause(connection, scope=sorts[sort].scope, started_at=seen, long_s=WINDOW_S, now=seen)
        yield Answer(sort=sort, storm=sorts[sort], cause=cause, escalation=cause["now"]["rate"] or 0.0)


def table(found: list[Answer]) -> str:
    """One line per sort: how many, named first, of the right kind, and the rate of the storms."""
    sorts: Counter[str] = Counter(each.sort for each in found)
    lines = ["| culprit | storms | named first | and right kind | base escalation |", "|---|---|---|---|---|"]
    for sort, many in sorts.items():
        of = [each for each in found if each.sort == sort]
        rates = [each.escalation for each in of]
        right, kind = sum(each.is_right for each in of), sum(each.is_right_kind for each in of)
        lines.append(f"| {sort} | {many} | {right} | {kind} | {min(rates):.0%} to {max(rates):.0%} |")
    right, kind = sum(each.is_right for each in found), sum(each.is_right_kind for each in found)
    return "\n".join([*lines, f"| all | {len(found)} | {right} | {kind} | |"])


def main() -> None:
    """Print the table, and what was said where it was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'bench.db'}")
        migrate(store)
        found = list(answers(store))
        store.close()
    print(table(found))
    for each in found:
        if not each.is_right_kind:
            print(
                each.sort, each.storm.element, "->", each.cause["kind"], each.cause["dimension"], each.cause["element"]
            )


if __name__ == "__main__":
    main()

"""Whether routers, recorders, messages, models, schema and the guard itself are healthy; pure.

`no_data` is a level of its own: it neither fires nor resolves an alert. Times are Unix seconds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cheapdeep_ops.guard.formatting import duration, skew_text, waiting_time
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.rules.rule_text import Signal
from cheapdeep_ops.store.clock import SKEW_S
from cheapdeep_ops.units import DAY_S

_SILENT_S: Final = 30.0
_SILENT_FLUSHES: Final = 10
FORGOTTEN_S: Final = 1.0 * DAY_S
"""How long a router that has stopped counts as missing."""

_FOLLOWS_S: Final = 30.0
"""How long a router may take to follow a change; it looks three times a second and reports every ten seconds."""

_DROPPED_LATELY_S: Final = 300.0
_FOLDED_LATELY_S: Final = 3_600.0
_WAITS_S: Final = 120.0
_ATTEMPTS: Final = 3
_GAP_EVALUATIONS: Final = 6
"""A guard that takes over from one that was killed evaluates within two intervals and 5 s."""

_GAP_S: Final = 60.0
_RETIRES_S: Final = 60.0 * DAY_S
_CHECKED_S: Final = 7.0 * DAY_S
"""How long an answer of the API about a model is valid; a job asks every day."""

_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterHeartbeat:
    """The last heartbeat of a router that has not signed off."""

    process: str
    name: str
    seen_at: float
    base_threshold: float
    policy_version: int
    dropped: int
    host: str = ""
    clock_ahead_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The routers seen within a day, and the policy that they should follow.

    `is_known` says whether there has ever been a router. `newest` is the newest change of policy, made at `newest_at`.
    """

    heartbeats: Collection[RouterHeartbeat]
    is_known: bool
    base_threshold: float
    flush_every_s: float
    newest: int = 0
    newest_at: float = 0.0

    def alive(self, now: float) -> list[RouterHeartbeat]:
        """The routers with a recent heartbeat."""
        return [each for each in self.heartbeats if now - each.seen_at <= self.patience_s]

    def silent(self, now: float) -> list[RouterHeartbeat]:
        """The routers whose last heartbeat is too old, and less than a day old."""
        return [each for each in self.heartbeats if self.patience_s < now - each.seen_at <= FORGOTTEN_S]

    @property
    def patience_s(self) -> float:
        """How long a router may go without a heartbeat, in seconds."""
        return max(_SILENT_S, _SILENT_FLUSHES * self.flush_every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """The messages that wait: the time of the oldest, and the attempts; `is_used` if there has ever been a message.

    `refusal` is why a receiver rejected its last message for good.
    """

    is_used: bool
    waiting: int
    oldest: float | None
    attempts: int
    error: str
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLifecycle:
    """The last answer of the API about a model; `problem` is set if it does not know the model."""

    model: str
    lifecycle: str
    retires_at: float | None
    checked_at: float
    problem: str = ""


def silent_routers(fleet: Fleet, now: float) -> Finding:
    """Above while a router has stopped without signing off, for at most a day."""
    silent = fleet.silent(now)
    why = f"{_routers(silent)} stopped without signing off: {_names(silent)}"
    return _finding(silent, why, is_known=fleet.is_known)


def outdated_routers(fleet: Fleet, now: float) -> Finding:
    """Above while a router does not know the newest change of policy, or has another base threshold."""
    alive = fleet.alive(now)
    # A silent router has its own alert, so only running routers count here.
    behind = [each for each in alive if _is_behind(each, fleet)]
    others = [each for each in alive if each.base_threshold != fleet.base_threshold]
    whys = []
    if behind:
        whys.append(f"{_routers(behind)} did not load change {fleet.newest} of the policy: {_names(behind)}")
    if others:
        bases = ", ".join(sorted({f"{each.base_threshold:g}" for each in others}))
        whys.append(
            f"{_routers(others)} with base threshold {bases}, the guard has {fleet.base_threshold:g}: {_names(others)}"
        )
    concerned = {each.process: each for each in (*behind, *others)}
    return _finding(list(concerned.values()), "; ".join(whys), is_known=bool(alive))


def _is_behind(heartbeat: RouterHeartbeat, fleet: Fleet) -> bool:
    return heartbeat.policy_version < fleet.newest and heartbeat.seen_at - fleet.newest_at > _FOLLOWS_S


def dropping(fleet: Fleet, total: int, before: Signal, now: float) -> Finding:
    """Above for five minutes after the `total` of uncounted decisions has risen; `before` is the last signal.

    Without a last signal, all drops of running routers are new.
    """
    alive = fleet.alive(now)
    known = before.get("total", total - sum(each.dropped for each in alive))
    rose_at, rose = before.get("rose_at"), before.get("rose", 0)
    if total > known:
        rose_at, rose = now, total - known
    memory = {"total": total, "rose_at": rose_at, "rose": rose}
    # The alert stays for five minutes, because drops come in bursts.
    is_recent = rose_at is not None and now - rose_at <= _DROPPED_LATELY_S
    why = f"{rose} decisions were made and not counted" if is_recent else ""
    level = Level.ABOVE if is_recent else Level.BELOW if alive else Level.NO_DATA
    return Finding(level=level, signal={"kind": "dropping" if is_recent else "", "why": why, **memory})


def folding(fleet: Fleet, total: int, names: Sequence[str], before: Signal, now: float) -> Finding:
    """Above for an hour after the `total` of folded calls has risen; `names` are examples, `before` the last signal."""
    rose_at = now if total > before.get("total", 0) else before.get("rose_at")
    is_recent = rose_at is not None and now - rose_at <= _FOLDED_LATELY_S
    why = f"{total} calls so far count as `other`, because there is no room for their names"
    if names:
        why += f": {', '.join(names[:_NAMED])}{' and others' if len(names) > _NAMED else ''}"
    level = Level.ABOVE if is_recent else Level.BELOW if fleet.is_known else Level.NO_DATA
    # One kind, so that each further call does not change the message.
    shown = {"kind": "folded", "why": why} if is_recent else {"kind": "", "why": ""}
    return Finding(level=level, signal={**shown, "total": total, "rose_at": rose_at})


def undelivered(outbox: Outbox, now: float) -> Finding:
    """Above while a message has waited for two minutes, three attempts have failed, or a receiver rejects messages."""
    waits_s = now - outbox.oldest if outbox.oldest is not None else 0.0
    is_stuck = waits_s > _WAITS_S or outbox.attempts >= _ATTEMPTS
    error = f": {outbox.error}" if outbox.error else ""
    whys = [f"{outbox.waiting} messages wait, the oldest for {waiting_time(waits_s)}{error}"] if is_stuck else []
    if outbox.refusal:
        whys.append(f"a receiver refused a message for good: {outbox.refusal}")
    level = Level.ABOVE if whys else Level.BELOW if outbox.is_used else Level.NO_DATA
    kind = "stuck" if is_stuck else "refused" if whys else ""
    return Finding(level=level, signal={"kind": kind, "why": "; ".join(whys), "waiting": outbox.waiting})


def unwatched(before: Signal, every_s: float, now: float, *, started_at: float = 0.0) -> Finding:
    """Above at the first evaluation after a gap of six intervals or of a minute, whichever is longer.

    `before` is the last signal, `started_at` is when this guard started. A clock that was set back is not a gap.
    """
    last = before.get("evaluated_at", now)
    gap_s = now - last
    # A guard that starts has the whole time for its first evaluation: it may wait for the lease of the last guard.
    longest_s = max(started_at - last, now - started_at) if last < started_at <= now else gap_s
    if longest_s <= max(_GAP_EVALUATIONS * every_s, _GAP_S):
        kept = {name: before.get(name, "") for name in ("kind", "why")}  # of the last gap, while its alert lasts
        return Finding(level=Level.BELOW, signal={**kept, "evaluated_at": now})
    why = f"no rule was evaluated for {duration(gap_s)}, from {_clock(now - gap_s)} to {_clock(now)}"
    return Finding(level=Level.ABOVE, signal={"kind": f"until {now:.0f}", "why": why, "evaluated_at": now})


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def skewed(fleet: Fleet, now: float) -> Finding:
    """Above while the clock of a running router's host differs from the store's time by more than 30 seconds."""
    alive = fleet.alive(now)
    # Each host once, with one of its routers.
    hosts = {each.host: each for each in alive if abs(each.clock_ahead_s) > SKEW_S}
    why = f"clocks of hosts differ from the store's time: {skew_text({n: r.clock_ahead_s for n, r in hosts.items()})}"
    return _finding(list(hosts.values()), why, is_known=bool(alive))


def retiring(models: Collection[str], lifecycles: Collection[ModelLifecycle], now: float) -> Finding:
    """Above while a model in use is retired, or will be within 60 days; an answer of the API counts for a week."""
    used = sorted((each for each in lifecycles if each.model in models), key=lambda each: each.model)
    ending = {each.model: text for each in used if (text := retirement_text(each, now))}
    is_known = any(now - each.checked_at <= _CHECKED_S for each in used)
    why = "; ".join(f"{model} {text}" for model, text in ending.items())
    level = Level.ABOVE if ending else Level.BELOW if is_known else Level.NO_DATA
    return Finding(level=level, signal={"kind": ", ".join(ending), "why": why})


def retirement_text(lifecycle: ModelLifecycle, now: float) -> str:
    """Whether a model is retired or retires within 60 days, in words; empty if neither."""
    if lifecycle.problem:
        return f"is unknown: {lifecycle.problem}"
    if lifecycle.lifecycle == "retired":
        return "is retired"
    if lifecycle.retires_at is None or lifecycle.retires_at - now > _RETIRES_S:
        return ""
    left_s = lifecycle.retires_at - now
    # In whole days, so that the text does not change at each evaluation.
    time = duration(max(round(abs(left_s) / DAY_S), 1) * DAY_S)
    return f"retires in {time}" if left_s > 0 else f"should have retired {time} ago"


def other_schema(stored: str | None, needed: str) -> Finding:
    """Above while the store has another version of the schema than this code."""
    differs = stored != needed
    why = f"the store has schema version {stored}, this guard needs {needed}" if differs else ""
    return Finding(level=Level.ABOVE if differs else Level.BELOW, signal={"kind": str(stored), "why": why})


def _finding(concerned: Collection[RouterHeartbeat], why: str, *, is_known: bool) -> Finding:
    """A finding about these routers; `kind` names them, so that a change of them updates the message."""
    level = Level.ABOVE if concerned else Level.BELOW if is_known else Level.NO_DATA
    # Short ids are enough to notice a change, and keep the payload small.
    kind = ",".join(sorted(each.process[:8] for each in concerned))
    signal = {"kind": kind, "why": why if concerned else "", "routers": len(concerned)}
    return Finding(level=level, signal=signal)


def _routers(heartbeats: Collection[RouterHeartbeat]) -> str:
    return "1 router" if len(heartbeats) == 1 else f"{len(heartbeats)} routers"


def _names(heartbeats: Collection[RouterHeartbeat]) -> str:
    names = sorted(each.name for each in heartbeats)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

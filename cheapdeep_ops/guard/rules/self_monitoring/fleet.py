"""Whether those who watch and those who are watched still do their part: facts -> finding, pure.

No data is an answer of its own: it neither fires nor resolves. Times are Unix seconds.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.units import DAY_S, WEEK_S

_SILENT_S: Final = 30.0
_SILENT_FLUSHES: Final = 10
FORGOTTEN_S: Final = float(DAY_S)
"""How long a router that has stopped is missed."""

_FOLLOWS_S: Final = 30.0
"""How long a router may take to follow a change; it asks four times a second and tells every ten seconds."""

_DROPPED_LATELY_S: Final = 300.0
_WAITS_S: Final = 120.0
_ATTEMPTS: Final = 3
_GAP_EVALUATIONS: Final = 4
_GAP_S: Final = 60.0
_SKEW_S: Final = 60.0
_RETIRES_S: Final = 60.0 * DAY_S
_CHECKED_S: Final = float(WEEK_S)
"""How long what the API said of a model counts as known: the job asks every day."""

_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterHeartbeat:
    """The last sign of life of a router that has not signed off."""

    process: str
    name: str
    seen_at: float
    base_threshold: float
    policy_version: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The routers seen within a day, and what they should follow.

    `is_known` tells whether any router ever was; `newest_at` is when the newest change of policy, `newest`, was made.
    """

    signs: Collection[RouterHeartbeat]
    is_known: bool
    base_threshold: float
    flush_every_s: float
    newest: int = 0
    newest_at: float = 0.0

    def alive(self, now: float) -> list[RouterHeartbeat]:
        """Those that show themselves."""
        return [sign for sign in self.signs if now - sign.seen_at <= self.patience_s]

    def silent(self, now: float) -> list[RouterHeartbeat]:
        """Those that do not any more, and did within a day."""
        return [sign for sign in self.signs if self.patience_s < now - sign.seen_at <= FORGOTTEN_S]

    @property
    def patience_s(self) -> float:
        """How long a router may be quiet, seconds."""
        return max(_SILENT_S, _SILENT_FLUSHES * self.flush_every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """The messages that wait: since when the oldest, and how often one was tried; `is_used` if any ever was made."""

    is_used: bool
    waiting: int
    oldest: float | None
    attempts: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLifecycle:
    """What the API last said of a model; `problem` is not empty where it says that there is no such model."""

    model: str
    lifecycle: str
    retires_at: float | None
    checked_at: float
    problem: str = ""


def silent_routers(fleet: Fleet, now: float) -> Finding:
    """Above while a router that was alive has stopped without signing off, until it is a day ago."""
    silent = fleet.silent(now)
    why = f"{_routers(silent)} stopped without signing off: {_names(silent)}"
    return _finding(silent, why, is_known=fleet.is_known)


def outdated_routers(fleet: Fleet, now: float) -> Finding:
    """Above while a living router does not know the newest change, or runs with another base threshold."""
    alive = fleet.alive(now)
    behind = [sign for sign in alive if _is_behind(sign, fleet)]
    others = [sign for sign in alive if sign.base_threshold != fleet.base_threshold]
    whys = []
    if behind:
        whys.append(f"{_routers(behind)} did not take change {fleet.newest} of the policy in: {_names(behind)}")
    if others:
        bases = ", ".join(sorted({f"{sign.base_threshold:g}" for sign in others}))
        whys.append(
            f"{_routers(others)} with base threshold {bases}, the guard has {fleet.base_threshold:g}: {_names(others)}"
        )
    concerned = {sign.process: sign for sign in (*behind, *others)}
    return _finding(list(concerned.values()), "; ".join(whys), is_known=bool(alive))


def _is_behind(sign: RouterHeartbeat, fleet: Fleet) -> bool:
    return sign.policy_version < fleet.newest and sign.seen_at - fleet.newest_at > _FOLLOWS_S


def dropping(fleet: Fleet, total: int, before: Mapping[str, Any], now: float) -> Finding:
    """Above for five minutes after the `total` of uncounted decisions has risen; `before` is the last signal.

    Without one, what living routers have dropped is new.
    """
    alive = fleet.alive(now)
    known = before.get("total", total - sum(sign.dropped for sign in alive))
    rose_at, rose = before.get("rose_at"), before.get("rose", 0)
    if total > known:
        rose_at, rose = now, total - known
    memory = {"total": total, "rose_at": rose_at, "rose": rose}
    is_recent = rose_at is not None and now - rose_at <= _DROPPED_LATELY_S
    why = f"{rose} decisions were made and not counted" if is_recent else ""
    level = Level.ABOVE if is_recent else Level.BELOW if alive else Level.NO_DATA
    return Finding(level=level, signal={"kind": "dropping" if is_recent else "", "why": why, **memory})


def undelivered(outbox: Outbox, now: float) -> Finding:
    """Above while a message waits for two minutes or was tried three times."""
    waits_s = now - outbox.oldest if outbox.oldest is not None else 0.0
    is_stuck = waits_s > _WAITS_S or outbox.attempts >= _ATTEMPTS
    said = f": {outbox.error}" if outbox.error else ""
    why = f"{outbox.waiting} messages wait, the oldest for {waits_s / 60:.0f} min{said}" if is_stuck else ""
    level = Level.ABOVE if is_stuck else Level.BELOW if outbox.is_used else Level.NO_DATA
    signal = {"kind": "stuck" if is_stuck else "", "why": why, "waiting": outbox.waiting}
    return Finding(level=level, signal=signal)


def unwatched(before: Mapping[str, Any], every_s: float, now: float) -> Finding:
    """Above at the first evaluation after a gap of four intervals or a minute, whichever is longer.

    `before` is the last signal. A clock that was set back makes no gap.
    """
    last = before.get("evaluated_at")
    gap_s = now - last if last is not None else 0.0
    is_gap = gap_s > max(_GAP_EVALUATIONS * every_s, _GAP_S)
    if not is_gap:
        kept = {name: before.get(name, "") for name in ("kind", "why")}  # of the last gap, while its alert lasts
        return Finding(level=Level.BELOW, signal={**kept, "evaluated_at": now})
    why = f"no rule was evaluated for {gap_s / 60:.0f} min, from {_clock(now - gap_s)} to {_clock(now)}"
    return Finding(level=Level.ABOVE, signal={"kind": f"until {now:.0f}", "why": why, "evaluated_at": now})


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def skewed(fleet: Fleet, now: float) -> Finding:
    """Above while a router's sign of life lies more than a minute ahead of the guard's clock."""
    ahead = [sign for sign in fleet.signs if sign.seen_at > now + _SKEW_S]
    most_s = max((sign.seen_at - now for sign in ahead), default=0.0)
    why = f"{_routers(ahead)} up to {most_s:.0f} s ahead of the guard's clock: {_names(ahead)}"
    return _finding(ahead, why, is_known=bool(fleet.alive(now)))


def retiring(models: Collection[str], lives: Collection[ModelLifecycle], now: float) -> Finding:
    """Above while a model in use is retired, or will be within 60 days; known for a week after the API was asked."""
    used = [life for life in lives if life.model in models]
    ending = {life.model: ends for life in sorted(used, key=lambda life: life.model) if (ends := ends_of(life, now))}
    is_known = any(now - life.checked_at <= _CHECKED_S for life in used)
    why = "; ".join(f"{model} {ends}" for model, ends in ending.items())
    level = Level.ABOVE if ending else Level.BELOW if is_known else Level.NO_DATA
    return Finding(level=level, signal={"kind": ", ".join(ending), "why": why})


def ends_of(life: ModelLifecycle, now: float) -> str:
    """How a model's life ends soon or has ended, in words; nothing where it does not."""
    if life.problem:
        return f"is not there: {life.problem}"
    if life.lifecycle == "retired":
        return "is retired"
    if life.retires_at is None or life.retires_at - now > _RETIRES_S:
        return ""
    days = (life.retires_at - now) / DAY_S
    return f"retires in {days:.0f} days" if days > 0 else f"was to retire {-days:.0f} days ago"


def other_schema(found: str | None, needed: str) -> Finding:
    """Above while the store is at another version of the schema than this code."""
    differs = found != needed
    why = f"the store is at version {found}, this guard is made for {needed}" if differs else ""
    return Finding(level=Level.ABOVE if differs else Level.BELOW, signal={"kind": str(found), "why": why})


def _finding(concerned: Collection[RouterHeartbeat], why: str, *, is_known: bool) -> Finding:
    """`kind` says whom it is about, so that another one is news."""
    level = Level.ABOVE if concerned else Level.BELOW if is_known else Level.NO_DATA
    kind = ",".join(sorted(sign.process[:8] for sign in concerned))
    signal = {"kind": kind, "why": why if concerned else "", "routers": len(concerned)}
    return Finding(level=level, signal=signal)


def _routers(signs: Collection[RouterHeartbeat]) -> str:
    return "1 router" if len(signs) == 1 else f"{len(signs)} routers"


def _names(signs: Collection[RouterHeartbeat]) -> str:
    names = sorted(sign.name for sign in signs)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

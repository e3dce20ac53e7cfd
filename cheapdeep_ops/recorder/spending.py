"""What this process spends of each budget, and how much more it may: numbers in memory, which calls compare.

The recorder's thread tells the store what was spent, and fetches the next slices; see `cheapdeep_ops.budgets`.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal

from cheapdeep_ops.budgets import (
    LASTS_S,
    AtBudget,
    BudgetName,
    Kind,
    SliceRequest,
    Slices,
    day_of,
    end_of,
    is_low,
    limits_of,
    nusd,
    smaller_limit,
)
from cheapdeep_ops.errors import BudgetError, StoreBusyError, StoreError
from cheapdeep_ops.units import NUSD_PER_USD
from cheapdeep_ops.values import Decision

if TYPE_CHECKING:
    from cheapdeep_ops.settings import Settings

ASK_EVERY_S: Final = 5.0
"""How often a process with budgets tells the store what it has spent, also if its slices last longer."""

_LOOK_EVERY_S: Final = 30.0
"""How often a process without budgets looks whether the guard has set one."""

_SOONEST_S: Final = 0.05
"""The shortest interval of two requests."""

_BUSY_S: Final = 0.1
_AWAY_S: Final = 1.0
"""How long after a request that failed the next one comes, while the store is busy or away."""

_FIRST_ANSWER_S: Final = 5.0
"""How long calls go on before the first answer about a budget; after that, a missing answer counts as no slice."""

_REST_S: Final = 60.0
"""How long after its last call the budget of a route or a key gives its slice back."""

_MOST: Final = 500
"""About so many budgets are in one request; a gateway may have thousands of keys."""


@dataclass(slots=True, kw_only=True)
class Account:
    """One budget in this process, in billionths of a dollar since its day began; times are of the monotonic clock."""

    name: BudgetName
    day: int
    own_limit: int | None
    limit: int = 0
    spent: int = 0
    unpriced: int = 0
    ceiling: int = 0
    slice_nusd: int = 0
    is_asked: bool
    """Whether the store is asked about it; budgets of routes and keys only while calls count in them."""
    is_known: bool = False
    """Whether the store has answered."""
    valid_until: float = float("inf")
    has_asked: bool = False
    """Whether the thread was woken because the slice is nearly spent."""
    active_at: float = 0.0
    number: int = 0
    """That of the last request about it that asked for a slice."""

    def is_used(self, now: float) -> bool:
        """Whether this process may start no further call: its slice is spent, or the store was away for too long."""
        return now >= self.valid_until or (self.is_known and self.spent >= self.ceiling)

    def is_at_rest(self, now: float) -> bool:
        """Whether it gives its slice back: no call has counted in it for a while. One that is used up stays known."""
        return bool(self.name.of) and self.spent < self.ceiling and now - self.active_at > _REST_S

    @property
    def turn(self) -> tuple[bool, int]:
        """Its place in a request with room for some of the accounts: those that are nearly spent come first."""
        return not (self.has_asked and self.slice_nusd), self.number


@dataclass(slots=True)
class _Request:
    """What was sent last: its number, and when (monotonic clock).

    `over` has the last word about accounts that have ended, of which the first `over_sent` were sent.
    """

    number: int = 0
    at: float = float("-inf")
    over: list[SliceRequest] = field(default_factory=list)
    over_sent: int = 0


class Spending:
    """The budgets of one process; `on_low` is called when a slice is nearly spent. Any thread may use it.

    `limits` are those of this process's own settings by the budget's name; the guard may set more. `now` is the store's
    time (Unix seconds), `monotonic` a clock that never steps.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        *,
        at_budget: AtBudget = "alert",
        otherwise: Literal["deep", "refuse"] = "deep",
        on_low: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_on = False
        """Whether there is a budget at all: calls look at nothing else without one."""
        self.limits_calls = False
        """Whether a budget that is used up makes a difference to calls."""
        self.ships = at_budget == "ship"
        """Whether a cheap answer below the threshold then goes out in place of the deep tier's."""
        self.refuses = at_budget == "refuse"
        """Whether calls are then refused at once."""
        self._refuses_rest = self.refuses or (self.ships and otherwise == "refuse")
        self._at_budget, self._now, self._monotonic = at_budget, now, monotonic
        self.on_low = on_low
        self._lock = threading.RLock()  # a signal handler may make a call meanwhile
        self._own = dict(limits)
        self._keys: dict[str, int] = {}
        self._guards: Mapping[str, int] = {}
        self._accounts: dict[BudgetName, Account] = {}
        self._ended: dict[BudgetName, Account] = {}
        """The accounts of this day whose limits were taken away."""
        self.restart()

    def restart(self) -> None:
        """Begin anew as another process, as after a fork: nothing is spent, and no slice is held."""
        # Another thread may have held the old one at a fork.
        self._lock = threading.RLock()
        self.holder = secrets.token_hex(16)
        self._request = _Request()
        self._due_at = float("-inf")
        self._accounts, self._ended = {}, {}
        self._renew()

    # What calls do

    def used(self, route: str, key: str, *, is_deep: bool) -> BudgetName | None:
        """The first budget that is used up, of those that a call counts in; None if it may go on.

        `key` is the gateway's key of the call, or empty. `is_deep` is whether the call asks the deep tier.
        """
        now = self._monotonic()
        for kind in _KINDS if is_deep else _ALL:
            for account in self._of(kind, route, key):
                if not account.is_asked:
                    self._want(account, now)
                elif account.is_used(now):
                    return account.name
        return None

    def require(self, route: str, key: str, *, is_deep: bool) -> None:
        """Raise BudgetError if a budget is used up, and calls are refused for that; see `used`."""
        if not (self.limits_calls and self._refuses_rest):
            return
        name = self.used(route, key, is_deep=is_deep)
        if name is not None:
            raise self._refusal(name)

    def spend(self, route: str, key: str, *, usd: float | None, deep_usd: float | None = 0.0) -> None:
        """Count what a call has cost, and the deep tier's part of it, in US dollars; None: it is not known."""
        amounts: tuple[tuple[Kind, float | None], ...] = (("all", usd), ("deep", deep_usd))
        is_low_now, now = False, self._monotonic()
        with self._lock:
            for kind, amount in amounts:
                for account in self._of(kind, route, key):
                    account.active_at = now
                    if not account.is_asked:
                        self._want(account, now)
                    if amount is None:
                        account.unpriced += 1
                        continue
                    account.spent += nusd(amount)
                    if not account.has_asked and is_low(
                        spent=account.spent, ceiling=account.ceiling, slice_nusd=account.slice_nusd
                    ):
                        is_low_now = account.has_asked = self._at_budget != "alert"
        if is_low_now:
            self._due_at = 0.0
            self.on_low()

    def spend_decision(self, decision: Decision, key: str) -> None:
        """Count what the model calls of a finished call have cost; a call with one of unknown cost is unpriced too."""
        known: dict[Kind, float] = {"all": 0.0, "deep": 0.0}
        unknown: set[Kind] = set()
        for hop in decision.hops:
            kinds = _KINDS if hop.tier.is_deep else _ALL
            for kind in kinds:
                if hop.cost_usd is not None:
                    known[kind] += hop.cost_usd
                # The API charges nothing for a request that failed without usage.
                elif hop.usage is not None or not hop.error:
                    unknown.add(kind)
        route = decision.name.route if decision.name is not None else decision.route
        self.spend(route, key, usd=known["all"], deep_usd=known["deep"])
        if unknown:
            self.spend(route, key, usd=None if "all" in unknown else 0.0, deep_usd=None if "deep" in unknown else 0.0)

    def limit_keys(self, budgets: Mapping[str, tuple[float | None, float | None]]) -> None:
        """Set the budgets of all keys of a gateway by the key's name: US dollars a day for all spend, and for deep."""
        limits: dict[str, int] = {}
        for name, (usd, deep_usd) in budgets.items():
            limits |= limits_of(usd_per_day=usd, deep_usd_per_day=deep_usd, of="key", name=name)
        with self._lock:
            if limits == self._keys:
                return
            self._keys = limits
            self._renew()
            self._due_at = 0.0
        self.on_low()

    def _want(self, account: Account, now: float) -> None:
        """Have the store asked about a budget from now on. Calls go on until its answer comes, for at most 5 s."""
        account.is_asked, account.active_at, account.valid_until = True, now, now + _FIRST_ANSWER_S
        self._due_at = 0.0
        self.on_low()

    def _of(self, kind: Kind, route: str, key: str) -> Iterable[Account]:
        accounts = self._accounts
        names = (BudgetName(kind), BudgetName(kind, "route", route), BudgetName(kind, "key", key))
        return [account for name in names if (account := accounts.get(name)) is not None]

    def _refusal(self, name: BudgetName) -> BudgetError:
        account = self._accounts.get(name)
        resets_at = end_of(account.day if account else day_of(self._now()))
        limit = f" of ${account.limit / NUSD_PER_USD:,.2f}" if account and account.limit else ""
        return BudgetError(
            f"the budget {name}{limit} for this day of UTC is used up, and CHEAPDEEP_AT_BUDGET={self._at_budget} has "
            "such calls refused until midnight",
            budget=str(name),
            resets_at=resets_at,
        )

    # What the recorder's thread does

    @property
    def is_due(self) -> bool:
        """Whether the store is to be asked now."""
        now = self._monotonic()
        if now < self._request.at + _SOONEST_S:
            return False
        today = day_of(self._now())
        return now >= self._due_at or any(each.day != today for each in self._accounts.values())

    @property
    def due_in_s(self) -> float:
        """In how many seconds the store is to be asked, if no slice is spent sooner."""
        now = self._monotonic()
        return max(self._due_at - now, self._request.at + _SOONEST_S - now, 0.0)

    def asks(self, *, is_last: bool = False) -> tuple[int, list[SliceRequest]]:
        """The number of the next request, and what it says; with `is_last`, it gives all slices back."""
        with self._lock:
            today = day_of(self._now())
            past = [each for each in self._accounts.values() if each.day != today]
            self._give_up(each for each in past if each.is_asked)
            for each in past:
                self._accounts[each.name] = self._account(each.name, today)
            self._request.number += 1
            now = self._request.at = self._monotonic()
            asked = sorted((each for each in self._accounts.values() if each.is_asked), key=attrgetter("turn"))
            self._due_at = now + (ASK_EVERY_S if asked else _LOOK_EVERY_S)
            if len(asked) > _MOST:
                # So that each of them has its turn within the interval.
                self._due_at, asked = now + ASK_EVERY_S * _MOST / len(asked), asked[:_MOST]
            said = []
            for account in asked:
                account.number = self._request.number
                ends = is_last or account.is_at_rest(now)
                said.append(_request_of(account, is_last=ends))
                if ends:
                    # The store frees the slice sooner or later; this process spends no more of it from here on.
                    account.is_asked, account.is_known, account.ceiling = False, False, account.spent
                    # A call may have it asked about again before the answer comes, which grants nothing.
                    account.number = 0
            self._request.over_sent = len(self._request.over)
            return self._request.number, [*self._request.over, *said]

    def note(self, grants: Slices) -> None:
        """Take the answer to the last request."""
        with self._lock:
            # Others may have ended since it was sent.
            del self._request.over[: self._request.over_sent]
            self._request.over_sent = 0
            if grants.limits != self._guards:
                self._guards = dict(grants.limits)
                self._renew()
            for each in grants.granted:
                account = self._accounts.get(BudgetName.read(each.budget))
                if account is None or account.day != each.day or account.number != self._request.number:
                    continue
                account.ceiling, account.limit = each.ceiling, each.limit
                account.slice_nusd = max(each.ceiling - account.spent, 0)
                # Where nothing is left, each call would ask again; a second later is soon enough.
                account.is_known, account.has_asked = True, not account.slice_nusd
                account.valid_until = self._request.at + LASTS_S
            # A slice that is spent may have a successor only when other processes give some back.
            spent = any(each.is_asked and each.spent >= each.ceiling for each in self._accounts.values())
            if spent and self._at_budget != "alert":
                self._due_at = min(self._due_at, self._request.at + 1.0)

    def renew(self, ask: Callable[[str, int, list[SliceRequest]], Slices], *, is_last: bool = False) -> None:
        """Tell the store what was spent, and take the next slices; `ask` sends one request. Raises its StoreError."""
        number, asks = self.asks(is_last=is_last)
        try:
            grants = ask(self.holder, number, asks)
        except StoreError as error:
            soon_s = _BUSY_S if isinstance(error, StoreBusyError) else _AWAY_S
            self._due_at = self._monotonic() + getattr(error, "retry_after_s", soon_s)
            raise
        self.note(grants)

    def _renew(self) -> None:
        """Make accounts for new budgets, and forget those without a limit."""
        today = day_of(self._now())
        wanted = {BudgetName.read(text) for text in (*self._own, *self._keys, *self._guards)}
        ended = {name: each for name, each in self._accounts.items() if name not in wanted}
        self._give_up(each for each in ended.values() if each.is_asked)
        self._ended = {name: each for name, each in (self._ended | ended).items() if each.day == today}
        # A new mapping, because calls read it without the lock.
        self._accounts = {name: self._accounts.get(name) or self._account(name, today) for name in sorted(wanted)}
        for name, account in self._accounts.items():
            account.own_limit = self._own_limit(name)
        self.is_on = bool(self._accounts)
        self.limits_calls = self.is_on and self._at_budget != "alert"

    def _give_up(self, accounts: Iterable[Account]) -> None:
        """Have the next request say for the last time what was spent of these."""
        self._request.over += [_request_of(each, is_last=True) for each in accounts]

    def _account(self, name: BudgetName, day: int) -> Account:
        account = Account(name=name, day=day, own_limit=self._own_limit(name), is_asked=not name.of)
        if account.is_asked:
            account.valid_until = self._monotonic() + _FIRST_ANSWER_S
        # A limit that is set again, as for a key that was made anew: the store goes on from what it was told before.
        before = self._ended.pop(name, None)
        if before is not None and before.day == day:
            account.spent, account.unpriced, account.ceiling = before.spent, before.unpriced, before.spent
        return account

    def _own_limit(self, name: BudgetName) -> int | None:
        return smaller_limit(self._own.get(str(name)), self._keys.get(str(name)))


_ALL: Final[tuple[Kind, ...]] = ("all",)
_KINDS: Final[tuple[Kind, ...]] = ("all", "deep")

NO_SPENDING: Final = Spending({})
"""No budget at all, as for a router that does not record."""


def spending_of(settings: "Settings", *, on_low: Callable[[], None], now: Callable[[], float]) -> Spending:
    """The spending of a process with these settings."""
    limits = limits_of(usd_per_day=settings.usd_per_day, deep_usd_per_day=settings.deep_usd_per_day)
    return Spending(
        limits, at_budget=settings.at_budget, otherwise=settings.at_budget_otherwise, on_low=on_low, now=now
    )


def _request_of(account: Account, *, is_last: bool) -> SliceRequest:
    return SliceRequest(
        day=account.day,
        budget=str(account.name),
        spent=account.spent,
        ceiling=account.ceiling,
        unpriced=account.unpriced,
        limit=account.own_limit,
        is_last=is_last,
    )

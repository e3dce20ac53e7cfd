"""The key `receivers` of the rules file, and which of its receivers get a message. Pure.

The words are those of Alertmanager's routes: the first receiver that matches gets a message, and with `continue` the
next ones are asked too. Source: https://prometheus.io/docs/alerting/latest/configuration/#route
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cheapdeep_ops.values import ALL_ROUTES

_ANY: Final = "*"
_TICKET: Final = "ticket"
"""The severity of a message about an old pin."""

_ADDRESSES: Final = ("slack_channel", "slack_webhook", "webhook", "receiver")

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
"""The name of an environment variable, because an address with a secret does not belong into a file of rules."""


class Recipient(BaseModel):
    """A receiver of messages: which ones it gets, and its address, which is exactly one of four keys.

    `routes` are names, or with a star at the end the beginnings of names; an incident of all routes matches `"*"` only.
    Without `routes` or `severities` all of them match.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$", description="stored with each delivery: keep it")
    routes: tuple[Annotated[str, Field(min_length=1, max_length=101)], ...] | None = None
    severities: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] | None = None
    goes_on: bool = Field(default=False, alias="continue", description="whether later receivers are asked too")
    slack_channel: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="a channel of CHEAPDEEP_SLACK_BOT_TOKEN"
    )
    slack_webhook: Variable | None = Field(default=None, description="the variable with the URL of Slack's webhook")
    webhook: Variable | None = Field(default=None, description="the variable with the URL of a signed webhook")
    webhook_secret: Variable | None = Field(default=None, description="the variable with the secret that signs")
    receiver: Literal["slack", "webhook", "log"] | None = Field(
        default=None, description="the receiver that the settings configure"
    )

    @property
    def takes_everything(self) -> bool:
        """Whether each message matches."""
        return self.routes is None and self.severities is None

    @property
    def address(self) -> tuple[str | None, ...]:
        """Where it is; two receivers with one address are one to people."""
        return tuple(getattr(self, each) for each in _ADDRESSES)

    def matches(self, scope: str, severity: str) -> bool:
        """Whether it gets messages about an incident of a route (`*`: of all routes) with this severity."""
        is_route = self.routes is None or any(_covers(pattern, scope) for pattern in self.routes)
        return is_route and (self.severities is None or severity in self.severities)

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        given = [each for each in _ADDRESSES if getattr(self, each) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_ADDRESSES)}; it has {' and '.join(given) or 'none'}")
        if (self.webhook is None) != (self.webhook_secret is None):
            raise ValueError("webhook and webhook_secret need each other")
        if self.routes == () or self.severities == ():
            raise ValueError("an empty list matches nothing: leave the key out to match everything")
        for variable in (self.slack_webhook, self.webhook, self.webhook_secret):
            if variable is not None and variable.upper().startswith("CHEAPDEEP_"):
                raise ValueError(f"{variable} is a name of settings: choose one that does not begin with CHEAPDEEP_")
        return self


def check_recipients(recipients: Sequence[Recipient]) -> None:
    """Raises ValueError unless the names differ, each receiver can be reached, and the last one takes all the rest."""
    if not recipients:
        return
    names = Counter(each.name for each in recipients)
    if twice := [name for name, times in names.items() if times > 1]:
        raise ValueError(f"more than one receiver has the name {', '.join(twice)}")
    *before, last = recipients
    for number, each in enumerate(before):
        if each.takes_everything and not each.goes_on:
            after = recipients[number + 1].name
            raise ValueError(f"{each.name} takes everything, so {after} gets nothing: move {each.name} to the end")
    if not last.takes_everything:
        raise ValueError(
            f"the last receiver takes what no other does, so {last.name} must have neither routes nor severities"
        )


def told(recipients: Sequence[Recipient], payload: Mapping[str, Any]) -> list[str]:
    """The names of the receivers of a message, in their order. There is one at least, if there are receivers at all.

    A digest goes to the receivers of each of its incidents and pins. Any other message about no incident goes to those
    without conditions.
    """
    parts = [payload]
    if payload.get("kind") in {"digest", "backlog"}:
        parts = [*payload.get("items", ()), *map(_as_ticket, payload.get("pins", ()))] or parts
    chosen = {name for part in parts for name in _told_of(recipients, part)}
    return [each.name for each in recipients if each.name in chosen]


def _told_of(recipients: Sequence[Recipient], payload: Mapping[str, Any]) -> list[str]:
    # The alert on a route's budget has a scope of its own, and goes to those who are told of the route.
    scope = payload.get("signal", {}).get("of_route", payload.get("scope", ALL_ROUTES))
    severity = payload.get("severity", "")
    names: list[str] = []
    addresses: list[tuple[str | None, ...]] = []
    for each in recipients:
        if not each.matches(scope, severity):
            continue
        # One message for people who read one channel.
        if each.address not in addresses:
            names.append(each.name)
            addresses.append(each.address)
        if not each.goes_on:
            break
    return names


def part_for(recipients: Sequence[Recipient], payload: Mapping[str, Any], receiver: str) -> Mapping[str, Any]:
    """A message as one receiver gets it: a digest has only the incidents whose messages it gets."""
    if payload.get("kind") != "digest" or not recipients or payload.get("late"):
        return payload
    items = [each for each in payload["items"] if receiver in _told_of(recipients, each)]
    left_out = len(payload["items"]) - len(items)
    # Incidents beyond the longest digest are only counted, for those who are told of everything.
    count = len(items) if left_out else payload["count"]
    pins = [each for each in payload.get("pins", ()) if receiver in _told_of(recipients, _as_ticket(each))]
    return {**payload, "items": items, "count": count, **({"pins": pins} if "pins" in payload else {})}


def _as_ticket(pin: Mapping[str, Any]) -> Mapping[str, Any]:
    """An old pin of a digest, as a ticket about its route."""
    return {**pin, "severity": _TICKET}


def _covers(pattern: str, scope: str) -> bool:
    if scope == ALL_ROUTES or pattern == _ANY:
        return pattern == _ANY
    return scope.startswith(pattern[:-1]) if pattern.endswith(_ANY) else pattern == scope

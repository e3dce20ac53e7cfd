"""Reads the rules file, strictly."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from cheapdeep_ops.budgets import limits_of
from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.rules.kinds import KINDS
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.guard.rules.recipients import Recipient, check_recipients
from cheapdeep_ops.resources import packaged
from cheapdeep_ops.suggestions import did_you_mean, likely_names
from cheapdeep_ops.values import ALL_ROUTES

PACKAGED: Final = "alerts/rules.yaml"
_SIGNALS: Final = tuple(signal for kind in KINDS for signal in kind.signals)
_KEYS: Final = {
    signal: [each.alias or name for name, each in kind.rule.model_fields.items()]
    for kind in KINDS
    for signal in kind.signals
}

Usd = Annotated[float, Field(strict=True, gt=0, le=1_000_000, allow_inf_nan=False)]
"""US dollars for a day."""

_NAMED: Final = {"rules": ("rule", "alert"), "receivers": ("receiver", "name"), "budgets": ("budget", "route")}
"""The lists of a file: what an entry is, and the key with its name."""

if TYPE_CHECKING:
    _AnyRule = Rule
else:
    # Built from the table, so that pydantic validates each rule as its own kind and refuses an unknown one.
    _AnyRule = Annotated[Union[tuple(kind.rule for kind in KINDS)], Field(discriminator="signal")]  # noqa: UP007


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice: YAML forbids it, and PyYAML takes the last one in silence.

    Source: https://yaml.org/spec/1.2.2/#3213-node-comparison
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002 - PyYAML's
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key, times in Counter(keys).items() if times > 1]:
            raise yaml.constructor.ConstructorError(
                "while reading a mapping", node.start_mark, f"found the key {twice[0]!r} twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


class RouteBudget(BaseModel):
    """The budgets of one route for each day of UTC, in US dollars: for all spend, and for what the deep tier costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    route: str = Field(min_length=1, max_length=100)
    usd_per_day: Usd | None = None
    deep_usd_per_day: Usd | None = None

    @property
    def limits(self) -> Mapping[str, int]:
        """The limits by the budget's name, in billionths of a dollar."""
        usd, deep_usd = self.usd_per_day, self.deep_usd_per_day
        return limits_of(usd_per_day=usd, deep_usd_per_day=deep_usd, of="route", name=self.route)

    @model_validator(mode="after")
    def _useful(self) -> Self:
        if self.route == ALL_ROUTES:
            raise ValueError("a budget for all routes is CHEAPDEEP_USD_PER_DAY or CHEAPDEEP_DEEP_USD_PER_DAY")
        if not self.limits:
            raise ValueError("needs usd_per_day or deep_usd_per_day")
        return self


class Rulebook(BaseModel):
    """All rules, receivers and budgets of a file; without receivers, the settings say who gets messages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[_AnyRule, ...]
    receivers: tuple[Recipient, ...] = ()
    budgets: tuple[RouteBudget, ...] = ()

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if not rules:
            raise ValueError("needs at least one rule; without rules nothing is watched")
        names = Counter(rule.alert for rule in rules)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"more than one rule has the alert {', '.join(twice)}")
        return rules

    @field_validator("budgets")
    @classmethod
    def _one_each(cls, budgets: tuple[RouteBudget, ...]) -> tuple[RouteBudget, ...]:
        routes = Counter(each.route for each in budgets)
        if twice := [route for route, times in routes.items() if times > 1]:
            raise ValueError(f"more than one entry is for the route {', '.join(twice)}")
        return budgets

    @field_validator("receivers")
    @classmethod
    def _reachable(cls, receivers: tuple[Recipient, ...]) -> tuple[Recipient, ...]:
        check_recipients(receivers)
        return receivers


def read_rulebook(path: Path | None = None) -> Rulebook:
    """The rules in `path`, or those that come with the package.

    Raises RulesError, which names file, rule and key: for a missing file, an unknown kind, and any other fault.
    """
    path = path or packaged(PACKAGED)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506 - it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"cannot read the rules file {path}: {error}") from None
    except yaml.YAMLError as error:
        raise RulesError(f"the rules file {path} is not YAML: {error}") from None
    except RecursionError:
        raise RulesError(f"the rules file {path} is nested too deeply; rules need some five levels") from None
    if not isinstance(content, dict):
        raise RulesError(f"the rules file {path} needs a list under the key `rules`")
    try:
        return Rulebook.model_validate(content)
    except ValidationError as error:
        raise RulesError(f"the rules file {path}: {_faults(error, content)}") from None


def _faults(error: ValidationError, content: Mapping[str, list[object]]) -> str:
    return "; ".join(_fault(fault, content) for fault in error.errors(include_url=False))


def _fault(fault: ErrorDetails, content: Mapping[str, list[object]]) -> str:
    place = list(fault["loc"])
    if len(place) > 1 and place[0] in _NAMED and isinstance(place[1], int):
        kind, key = _NAMED[str(place[0])]
        entry = content[str(place[0])][place[1]]
        name = entry.get(key, f"number {place[1] + 1}") if isinstance(entry, dict) else f"number {place[1] + 1}"
        # pydantic puts the kind into the location, though the file has no such key.
        place = [f"{kind} {name}", *(each for each in place[2:] if each not in _SIGNALS)]
    return f"{', '.join(map(str, place))}: {_reason(fault)}"


def _reason(fault: ErrorDetails) -> str:
    if fault["type"] == "union_tag_invalid":
        return f"signal {fault['ctx']['tag']!r} is no kind of rule; the kinds are {', '.join(_SIGNALS)}"
    if fault["type"] == "union_tag_not_found":
        return f"signal is missing; the kinds of rules are {', '.join(_SIGNALS)}"
    if fault["type"] == "extra_forbidden":
        *outer, key = map(str, fault["loc"])
        question = did_you_mean(likely_names(key, _known_keys(outer)))
        return f"{fault['msg']}{'; ' if question else ''}{question}"
    return str(fault["msg"]).removeprefix("Value error, ")


def _known_keys(outer: Sequence[str]) -> Sequence[str]:
    """The keys that the file may have at a place."""
    if not outer:
        return list(_NAMED)
    if outer[0] in {"receivers", "budgets"}:
        entry = Recipient if outer[0] == "receivers" else RouteBudget
        return [each.alias or name for name, each in entry.model_fields.items()]
    return _KEYS.get(outer[-1], ())

"""Reading rules from YAML, strictly."""

from collections import Counter
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.rules.model import GateRule, QualityRule, Rule, StormRule, WatchRule, seconds
from cheapdeep_ops.resources import packaged

__all__ = ["PACKAGED", "Rulebook", "read_rulebook", "seconds"]

PACKAGED: Final = "alerts/rules.yaml"
_SIGNALS: Final = frozenset(
    name
    for kind in (StormRule, QualityRule, GateRule, WatchRule)
    for name in get_args(kind.model_fields["signal"].annotation)
)
"""Kinds of rules; where one is named as the place of a fault, the reader has not written it there."""


class Rulebook(BaseModel):
    """All rules of a file, in its order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = Counter(rule.alert for rule in rules)
        if twice := [name for name, times in names.items() if times > 1]:
            raise ValueError(f"more than one rule has the alert {', '.join(twice)}")
        return rules


def read_rulebook(path: Path | None = None) -> Rulebook:
    """The rules in `path`, or those that come with the package.

    Raises RulesError, naming file, rule and key, where the file is missing or does not say what it must.
    """
    path = path or packaged(PACKAGED)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"cannot read the rules file {path}: {error}") from None
    except yaml.YAMLError as error:
        raise RulesError(f"the rules file {path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise RulesError(f"the rules file {path} needs a list under the key `rules`")
    try:
        return Rulebook.model_validate(content)
    except ValidationError as error:
        raise RulesError(f"the rules file {path}: {_faults(error, content)}") from None


def _faults(error: ValidationError, content: Any) -> str:
    return "; ".join(_fault(dict(fault), content) for fault in error.errors(include_url=False))


def _fault(fault: dict[str, Any], content: Any) -> str:
    place = list(fault["loc"])
    if len(place) > 1 and place[0] == "rules" and isinstance(place[1], int):
        rule = content["rules"][place[1]]
        name = rule.get("alert", f"number {place[1] + 1}") if isinstance(rule, dict) else f"number {place[1] + 1}"
        place = [f"rule {name}", *(each for each in place[2:] if each not in _SIGNALS)]
    return f"{', '.join(map(str, place))}: {fault['msg'].removeprefix('Value error, ')}"

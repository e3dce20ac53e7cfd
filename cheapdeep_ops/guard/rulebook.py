"""Reading rules from YAML, strictly."""

import re
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cheapdeep_ops.errors import RulesError
from cheapdeep_ops.guard.rules import Rule
from cheapdeep_ops.resources import packaged

PACKAGED: Final = "alerts/rules.yaml"
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION_KEYS: Final = ("for", "keep_firing_for")


class Rulebook(BaseModel):
    """All rules of a file, in its order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = [rule.alert for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        return rules

    def shortened(self, factor: float) -> "Rulebook":
        """The rules with every duration divided by `factor`."""
        return Rulebook(rules=tuple(rule.shortened(factor) for rule in self.rules))


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
    try:
        return Rulebook.model_validate(_in_seconds(content))
    except ValidationError as error:
        raise RulesError(f"the rules file {path}: {_faults(error, content)}") from None
    except (ValueError, TypeError) as error:
        raise RulesError(f"the rules file {path}: {error}") from None


def seconds(text: object) -> object:
    """A Prometheus duration such as `1h30m` in seconds; anything that is no text is passed through.

    Raises ValueError for a text that is no duration.
    """
    if not isinstance(text, str):
        return text
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _in_seconds(content: Any) -> Any:
    if not isinstance(content, dict) or not isinstance(content.get("rules"), list):
        raise TypeError("needs a list under the key `rules`")
    return {**content, "rules": [_rule_in_seconds(rule) for rule in content["rules"]]}


def _rule_in_seconds(rule: Any) -> Any:
    if not isinstance(rule, dict):
        return rule
    converted = {key: seconds(value) if key in _DURATION_KEYS else value for key, value in rule.items()}
    if isinstance(rule.get("windows"), dict):
        converted["windows"] = {key: seconds(value) for key, value in rule["windows"].items()}
    return converted


def _faults(error: ValidationError, content: Any) -> str:
    return "; ".join(_fault(dict(fault), content) for fault in error.errors(include_url=False))


def _fault(fault: dict[str, Any], content: Any) -> str:
    place = list(fault["loc"])
    if len(place) > 1 and place[0] == "rules" and isinstance(place[1], int):
        rule = content["rules"][place[1]]
        name = rule.get("alert", f"number {place[1] + 1}") if isinstance(rule, dict) else f"number {place[1] + 1}"
        place = [f"rule {name}", *place[2:]]
    return f"{', '.join(map(str, place))}: {fault['msg']}"

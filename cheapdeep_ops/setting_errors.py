"""What an error says about wrong settings: their names, values and ranges, and what was probably meant."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import SequenceMatcher
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cheapdeep_ops.pricing import PriceOverride
from cheapdeep_ops.suggestions import allowed_range, as_share, did_you_mean, likely_names

PREFIX: Final = "CHEAPDEEP_"
CONFIG_FILE: Final = "CHEAPDEEP_CONFIG_FILE"
"""The variable with the path of a TOML file, whose keys are setting names in lower case; the environment wins."""

_SECRET_WORDS: Final = ("token", "webhook", "key", "secret", "password")
"""An error shows no value if the key or the value has one of these words: it may be a secret under a wrong key."""

_LOGIN: Final = re.compile(r":[^@]*@")
"""A user and a password before a host."""

_LOGIN_IN_URL: Final = re.compile("[@?#]")
"""Begins what may be secret in a URL: the host behind a login, a query, a fragment."""

_PLAIN: Final = frozenset({"triage_max_input_tokens"})
"""Settings with such a word in their name whose values are not secret."""

_LONGEST_SHOWN: Final = 200
"""The largest number of characters of a value in an error, so that it stays readable."""

_NOT_SETTINGS: Final = frozenset({CONFIG_FILE, "CHEAPDEEP_LIVE"})
_SYNONYMS: Final[Mapping[str, str]] = {
    "cheap_model": "tiers", "confidence": "base_threshold", "database": "store_url", "database_url": "store_url",
    "db": "store_url", "db_url": "store_url", "deep_model": "tiers", "model": "tiers", "models": "tiers",
    "threshold": "base_threshold",
}  # fmt: skip
"""Settings by other names that people give them."""

_SAME_PREFIX: Final = 0.8
"""From this similarity on (0 to 1), a variable's prefix is a misspelt one of ours."""

_OUT_OF_RANGE: Final = (
    "bool_parsing", "bool_type", "finite_number", "float_parsing", "float_type", "greater_than", "greater_than_equal",
    "int_from_float", "int_parsing", "int_type", "less_than", "less_than_equal",
)  # fmt: skip
"""pydantic's types of faults whose message tells only one end of the range, or none."""


def variable_of(setting: str) -> str:
    """The variable of a setting."""
    return PREFIX + setting.upper()


def likely_settings(name: str, known: Iterable[str]) -> list[str]:
    """The `known` settings that a wrong name probably stands for, the likeliest first."""
    plain = name.lower().replace("-", "_").removeprefix(PREFIX.lower())
    return [_SYNONYMS[plain]] if plain in _SYNONYMS else likely_names(plain, known)


def unknown_variables(environ: Iterable[str], fields: Collection[str]) -> str:
    """What is wrong with the names of variables, in words; empty if nothing is."""
    known = {variable_of(name) for name in fields} | _NOT_SETTINGS
    unknown = sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    misspelt = {name: close for name in environ if (close := _other_prefix(name.upper(), known))}
    if not unknown and not misspelt:
        return ""
    questions = {name: _question(name, fields) for name in unknown}
    questions |= {name: f"did you mean {close}?" for name, close in sorted(misspelt.items())}
    named = [f"{name} ({question})" if question else name for name, question in questions.items()]
    # The list is long, so it is left out if each unknown name has a suggestion.
    known_names = "" if all(questions.values()) else f"; known are {', '.join(sorted(known))}"
    return f"unknown settings {', '.join(named)}{known_names}"


def _question(variable: str, fields: Collection[str]) -> str:
    of_the_file = CONFIG_FILE.removeprefix(PREFIX).lower()
    return did_you_mean(map(variable_of, likely_settings(variable, [*fields, of_the_file])))


def _other_prefix(variable: str, known: Iterable[str]) -> str:
    """The setting that a variable with a misspelt prefix means, such as CHEAP_DEEP_TIERS; empty if it means none."""
    prefixes = {name: variable.removesuffix(name.removeprefix(PREFIX)) for name in known}
    return next((name for name, prefix in prefixes.items() if prefix != variable and _is_misspelt(prefix)), "")


def _is_misspelt(prefix: str) -> bool:
    # One letter more or less; with more of them, the variable is of another program.
    if prefix == PREFIX or abs(len(prefix) - len(PREFIX)) > 1:
        return False
    return SequenceMatcher(None, prefix, PREFIX).ratio() >= _SAME_PREFIX


def faults(error: ValidationError, settings: type[BaseModel]) -> str:
    """All faults of `settings` in one message, without the values of secrets."""
    return "; ".join(_fault(fault, settings) for fault in error.errors(include_url=False))


def _fault(fault: ErrorDetails, settings: type[BaseModel]) -> str:
    if not fault["loc"]:
        return str(fault["msg"])
    key = ".".join(map(str, fault["loc"]))
    shown = f" = {fault['input']!r}"
    searched = shown if key in _PLAIN else f"{key}{shown}"
    # The store's URL may have a password in it, and so may any other URL, however it is misspelt.
    may_have_login = (
        key == "store_url" or _LOGIN.search(shown) or (key.endswith("_url") and _LOGIN_IN_URL.search(shown))
    )
    if may_have_login or any(word in searched.casefold() for word in _SECRET_WORDS):
        shown = ""
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    advice = "".join(f"; {each}" for each in (_meant(fault, settings), _allowed(fault, settings)) if each)
    return f"{PREFIX}{key.upper()}{shown}: {fault['msg'].removeprefix('Value error, ')}{advice}"


def _meant(fault: ErrorDetails, settings: type[BaseModel]) -> str:
    """The known key that an unknown one may stand for, as a question; empty if the fault is another one."""
    if fault["type"] != "extra_forbidden":
        return ""
    *outer, key = map(str, fault["loc"])
    if outer:
        return did_you_mean(likely_names(key, PriceOverride.model_fields))
    if isinstance(fault["input"], Mapping) and fault["input"].keys() & settings.model_fields.keys():
        return "settings stand at the top of the file, not in a table"
    return did_you_mean(
        f"{setting} ({variable_of(setting)})" for setting in likely_settings(key, settings.model_fields)
    )


def _allowed(fault: ErrorDetails, settings: type[BaseModel]) -> str:
    """The values that a setting may have, and a percentage as a share; empty if the message has it already."""
    if fault["type"] not in _OUT_OF_RANGE or len(fault["loc"]) > 1:
        return ""
    schema = settings.model_json_schema()["properties"][str(fault["loc"][0])]
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if not (options and (allowed := allowed_range(options[0]))):
        return ""
    unit, share = " seconds" if str(fault["loc"][0]).endswith("_s") else "", as_share(str(fault["input"]), options[0])
    return f"allowed: {allowed}{unit}{'; ' if share else ''}{share}"

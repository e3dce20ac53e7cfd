"""Which model a name means: platforms and gateways name one model in many ways, with and without a date.

Sources: the model ids of the Claude API, Amazon Bedrock, Vertex AI and Foundry
(https://platform.claude.com/docs/en/about-claude/models/overview), and those of gateways (LiteLLM, OpenRouter).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

Version = tuple[int, ...]

_LONGEST: Final = 300
_FIRST_WITH_FAMILY_FIRST: Final = 4
"""The generation since which a name has its family before its version: `claude-3-5-haiku`, `claude-haiku-4-5`."""

_PLATFORM: Final = r"(?:.*[/:~])?(?P<bedrock>(?:(?P<area>[a-z-]+)\.)?anthropic\.)?(?:anthropic--|databricks-)?"
_NUMBER: Final = r"(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)"
_FAMILY: Final = r"(?P<family>[a-z]+)"
_RELEASE: Final = r"(?:-v\d+)?(?:[-@](?:\d{8}|\d{4}-\d\d-\d\d|latest|default))?(?:-v\d+)?(?::\d+k?)*(?:\[1m\]|:beta)?"
_FORMS: Final = tuple(
    re.compile(rf"{_PLATFORM}(?P<name>claude-{form})(?P<rest>.*)", re.DOTALL)
    for form in (rf"{_FAMILY}-{_NUMBER}", rf"{_NUMBER}-{_FAMILY}", _FAMILY)
)
_RELEASED: Final = re.compile(_RELEASE)


class ModelName(NamedTuple):
    """What a model's name says.

    `name` is one for all names of the model, such as `claude-haiku-4-5`; a name of unknown form is its own. `family` is
    empty if it is unknown, and so is `version`. `is_regional` marks a Bedrock endpoint that stays in its region.
    `is_understood` is False if something in the name is unknown: it may mean another price, for example.
    """

    name: str
    family: str = ""
    version: Version = ()
    is_regional: bool = False
    is_understood: bool = True


@lru_cache(maxsize=200)  # callers name models, and the bound limits the memory for odd names
def model_name(model: str) -> ModelName:
    """What the name `model` says, on whichever platform it is a name."""
    text = model.strip().lower()
    matches = (form.fullmatch(text) for form in _FORMS if len(text) <= _LONGEST)
    found = next(filter(None, matches), None)
    return ModelName(name=model, is_understood=False) if found is None else _read(found)


def is_same_model(one: str, other: str) -> bool:
    """Whether two names mean one model."""
    return one == other or model_name(one).name == model_name(other).name


def _read(found: "re.Match[str]") -> ModelName:
    parts = found.groupdict()
    version = tuple(int(parts[name]) for name in ("major", "minor") if parts.get(name))
    version = version[:1] if version[1:] == (0,) else version  # `claude-opus-4-0` is Opus 4
    is_understood = bool(version) and _RELEASED.fullmatch(parts["rest"]) is not None
    return ModelName(
        name=_canonical(parts["family"], version) if is_understood else parts["name"] + parts["rest"],
        family=parts["family"],
        version=version,
        is_regional=bool(parts["bedrock"]) and parts["area"] != "global",
        is_understood=is_understood,
    )


def _canonical(family: str, version: Version) -> str:
    number = "-".join(map(str, version))
    return f"claude-{family}-{number}" if version[0] >= _FIRST_WITH_FAMILY_FIRST else f"claude-{number}-{family}"

"""What to suggest for a wrong name or value, in words. Pure functions."""

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Final

_ABOUT_AS_LIKE: Final = 0.1
"""How much less like the wrong name a second suggestion may be than the first; similarities are from 0 to 1."""

_SMALLEST_PERCENTAGE: Final = 2.0
"""From here on, a number in the place of a share is probably a percentage."""


def likely_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are most like `name`, the likeliest first; one or two, or none if none is like it."""
    close = get_close_matches(name, list(known), n=2)
    likeness = [SequenceMatcher(None, name, each).ratio() for each in close]
    return [each for each, of_it in zip(close, likeness, strict=True) if of_it >= likeness[0] - _ABOUT_AS_LIKE]


def did_you_mean(names: Iterable[str]) -> str:
    """A question for these names; empty if there is none."""
    asked = " or ".join(names)
    return f"did you mean {asked}?" if asked else ""


def allowed_range(schema: Mapping[str, Any]) -> str:
    """The range that a JSON Schema allows, in words; empty if it has none."""
    if schema.get("type") == "boolean":
        return "true or false"
    low, above = _limit(schema, "minimum"), _limit(schema, "exclusiveMinimum")
    high, below = _limit(schema, "maximum"), _limit(schema, "exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    parts = [
        text
        for end, text in (
            (low, f"at least {low}"),
            (above, f"more than {above}"),
            (high, f"at most {high}"),
            (below, f"less than {below}"),
        )
        if end is not None
    ]
    return " and ".join(parts)


def _limit(schema: Mapping[str, Any], name: str) -> float | None:
    """A limit as people write it; Pydantic gives 0 or 0.0, depending on its version."""
    limit = schema.get(name)
    return int(limit) if limit is not None and limit == int(limit) else limit


def as_share(text: str, schema: Mapping[str, Any]) -> str:
    """How to write a percentage as a share from 0 to 1; empty if the text is none, or the schema allows more than 1."""
    if 1 not in (schema.get("maximum"), schema.get("exclusiveMaximum")):
        return ""
    try:
        percentage = float(text.strip().removesuffix("%"))
    except ValueError:
        return ""
    is_percentage = text.strip().endswith("%") or percentage >= _SMALLEST_PERCENTAGE
    share = percentage / 100
    return f"{percentage:g}% is written {share:g}" if is_percentage and 0 <= share <= 1 else ""

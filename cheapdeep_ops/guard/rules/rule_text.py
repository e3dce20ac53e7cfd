"""What the words of a kind of rule consist of; pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Payload = Mapping[str, Any]
"""A message about an incident, as `notify.messages.incident_message` builds it."""


def _no_lines(_payload: Payload) -> Iterable[str]:
    return ()


def _no_text(_payload: Payload) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """How messages and pages put the payloads of one kind into words."""

    headline: Callable[[Payload, str, bool], str]
    """What is wrong, on one line; takes the payload, the scope in words, and whether the incident is over.

    A digest keeps only `signal`, `window_s` and `consequence` of the payload, so a headline uses nothing else.
    """
    measured: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines of what else was measured."""
    release: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines that say when an open incident resolves."""
    affected: Callable[[Payload], str] = _no_text
    """What the last line about a resolved incident adds: how many calls it affected."""
    classes_title: str = "By input class"
    """The title of what the payload counts by input class."""

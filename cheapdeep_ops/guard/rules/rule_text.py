"""The text of a kind of rule; pure."""

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
    """The functions that turn the payloads of one kind into text, for messages and pages."""

    headline: Callable[[Payload, str, bool], str]
    """The problem on one line; takes the payload, the scope in words, and whether the incident is resolved.

    A digest keeps only `signal`, `window_s` and `consequence` of the payload, so a headline uses nothing else.
    """
    measured: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines with the other measurements."""
    release: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines that say when an open incident resolves."""
    affected: Callable[[Payload], str] = _no_text
    """The end of the last line about a resolved incident: how many calls it affected."""
    classes_title: str = "By input class"
    """The title of the payload's counts by input class."""

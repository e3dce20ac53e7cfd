"""The text of a kind of rule; pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Payload = Mapping[str, Any]
"""A message about an incident, as `notify.messages.incident_message` builds it."""

Signal = Mapping[str, Any]
"""What a rule saw, in numbers; its keys are those of its kind."""


def _no_lines(_payload: Payload) -> Iterable[str]:
    return ()


def _no_text(_payload: Payload) -> str:
    return ""


def _no_figures(_payload: Payload, _is_over: bool) -> Iterable[tuple[str, str]]:  # noqa: FBT001 - called by table
    return ()


Plot = Literal["", "escalation", "false confidence"]
"""The rate that a picture of an incident shows; empty for incidents without a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """The functions that turn the payloads of one kind into text, for messages and pages."""

    headline: Callable[[Payload, str, bool], str]
    """The problem on one line; takes the payload, the scope in words, and whether the incident is resolved.

    A digest keeps only `signal`, `window_s` and `consequence` of the payload, so a headline uses nothing else.
    """
    figures: Callable[[Payload, bool], Iterable[tuple[str, str]]] = _no_figures
    """The few figures that people look at first, with their names; takes the payload and whether it is resolved.

    A kind without figures has its headline in their place.
    """
    plot: Plot = ""
    measured: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines with the other measurements."""
    release: Callable[[Payload], Iterable[str]] = _no_lines
    """The lines that say when an open incident resolves."""
    until: Callable[[Payload], str] = _no_text
    """Until when an open incident lasts, as the end of a sentence; empty if that is not known."""
    affected: Callable[[Payload], str] = _no_text
    """The end of the last line about a resolved incident: how many calls it affected."""
    classes_title: str = "By input class"
    """The title of the payload's counts by input class."""

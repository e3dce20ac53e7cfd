"""The form of a message on Slack: its text, and its Block Kit blocks.

An incident is a card: a header, figures in two columns, the cause and what was done, a picture, and a line with links.
Slack refuses a message that breaks one of its limits, so longer texts are cut, which `…` shows.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cheapdeep_ops.guard.formatting import LONGEST_LABEL, cut, moment, plain
from cheapdeep_ops.guard.notify.buttons import action_blocks, order_lines
from cheapdeep_ops.guard.notify.messages import (
    acknowledged_by,
    details,
    done,
    explanation,
    figures,
    headline,
    history,
    how_to_acknowledge,
    is_reply,
    links,
    quotes,
    sentence,
    title,
    why,
)
from cheapdeep_ops.guard.rules.rule_text import Payload

Block = dict[str, Any]
Form = tuple[str, list[Block]]
"""A message on Slack: the text for notifications and screen readers, and the blocks."""

_COLOURS: Final = {
    "started": "\N{LARGE RED CIRCLE}",
    "changed": "\N{LARGE ORANGE CIRCLE}",
    "acknowledged": "\N{LARGE ORANGE CIRCLE}",
    "reminder": "\N{LARGE RED CIRCLE}",
    "resolved": "\N{LARGE GREEN CIRCLE}",
    "report": "\N{BAR CHART}",
}
_OTHER: Final = "\N{BELL}"

_LONGEST_HEADER: Final = 80
"""Characters of a header that stay on one or two lines; Slack takes 150.

Source: https://docs.slack.dev/reference/block-kit/blocks/header-block
"""

_LONGEST_SECTION: Final = 3_000
"""Characters of a section. Source: https://docs.slack.dev/reference/block-kit/blocks/section-block"""

_HARMLESS: Final = str.maketrans("<>", "\u2039\u203a")
"""Plain text has no markup, and needs no escaping; angle quotation marks are no mention wherever it is copied to."""

_MOST_FIELDS: Final = 10
_LONGEST_FIELD: Final = 2_000
"""Fields of a section, and characters of each. Source: as above"""

_MOST_BLOCKS: Final = 50
"""Blocks of a message. Source: https://docs.slack.dev/reference/block-kit/blocks"""

_MOST_ELEMENTS: Final = 10
"""Elements of a context. Source: https://docs.slack.dev/reference/block-kit/blocks/context-block"""

_LONGEST_ALTERNATIVE: Final = 2_000
"""Characters of a picture's text. Source: https://docs.slack.dev/reference/block-kit/blocks/image-block"""

_LONGEST_URL: Final = 2_000
_OPEN_END: Final = re.compile(r"(&[a-z]{0,3}|<[^>]*)$")
"""The beginning of an entity or a link whose end was cut off."""


def rendered(payload: Payload, *, has_thread: bool = True) -> Form:
    """The text for notifications, and the Block Kit blocks; labels that callers chose are shown as code.

    Without a thread, the message has the details too, which otherwise are the first reply.
    """
    if is_reply(payload):
        return _reply(payload)
    text = _cut(escaped(headline(payload, label=_code_span)), _LONGEST_SECTION)
    if payload["kind"] in {"digest", "report", "test"}:
        return text, _fitting([*_list(payload, text), *_quotes(payload), *_links(payload)])
    # A late message comes without the replies that led to it.
    is_whole = not has_thread or payload.get("late")
    more = _sections(map(escaped, explanation(payload, label=_code_span))) if is_whole else ()
    return text, _fitting([*_card(payload), *more, *_quotes(payload), *_context(payload)])


def _reply(payload: Payload) -> Form:
    text, *lines = map(escaped, history(payload, label=_code_span))
    shown = text
    # The message above has just said the headline and what was done.
    if payload["kind"] == "started":
        shown, lines = f"Details at {moment(payload['at'])}", [*map(escaped, explanation(payload, label=_code_span))]
    return _cut(text, _LONGEST_SECTION), _fitting(list(_sections([f"{_colour(payload)} {shown}", *lines])))


def without_picture(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without those that show a file of Slack, which Slack may refuse."""
    return [each for each in blocks if "slack_file" not in each]


def _card(payload: Payload) -> Iterable[Block]:
    """What goes wrong, how much, why, and what was done; a reader looks at this first."""
    colour = _colour(payload)
    header = f"{colour} {title(payload, longest=_LONGEST_HEADER - len(colour) - 1)}".translate(_HARMLESS)
    yield {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": False}}
    if fields := figures(payload)[:_MOST_FIELDS]:
        shown = [_mrkdwn(f"*{escaped(name)}*\n{escaped(value)}", _LONGEST_FIELD) for name, value in fields]
        yield {"type": "section", "fields": shown}
    else:
        yield _section(escaped(sentence(payload, _code_span)))
    lines = {"Why": why(payload, _code_span), "Done": done(payload)}
    said = [f"*{name}:* {escaped(line)}" for name, line in lines.items() if line]
    if said := [*said, *map(escaped, order_lines(payload, _code_span))]:
        yield _section("\n".join(said))
    yield from _picture(payload)
    yield from action_blocks(payload)


def _picture(payload: Payload) -> Iterable[Block]:
    picture = payload.get("picture")
    if picture:
        text = cut(plain(picture["text"], _LONGEST_ALTERNATIVE), _LONGEST_ALTERNATIVE)
        yield {"type": "image", "slack_file": {"id": picture["file"]}, "alt_text": text}


def _context(payload: Payload) -> Iterable[Block]:
    """The line below: the incident's number, links, and how people acknowledge it or who has."""
    number, began = payload.get("incident_id"), payload.get("started_at")
    first = [f"Incident {number}"] if number is not None else []
    if began is not None:
        # Slack shows this in the time zone of each reader.
        first.append(f"began <!date^{int(began)}^{{date_short_pretty}} {{time}}|{moment(began)}>")
    # A message is edited when much has changed: until then its figures age.
    measured = payload.get("measured_at")
    if payload["kind"] != "resolved" and measured is not None and figures(payload):
        first.append(f"figures of <!date^{int(measured)}^{{time}}|{moment(measured)}>")
    first += [_link(name, address) for name, address in links(payload)]
    elements = [" \N{MIDDLE DOT} ".join(first)] if first else []
    elements += map(escaped, acknowledged_by(payload, _code_span) or how_to_acknowledge(payload))
    if elements:
        texts = [_mrkdwn(each, _LONGEST_SECTION) for each in elements[:_MOST_ELEMENTS]]
        yield {"type": "context", "elements": texts}


def _list(payload: Payload, text: str) -> Iterable[Block]:
    """A message about no single incident: a bold line, and lines."""
    yield _section(_cut(f"{_colour(payload)} *{text}*", _LONGEST_SECTION))
    lines = map(escaped, details(payload, label=_code_span))
    # Lines of a digest are long, and together they may exceed the limit of one section.
    yield from map(_section, lines) if payload["kind"] == "digest" else _sections(lines)


def _quotes(payload: Payload) -> Iterable[Block]:
    return [_section("\n".join(map(escaped, quote))) for quote in quotes(payload, _code_span)]


def _links(payload: Payload) -> Iterable[Block]:
    if leads := links(payload):
        yield _section(" | ".join(_link(name, address) for name, address in leads))


def _fitting(blocks: list[Block]) -> list[Block]:
    """At most as many blocks as Slack takes; the last one stays, because it has the links."""
    if len(blocks) <= _MOST_BLOCKS:
        return blocks
    return [*blocks[: _MOST_BLOCKS - 2], _section("…"), blocks[-1]]


def _colour(payload: Payload) -> str:
    return _COLOURS.get(payload["kind"], _OTHER)


def escaped(text: str) -> str:
    """`text` without anything that Slack would read as a mention, link or entity.

    Source: https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code_span(label: str, longest: int = LONGEST_LABEL) -> str:
    """`label` as a code span, in which mrkdwn has no meaning; a span cannot escape its own end."""
    inside = plain(label, longest).replace("`", "'")
    return f"`{inside}`"


def _link(name: str, address: str) -> str:
    """A link; characters that would end it early are encoded. A link that is too long is only its name.

    Source: https://docs.slack.dev/messaging/formatting-message-text#linking-urls
    """
    closed = address.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
    return f"<{escaped(closed)}|{escaped(name)}>" if len(closed) <= _LONGEST_URL else escaped(name)


def _sections(lines: Iterable[str]) -> Iterable[Block]:
    """Lines in as few sections as hold them."""
    together = ""
    for line in (_cut(each, _LONGEST_SECTION) for each in lines):
        if together and len(together) + 1 + len(line) > _LONGEST_SECTION:
            yield _section(together)
            together = ""
        together = f"{together}\n{line}" if together else line
    if together:
        yield _section(together)


def _section(text: str) -> Block:
    return {"type": "section", "text": _mrkdwn(text, _LONGEST_SECTION)}


def _mrkdwn(text: str, longest: int) -> Block:
    # verbatim: no link out of a bare URL, see https://docs.slack.dev/reference/block-kit/composition-objects/text-object
    return {"type": "mrkdwn", "text": _cut(text, longest), "verbatim": True}


def _cut(text: str, longest: int) -> str:
    """Marked-up `text` of at most `longest` characters; what is cut is closed, and `…` shows it."""
    if len(text) <= longest:
        return text
    # Two characters are kept free: for the end of a code span, and for `…`.
    kept = _OPEN_END.sub("", text[: longest - 2])
    return f"{kept}`…" if kept.count("`") % 2 else f"{kept}…"

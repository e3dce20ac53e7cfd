"""The form of a message on Slack: its text, and its Block Kit blocks."""

from typing import Any, Final

from cheapdeep_ops.guard.formatting import LONGEST_LABEL, plain
from cheapdeep_ops.guard.notify.buttons import action_blocks
from cheapdeep_ops.guard.notify.messages import details, headline, history, is_reply, links, quotes
from cheapdeep_ops.guard.rules.rule_text import Payload

Form = tuple[str, list[dict[str, Any]]]
"""A message on Slack: the text for notifications, and the blocks."""

_ICONS: Final = {
    "started": ":red_circle:",
    "changed": ":large_orange_circle:",
    "acknowledged": ":large_orange_circle:",
    "reminder": ":red_circle:",
    "resolved": ":large_green_circle:",
    "report": ":bar_chart:",
}
_TEXT_LIMIT: Final = 3_000
"""Characters of a section. Source: https://docs.slack.dev/reference/block-kit/blocks/section-block"""


def rendered(payload: Payload) -> Form:
    """The text for notifications, and the Block Kit blocks; labels that callers chose are shown as code."""
    if is_reply(payload):
        return _rendered_history(payload)
    title = escaped(headline(payload, label=_code_span))
    lines = [escaped(line) for line in details(payload, label=_code_span)]
    blocks = [_section(f"{_icon(payload)} *{title}*")]
    if payload["kind"] == "digest":
        blocks += map(_section, lines)  # together they may exceed the limit of one section
    elif lines:
        blocks.append(_section("\n".join(lines)))
    blocks += [_section("\n".join(map(escaped, quote))) for quote in quotes(payload, _code_span)]
    if leads := links(payload):
        blocks.append(_section(" | ".join(_link(name, address) for name, address in leads)))
    return title, [*blocks, *action_blocks(payload)]


def _rendered_history(payload: Payload) -> Form:
    title, *lines = map(escaped, history(payload, label=_code_span))
    return title, [_section("\n".join([f"{_icon(payload)} {title}", *lines]))]


def _icon(payload: Payload) -> str:
    return _ICONS.get(payload["kind"], ":bell:")


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
    """A link; characters that would end it early are encoded.

    Source: https://docs.slack.dev/messaging/formatting-message-text#linking-urls
    """
    closed = address.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E")
    return f"<{escaped(closed)}|{escaped(name)}>"


def _section(text: str) -> dict[str, Any]:
    # verbatim: no link out of a bare URL, see https://docs.slack.dev/reference/block-kit/composition-objects/text-object
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_TEXT_LIMIT], "verbatim": True}}

"""The text of alerts about budgets."""

from collections.abc import Iterable
from typing import Final

from cheapdeep_ops.guard.formatting import plain, without_markup
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText


def _headline(payload: Payload, _scope: str, is_over: bool) -> str:  # noqa: FBT001 - called by table
    # The scope in words would call every budget a route.
    what, why = plain(str(payload.get("scope", ""))), without_markup(str(payload["signal"]["why"]))
    return f"budget {what}: {'there is money again, ' if is_over else ''}{why}"


def _release(_payload: Payload) -> Iterable[str]:
    yield "It resolves at midnight of UTC, or when the budget is raised"


TEXT: Final = RuleText(headline=_headline, release=_release)

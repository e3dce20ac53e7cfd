"""The table of the kinds of rules.

A new kind is one folder beside this file, one row here, and one entry in `alerts/rules.yaml`. The folder has a rule
with a `signal` of its own, a reader, words, and the `RuleKind` that names them. `alerts/rules.schema.json` is generated
from the table: a test says when to write it anew.
"""

from typing import Any, Final

from cheapdeep_ops.guard.formatting import plain
from cheapdeep_ops.guard.rules.confidence_separation.kind import CONFIDENCE_SEPARATION
from cheapdeep_ops.guard.rules.escalation.kind import ESCALATION
from cheapdeep_ops.guard.rules.false_confidence.kind import FALSE_CONFIDENCE
from cheapdeep_ops.guard.rules.interface import RuleKind
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText
from cheapdeep_ops.guard.rules.self_monitoring.kind import SELF_MONITORING

KINDS: Final[tuple[RuleKind[Any], ...]] = (
    ESCALATION,
    FALSE_CONFIDENCE,
    CONFIDENCE_SEPARATION,
    SELF_MONITORING,
)
_BY_SIGNAL: Final = {signal: kind for kind in KINDS for signal in kind.signals}


def kind_of(rule: Rule) -> RuleKind[Any]:
    """The kind of a rule. Raises KeyError for a rule of no kind in the table."""
    return _BY_SIGNAL[rule.signal]


def text_of(payload: Payload) -> RuleText:
    """The words for a message about an incident; for an unknown kind, words that say that it is unknown."""
    kind = _BY_SIGNAL.get(payload.get("about", ""))
    return kind.text if kind else _UNKNOWN


def _unknown_headline(payload: Payload, scope: str, _is_over: bool) -> str:  # noqa: FBT001 - called by table
    name = plain(str(payload.get("about", "")))
    return f"a rule of the kind {name} in {scope}, which this version of cheapdeep-ops does not know"


# A message of another version must neither stop the outbox nor look like a kind that it is not.
_UNKNOWN: Final = RuleText(headline=_unknown_headline)

"""The table of the kinds of rules.

A new kind is one folder beside this file, one row here, and one entry in `alerts/rules.yaml`. The folder has a rule
with its own `signal`, a reader, a text, and their `RuleKind`. `alerts/rules.schema.json` is generated from the table: a
test fails when it must be generated again.
"""

from typing import Any, Final

from cheapdeep_ops.guard.formatting import plain
from cheapdeep_ops.guard.rules.budget.kind import BUDGET
from cheapdeep_ops.guard.rules.confidence_separation.kind import CONFIDENCE_SEPARATION
from cheapdeep_ops.guard.rules.escalation.kind import ESCALATION
from cheapdeep_ops.guard.rules.false_confidence.kind import FALSE_CONFIDENCE
from cheapdeep_ops.guard.rules.grader_drift.kind import GRADER_DRIFT
from cheapdeep_ops.guard.rules.interface import RuleKind
from cheapdeep_ops.guard.rules.model import Rule
from cheapdeep_ops.guard.rules.rule_text import Payload, RuleText
from cheapdeep_ops.guard.rules.self_monitoring.kind import SELF_MONITORING

KINDS: Final[tuple[RuleKind[Any], ...]] = (
    ESCALATION,
    FALSE_CONFIDENCE,
    CONFIDENCE_SEPARATION,
    GRADER_DRIFT,
    BUDGET,
    SELF_MONITORING,
)
_BY_SIGNAL: Final = {signal: kind for kind in KINDS for signal in kind.signals}


def kind_of(rule: Rule) -> RuleKind[Any]:
    """The kind of a rule. Raises KeyError if the table does not have it."""
    return _BY_SIGNAL[rule.signal]


def text_of(payload: Payload) -> RuleText:
    """The text of a message about an incident; an unknown kind has a text that says so."""
    kind = _BY_SIGNAL.get(payload.get("about", ""))
    return kind.text if kind else _UNKNOWN


def _unknown_headline(payload: Payload, scope: str, _is_over: bool) -> str:  # noqa: FBT001 - called by table
    name = plain(str(payload.get("about", "")))
    return f"a rule of the kind {name} in {scope}, which this version of cheapdeep-ops does not know"


# A message of another version must neither block the outbox nor look like another kind.
_UNKNOWN: Final = RuleText(headline=_unknown_headline)

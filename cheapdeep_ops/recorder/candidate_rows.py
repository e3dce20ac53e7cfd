"""From a finished call to the row of a candidate: redacted first, and left out where that would falsify a grade."""

from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.sampling import position
from cheapdeep_ops.values import CandidateState, Decision, Exchange, Outcome

LONGEST_CHARACTERS: Final = 50_000
"""Of a whole exchange; a grader could be given more, but the store is no archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCall:
    """A call that was chosen by its hash, with its content as it was said."""

    decision: Decision
    exchange: Exchange


def lies_within(decision: Decision, share: float) -> bool:
    """Whether the answer ships at base, and its call lies in the first `share` by hash."""
    return decision.base_outcome is Outcome.SHIP and share > 0 and position(decision.call_id) < share


def candidate_row(kept: KeptCall, *, share: float, redact: Redact) -> dict[str, Any]:
    """The row to be stored; of an answer that cannot be graded as it was given, only the reason for that."""
    turns, answer, why = _redacted(kept.exchange, redact)
    return {
        **_call(kept.decision, share),
        **_origin(kept),
        "turns": None if why else turns,
        "answer": None if why else answer,
        "state": CandidateState.SKIPPED.value if why else CandidateState.KEPT.value,
        "why": why,
    }


def _call(decision: Decision, share: float) -> dict[str, Any]:
    return {
        "call_id": _storable(decision.call_id),
        "position": position(decision.call_id),
        "kept_share": share,
        "route": decision.route,
        "input_class": decision.input_class,
        "at": decision.started_at,
        "shipped": not decision.withheld,
        "confidence": decision.confidence,
        "threshold": decision.threshold,
        "policy_version": decision.policy_version,
        "model": decision.hops[0].tier.model,
    }


def _origin(kept: KeptCall) -> dict[str, Any]:
    trace = kept.exchange.trace
    return {
        "prompt_version": kept.exchange.prompt_version,
        "response_id": _storable(kept.exchange.response_id),
        "trace_id": trace.trace_id if trace else "",
        "span_id": trace.span_id if trace else "",
        "trace_sampled": trace is not None and trace.sampled,
    }


def _redacted(exchange: Exchange, redact: Redact) -> tuple[list[dict[str, str]], str, str]:
    """Turns and answer as they may be stored, and why they may not be graded, or nothing."""
    if not all(turn.is_whole for turn in exchange.turns):
        return [], "", "not_text"
    if len(exchange.answer) + sum(len(turn.text) for turn in exchange.turns) > LONGEST_CHARACTERS:
        return [], "", "too_long"
    storable = _storable(exchange.answer)
    try:
        turns = [{"role": turn.role, "text": _by_hook(redact, _storable(turn.text))} for turn in exchange.turns]
        answer = _by_hook(redact, storable)
    except BaseException:  # noqa: BLE001 - whatever a hook raises, its text must not be stored as it was
        return [], "", "redaction_failed"
    if storable != exchange.answer:
        return [], "", "unstorable"
    return turns, answer, "" if answer == exchange.answer else "redacted"


def _by_hook(redact: Redact, text: str) -> str:
    """What a hook makes of `text`. Raises TypeError where that is no text: it is somebody else's code."""
    found: object = redact(text)
    if not isinstance(found, str):
        raise TypeError(f"a redact hook gave {type(found).__name__}, not str")
    return _storable(found)


def _storable(text: str) -> str:
    """`text` without what no database can hold: NUL characters and halves of characters."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

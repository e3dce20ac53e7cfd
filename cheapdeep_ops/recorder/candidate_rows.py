"""Converts a finished call into a candidate row; its content is redacted, and left out if it cannot be graded."""

from hashlib import sha256
from typing import Final, NamedTuple

from cheapdeep_ops import redaction
from cheapdeep_ops.redaction import Redact
from cheapdeep_ops.sampling import position
from cheapdeep_ops.values import CandidateState, Decision, Exchange, Name, Outcome, TextTurn

LONGEST_CHARACTERS: Final = 50_000
"""The longest exchange whose content is stored; a grader could read more, but the store is not an archive."""

_MOST_PROMPTS: Final = 8
_redacted_prompts: Final[dict[bytes, str]] = {}


class KeptCall(NamedTuple):
    """A call that was chosen by its hash, with its content before redaction; `share` is the probability of that."""

    decision: Decision
    exchange: Exchange
    share: float


def is_kept(decision: Decision, share: float) -> bool:
    """Whether a tier's answer has base outcome ship, and the hash of its call chooses it for the share `share`."""
    return share > 0 and position(decision.call_id) < share and decision.candidate is not None


def candidate_row(kept: KeptCall, *, redact: Redact) -> dict[str, object]:
    """The row for the store; an answer that cannot be graded has no content, and `why` is the cause."""
    turns, answer, why = _redacted(kept.exchange, redact)
    return {
        **_call(kept.decision, kept.share),
        **_tier(kept.decision),
        **_origin(kept),
        "turns": None if why else turns,
        "answer": None if why else answer,
        "state": CandidateState.SKIPPED.value if why else CandidateState.KEPT.value,
        "why": why,
    }


def _call(decision: Decision, share: float) -> dict[str, object]:
    return {
        "call_id": _storable(decision.call_id),
        "position": position(decision.call_id),
        "kept_share": share,
        **(decision.name or Name(decision.route, decision.input_class))._asdict(),
        "at": decision.started_at,
        "threshold": decision.threshold,
        "policy_version": decision.policy_version,
    }


def _tier(decision: Decision) -> dict[str, object]:
    """The tier whose answer is kept, what it stated, and whether the answer went out."""
    hop = decision.candidate
    if hop is None:
        raise ValueError("the call has no answer that ships at base")
    if hop is decision.hops[0]:
        shipped, confidence = not decision.withheld, decision.first_confidence
    else:
        shipped, confidence = hop.outcome is Outcome.SHIP, hop.confidence
    return {"tier": hop.tier.index, "model": hop.tier.model, "shipped": shipped, "confidence": confidence}


def _origin(kept: KeptCall) -> dict[str, object]:
    trace = kept.exchange.trace
    return {
        "prompt_version": kept.exchange.prompt_version,
        "response_id": _storable(kept.exchange.response_id),
        "trace_id": trace.trace_id if trace else "",
        "span_id": trace.span_id if trace else "",
        "trace_sampled": trace is not None and trace.sampled,
    }


def _redacted(exchange: Exchange, redact: Redact) -> tuple[list[dict[str, str]], str, str]:
    """The redacted turns and answer, and the cause if they cannot be graded, else ''."""
    if not all(turn.is_whole for turn in exchange.turns):
        return [], "", "not_text"
    if len(exchange.answer) + sum(len(turn.text) for turn in exchange.turns) > LONGEST_CHARACTERS:
        return [], "", "too_long"
    storable = _storable(exchange.answer)
    try:
        turns = [
            {"role": turn.role, "text": _by_hook(_hook(turn, redact), _storable(turn.text))} for turn in exchange.turns
        ]
        answer = _by_hook(redact, storable)
    except BaseException:  # noqa: BLE001 - whatever a hook raises, the unredacted text must not be stored
        return [], "", "redaction_failed"
    # A grade is a verdict on the answer that went out, so an altered answer is not graded.
    if storable != exchange.answer:
        return [], "", "unstorable"
    return turns, answer, "" if answer == exchange.answer else "redacted"


def _hook(turn: TextTurn, redact: Redact) -> Redact:
    # A hook of the application's own is called for each text, because its result may change.
    return _redacted_prompt if turn.role == "system" and redact is redaction.redact else redact


def _redacted_prompt(text: str) -> str:
    """`redaction.redact(text)`, remembered, because a service sends a few system prompts with all its calls."""
    # The key is a hash, so that no unredacted text outlives its call.
    key = sha256(text.encode()).digest()
    redacted = _redacted_prompts.get(key)
    if redacted is None:
        redacted = redaction.redact(text)
        if len(_redacted_prompts) >= _MOST_PROMPTS:
            _redacted_prompts.clear()
        _redacted_prompts[key] = redacted
    return redacted


def _by_hook(redact: Redact, text: str) -> str:
    """`text` as the hook redacts it. Raises TypeError if the hook does not return a string."""
    redacted: object = redact(text)
    # The hook is the application's own code: its annotation proves nothing.
    if not isinstance(redacted, str):
        raise TypeError(f"a redact hook gave {type(redacted).__name__}, not str")
    return _storable(redacted)


def _storable(text: str) -> str:
    """`text` with the characters replaced that no database can store: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

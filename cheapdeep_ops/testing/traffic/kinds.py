"""Kinds of traffic with known confidence and known truth, drawn by hash so that every run repeats."""

import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

NULL_BELOW: Final = 0.5
"""Confidence below which a class with `escalating_answer` gives no answer."""
DEEP_CONFIDENCE: Final = 0.97
"""What a model that is not a triage model says of itself when asked."""

_ANSWERS: Final = (
    "you can do this yourself under Settings, in the section Account; the change takes effect at once.",
    "this is included in your plan, and the next statement will show it as a separate line.",
    "please allow up to three working days; we send a message as soon as it is done.",
    "yes, that works for the order you named, provided that it has not been shipped yet.",
)
_MALFORMED: Final = (
    "I am fairly sure about this one: {answer}",
    '{{"confidence": "high", "answer": {quoted}}}',
    '{{"answer": {quoted}}}',
    '{{"confidence": 0.9, "answer": "Answer',
    "[0.9, {quoted}]",
)
_PROBABILITY_STEPS: Final = 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficClass:
    """A kind of question: how it is recognised, how sure the cheap model is of it, and how often rightly so."""

    name: str
    marker: str
    """Text that occurs in each of its prompts and in no other class's."""
    confidences: Mapping[float | None, float]
    """Weight of each confidence (0 to 1); None stands for a reply that breaks the contract."""
    accuracy: float | Mapping[float, float] = 0.95
    """Probability that the cheap answer is right: one figure, or one for each confidence."""
    escalating_answer: bool = True
    """Whether the answer is null where the confidence is below 0.5."""
    prompt_templates: tuple[str, ...] = ("Hello, {marker} {n}: could you help me with this, please?",)
    """Prompts with `{marker}` and `{n}`."""
    answer_templates: tuple[str, ...] = _ANSWERS

    def __post_init__(self) -> None:
        """Refuse a class that could not be drawn from, with a ValueError that says why."""
        if not self.name or not self.marker:
            raise ValueError(f"a traffic class needs a name and a marker, not {self.name!r} and {self.marker!r}")
        _check_weights(self.name, self.confidences)
        _check_accuracy(self.name, self.accuracy, self.confidences)
        _check_templates(self.name, self.prompt_templates, self.answer_templates)

    def prompt(self, n: int) -> str:
        """Return the `n`-th question of this class; different for every `n`."""
        template = self.prompt_templates[n % len(self.prompt_templates)]
        return template.format(marker=self.marker, n=n)

    def confidence_at(self, position: float) -> float | None:
        """Return the confidence found at `position` (0 to 1, exclusive) of the cumulated weights."""
        left = position * math.fsum(self.confidences.values())
        for confidence, weight in self.confidences.items():
            if left < weight:
                return confidence
            left -= weight
        return next(c for c, weight in reversed(list(self.confidences.items())) if weight > 0)

    def accuracy_at(self, confidence: float | None) -> float:
        """Return the probability that an answer is right; a malformed reply counts as the least sure one."""
        if isinstance(self.accuracy, Mapping):
            return min(self.accuracy.values()) if confidence is None else self.accuracy[confidence]
        return self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnAnswer:
    """What a model makes of one question: the same for the same seed, model and text, in any order."""

    traffic_class: str
    confidence: float | None
    """None where the triage reply breaks the contract."""
    answer: str
    """The answer in plain text."""
    withheld: bool
    """Whether triage gives null in place of the answer."""
    correct: bool
    """Whether `answer` is right."""
    triage_text: str
    """The whole text of the triage reply."""


def class_of(text: str, classes: Sequence[TrafficClass]) -> TrafficClass:
    """Return the first class whose marker occurs in `text`, else the first of all."""
    return next((known for known in classes if known.marker in text), classes[0])


def outcome(text: str, *, model: str, seed: int, classes: Sequence[TrafficClass], is_cheap: bool = True) -> DrawnAnswer:
    """Return what `model` makes of `text`; one that is not cheap is sure of itself and right."""
    known = class_of(text, classes)
    digest = blake2b(f"{seed}\0{model}\0{text}".encode(), digest_size=32).digest()
    confidence = known.confidence_at(draw(digest)) if is_cheap else DEEP_CONFIDENCE
    correct = not is_cheap or draw(digest, 8) < known.accuracy_at(confidence)
    answer = f"Answer {digest[16:20].hex()}: {_pick(known.answer_templates, digest[20])}"
    withheld = known.escalating_answer and confidence is not None and confidence < NULL_BELOW
    return DrawnAnswer(
        traffic_class=known.name,
        confidence=confidence,
        answer=answer,
        withheld=withheld,
        correct=correct,
        triage_text=_triage_text(confidence, None if withheld else answer, digest[21]),
    )


def draw(digest: bytes, offset: int = 0) -> float:
    """Return the number from 0 to 1 that eight bytes of `digest` stand for."""
    return int.from_bytes(digest[offset : offset + 8]) / _PROBABILITY_STEPS


def is_probability(value: object) -> bool:
    """Tell whether `value` is a number from 0 to 1."""
    return isinstance(value, int | float) and 0 <= value <= 1


def checked_classes(classes: Iterable[TrafficClass]) -> tuple[TrafficClass, ...]:
    """Return the classes as a tuple; ValueError where there is none, or two share a name or a marker."""
    known = tuple(classes)
    if not known:
        raise ValueError("at least one traffic class is needed; the first one is the default")
    for shared, values in (("name", [c.name for c in known]), ("marker", [c.marker for c in known])):
        if len(set(values)) < len(values):
            raise ValueError(f"two traffic classes share a {shared}: {sorted(values)}")
    return known


def _pick(templates: Sequence[str], byte: int) -> str:
    return templates[byte % len(templates)]


def _triage_text(confidence: float | None, answer: str | None, byte: int) -> str:
    if confidence is None:
        return _pick(_MALFORMED, byte).format(answer=answer, quoted=json.dumps(answer))
    return json.dumps({"confidence": confidence, "answer": answer})


def _check_weights(name: str, confidences: Mapping[float | None, float]) -> None:
    for confidence, weight in confidences.items():
        if confidence is not None and not is_probability(confidence):
            raise ValueError(f"{name}: confidences must be None or from 0 to 1, not {confidence!r}")
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"{name}: weights must be 0 or more, not {weight!r}")
    if not any(confidences.values()):
        raise ValueError(f"{name}: at least one confidence needs a weight above 0")


def _check_accuracy(
    name: str,
    accuracy: float | Mapping[float, float],
    confidences: Mapping[float | None, float],
) -> None:
    by_confidence = accuracy if isinstance(accuracy, Mapping) else {0.0: accuracy}
    for value in by_confidence.values():
        if not is_probability(value):
            raise ValueError(f"{name}: accuracy must be from 0 to 1, not {value!r}")
    if not isinstance(accuracy, Mapping):
        return
    missing = [c for c in confidences if c is not None and c not in accuracy]
    if missing or not accuracy:
        raise ValueError(f"{name}: accuracy lacks the confidences {missing}")


def _check_templates(name: str, prompts: Sequence[str], answers: Sequence[str]) -> None:
    if not prompts or not answers:
        raise ValueError(f"{name}: at least one prompt and one answer template are needed")
    for template in prompts:
        fields = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if fields != {"marker", "n"}:
            raise ValueError(f"{name}: a prompt template has the fields marker and n, not {sorted(fields)}")

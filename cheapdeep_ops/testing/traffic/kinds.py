"""Kinds of traffic with known confidence and correctness, drawn by a hash so that every run repeats."""

import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

NULL_BELOW: Final = 0.5
"""The confidence below which a class with `escalating_answer` replies with an answer of null."""
DEEP_CONFIDENCE: Final = 0.97
"""The confidence of a model that is not a triage model."""

_ANSWERS: Final = (
    "you can do this yourself under Settings, in the section Account; the change takes effect at once.",
    "this is included in your plan, and the next statement will show it as a separate line.",
    "please allow up to three working days; we send a message as soon as it is done.",
    "yes, that works for the order you named, provided that it has not been shipped yet.",
)
# Each breaks the contract in its own way: prose, text as a number, a missing field, a cut object, an array.
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
    """A kind of question: its marker, the cheap model's confidences, and its accuracy."""

    name: str
    marker: str
    """Text that occurs in each of its prompts, and in no prompt of another class."""
    confidences: Mapping[float | None, float]
    """The weight of each confidence (0 to 1); None stands for a malformed reply."""
    accuracy: float | Mapping[float, float] = 0.95
    """The probability that the cheap answer is correct: one figure, or one for each confidence."""
    escalating_answer: bool = True
    """Whether the answer is null if the confidence is below 0.5."""
    prompt_templates: tuple[str, ...] = ("Hello, {marker} {n}: could you help me with this, please?",)
    """Prompts with `{marker}` and `{n}`."""
    answer_templates: tuple[str, ...] = _ANSWERS

    def __post_init__(self) -> None:
        """Raise a ValueError with the reason if the class is invalid."""
        if not self.name or not self.marker:
            raise ValueError(f"a traffic class needs a name and a marker, not {self.name!r} and {self.marker!r}")
        _check_weights(self.name, self.confidences)
        _check_accuracy(self.name, self.accuracy, self.confidences)
        _check_templates(self.name, self.prompt_templates, self.answer_templates)

    def prompt(self, n: int) -> str:
        """Return question number `n` of this class; every number gives another question."""
        template = self.prompt_templates[n % len(self.prompt_templates)]
        return template.format(marker=self.marker, n=n)

    def confidence_at(self, position: float) -> float | None:
        """Return the confidence at `position` (0 to 1, exclusive) of the cumulative weights."""
        left = position * math.fsum(self.confidences.values())
        for confidence, weight in self.confidences.items():
            if left < weight:
                return confidence
            left -= weight
        # Rounding errors can leave a rest after the last weight.
        return next(c for c, weight in reversed(list(self.confidences.items())) if weight > 0)

    def accuracy_at(self, confidence: float | None) -> float:
        """Return the probability that an answer is correct; a malformed reply has the lowest of all."""
        if isinstance(self.accuracy, Mapping):
            return min(self.accuracy.values()) if confidence is None else self.accuracy[confidence]
        return self.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnAnswer:
    """A model's answer to one question; seed, model and text determine it."""

    traffic_class: str
    confidence: float | None
    """None for a malformed triage reply."""
    answer: str
    """The answer in plain text."""
    withheld: bool
    """Whether the triage reply has an answer of null."""
    correct: bool
    """Whether `answer` is correct."""
    triage_text: str
    """The whole text of the triage reply."""


def class_of(text: str, classes: Sequence[TrafficClass]) -> TrafficClass:
    """Return the first class whose marker occurs in `text`; without a marker, the first class."""
    return next((each for each in classes if each.marker in text), classes[0])


def draw_answer(
    text: str, *, model: str, seed: int, classes: Sequence[TrafficClass], is_cheap: bool = True
) -> DrawnAnswer:
    """Return the answer of `model` to `text`; a model that is not cheap is confident and correct."""
    traffic = class_of(text, classes)
    # Separate parts of one hash decide on confidence, correctness and wording, so that these are independent.
    digest = blake2b(f"{seed}\0{model}\0{text}".encode(), digest_size=32).digest()
    confidence = traffic.confidence_at(draw(digest)) if is_cheap else DEEP_CONFIDENCE
    correct = not is_cheap or draw(digest, 8) < traffic.accuracy_at(confidence)
    answer = f"Answer {digest[16:20].hex()}: {_pick(traffic.answer_templates, digest[20])}"
    withheld = traffic.escalating_answer and confidence is not None and confidence < NULL_BELOW
    return DrawnAnswer(
        traffic_class=traffic.name,
        confidence=confidence,
        answer=answer,
        withheld=withheld,
        correct=correct,
        triage_text=_triage_text(confidence, None if withheld else answer, digest[21]),
    )


def draw(digest: bytes, offset: int = 0) -> float:
    """Return eight bytes of `digest`, from `offset` on, as a number from 0 to 1."""
    return int.from_bytes(digest[offset : offset + 8]) / _PROBABILITY_STEPS


def is_probability(value: object) -> bool:
    """Whether `value` is a number from 0 to 1."""
    return isinstance(value, int | float) and 0 <= value <= 1


def checked_classes(classes: Iterable[TrafficClass]) -> tuple[TrafficClass, ...]:
    """Return the classes as a tuple. Raises ValueError if there is none, or if two share a name or a marker."""
    checked = tuple(classes)
    if not checked:
        raise ValueError("at least one traffic class is needed; the first one is the default")
    for shared, values in (("name", [c.name for c in checked]), ("marker", [c.marker for c in checked])):
        if len(set(values)) < len(values):
            raise ValueError(f"two traffic classes share a {shared}: {sorted(values)}")
    return checked


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

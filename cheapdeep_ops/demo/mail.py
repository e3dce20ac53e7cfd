"""The demonstration's traffic: mail to the support of an energy supplier, and the answers.

Confidences are those of the ready-made classes (`cheapdeep_ops.testing`). Lengths are those of ordinary support mail,
because the receipt's dollars depend on them: about 1,000 tokens of system prompt, 60 a question and 200 an answer.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

from cheapdeep_ops.testing.traffic.kinds import TrafficClass
from cheapdeep_ops.testing.traffic.ready_made import BILLING, FAQ, LEGAL, OUTDATED

_MAIL: Final = tomllib.loads((Path(__file__).parent / "mail.toml").read_text("utf-8"))
SYSTEM: Final[str] = _MAIL["system"]

_SHIPS_FROM: Final = 0.8
_ACCURACY: Final = 0.998
"""The accuracy of shipped answers in calm traffic: the guard then sees within minutes that a drift has ended."""


def _class(template: TrafficClass, topic: str, accuracy: Mapping[float, float]) -> TrafficClass:
    """`template` with questions and answers of an ordinary length, and with `accuracy` by confidence."""
    questions = tuple("\n\n".join(parts) for parts in product(template.prompt_templates, _MAIL["contexts"]))
    answers = product(_MAIL["openings"][topic], _MAIL["reasons"], _MAIL["steps"])
    return replace(
        template,
        prompt_templates=questions,
        answer_templates=tuple(map("\n\n".join, answers)),
        accuracy=accuracy,
    )


def _reliable(template: TrafficClass, topic: str) -> TrafficClass:
    """`template` with an accuracy of 0.998 where it ships, and its own confidence as accuracy elsewhere."""
    confidences = [confidence for confidence in template.confidences if confidence is not None]
    shipped = [confidence for confidence in confidences if confidence >= _SHIPS_FROM]
    escalated = {confidence: confidence for confidence in confidences if confidence < _SHIPS_FROM}
    return _class(template, topic, dict.fromkeys(shipped, _ACCURACY) | escalated)


EASY: Final = _reliable(FAQ, "faq")
MIXED: Final = _reliable(BILLING, "billing")
HARD: Final = _reliable(LEGAL, "legal")
# After the tariffs have changed, the confident answers between 0.8 and 0.9 are mostly wrong.
CHANGED: Final = _class(OUTDATED, "tariff", {0.95: _ACCURACY, 0.88: 0.4, 0.85: 0.35, 0.7: 0.4, 0.4: 0.3})
CLASSES: Final = (EASY, MIXED, HARD, CHANGED)

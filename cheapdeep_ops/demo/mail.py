"""What the demonstration's customers ask, and how long the answers are: mail to the support of an energy supplier.

How sure the cheap model is, is that of the ready-made classes (`cheapdeep_ops.testing`). The lengths are those of
ordinary support mail, because the dollars of the receipt follow from them: a system prompt of some 1,000 tokens,
questions of about 60 and answers of about 200.
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


_SURE: Final = 0.8
_ACCURACY: Final = 0.998
"""Of what the cheap model is sure of, while nothing is wrong.

With fewer errors than that in 200 grades, what is normal is known well enough for the guard to see within minutes that
a drift is over.
"""


def _class(known: TrafficClass, topic: str, accuracy: Mapping[float, float]) -> TrafficClass:
    """`known` with questions and answers of an ordinary length, and another `accuracy` by confidence."""
    questions = tuple("\n\n".join(parts) for parts in product(known.prompt_templates, _MAIL["contexts"]))
    answers = product(_MAIL["openings"][topic], _MAIL["reasons"], _MAIL["steps"])
    return replace(
        known,
        prompt_templates=questions,
        answer_templates=tuple(map("\n\n".join, answers)),
        accuracy=accuracy,
    )


def _reliable(known: TrafficClass, topic: str) -> TrafficClass:
    """A class in which being sure means being right."""
    sure = [claim for claim in known.confidences if claim is not None and claim >= _SURE]
    unsure = {claim: claim for claim in known.confidences if claim is not None and claim < _SURE}
    return _class(known, topic, dict.fromkeys(sure, _ACCURACY) | unsure)


EASY: Final = _reliable(FAQ, "faq")
MIXED: Final = _reliable(BILLING, "billing")
HARD: Final = _reliable(LEGAL, "legal")
CHANGED: Final = _class(OUTDATED, "tariff", {0.95: _ACCURACY, 0.88: 0.4, 0.85: 0.35, 0.7: 0.4, 0.4: 0.3})
CLASSES: Final = (EASY, MIXED, HARD, CHANGED)

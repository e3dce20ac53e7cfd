"""What each model accepts and refuses, as data: a new model is a row.

Sources: the Messages API reference and migration guides (https://platform.claude.com/docs); refusals that are only
seen in public reports name them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """What a model does with the parameters that differ between models.

    `thinking` are the accepted types of the `thinking` parameter; `sampling` says whether temperature, top_p and
    top_k are accepted (through `extra_body`, on API versions that still know them).
    """

    prefix: str
    structured_outputs: bool = True
    effort: bool = True
    sampling: bool = False
    thinking: frozenset[str] = frozenset({"adaptive", "disabled"})


_FIXED_THINKING: Final = frozenset({"enabled", "disabled"})
_ANY_THINKING: Final = frozenset({"enabled", "adaptive", "disabled"})

PROFILES: Final = (
    # Haiku 4.5 answers 400 to effort and to adaptive thinking (OmniRoute issues 1563 and 4661).
    ModelProfile(prefix="claude-haiku-4-5", effort=False, sampling=True, thinking=_FIXED_THINKING),
    ModelProfile(prefix="claude-sonnet-4-5", effort=False, sampling=True, thinking=_FIXED_THINKING),
    ModelProfile(prefix="claude-sonnet-4-6", sampling=True, thinking=_ANY_THINKING),
    ModelProfile(prefix="claude-opus-4-5", sampling=True, thinking=_FIXED_THINKING),
    ModelProfile(prefix="claude-opus-4-6", sampling=True, thinking=_ANY_THINKING),
    # Opus 4.7 answers 400 to sampling parameters and to fixed thinking budgets (Roo-Code issue 12162).
    ModelProfile(prefix="claude-opus-4-7"),
    ModelProfile(prefix="claude-opus-4-8"),
    ModelProfile(prefix="claude-haiku-5"),
    ModelProfile(prefix="claude-sonnet-5"),
    ModelProfile(prefix="claude-opus-5"),
    # Opus 5.5 always thinks.
    ModelProfile(prefix="claude-opus-5-5", thinking=frozenset({"adaptive"})),
)

UNKNOWN: Final = ModelProfile(prefix="", structured_outputs=False, sampling=True, thinking=_ANY_THINKING)
"""A model without a row: nothing is translated, and triage relies on the prompt and the strict reader alone."""


def profile_of(model: str) -> ModelProfile:
    """The profile with the longest prefix of `model`, or the one for unknown models."""
    fitting = [profile for profile in PROFILES if model.startswith(profile.prefix)]
    return max(fitting, key=lambda profile: len(profile.prefix), default=UNKNOWN)

"""What each model accepts and refuses, as data: a new model is a row.

Sources: the Messages API reference and migration guides (https://platform.claude.com/docs). A comment names the public
report where it is the only source of a refusal.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Which parameters a model accepts, where models differ."""

    prefix: str
    """The start of the model's name; the longest prefix wins."""
    context_tokens: int | None = 1_000_000
    """The size of the context window, reply included; None if unknown."""
    output_tokens: int | None = 128_000
    """The largest `max_tokens`; None if unknown."""
    structured_outputs: bool = True
    effort: bool = True
    sampling: bool = False
    """Whether temperature, top_p and top_k are accepted, through `extra_body` and on older API versions."""
    thinking: frozenset[str] = frozenset({"adaptive", "disabled"})
    """The accepted types of the `thinking` parameter."""
    thinks_unasked: bool = False
    """Whether the model thinks if the request has no `thinking` parameter."""


THINKING_TYPES: Final = frozenset({"enabled", "adaptive", "disabled"})
"""The types of thinking that profiles cover; any other type is passed on unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generation45(ModelProfile):
    context_tokens: int | None = 200_000
    output_tokens: int | None = 64_000
    sampling: bool = True
    thinking: frozenset[str] = frozenset({"enabled", "disabled"})


PROFILES: Final = (
    # Haiku 4.5 answers 400 to effort and to adaptive thinking (OmniRoute issues 1563 and 4661).
    _Generation45(prefix="claude-haiku-4-5", effort=False),
    _Generation45(prefix="claude-sonnet-4-5", effort=False),
    ModelProfile(prefix="claude-sonnet-4-6", sampling=True, thinking=THINKING_TYPES),
    _Generation45(prefix="claude-opus-4-5"),
    ModelProfile(prefix="claude-opus-4-6", sampling=True, thinking=THINKING_TYPES),
    # Opus 4.7 answers 400 to sampling parameters and to fixed thinking budgets (Roo-Code issue 12162).
    ModelProfile(prefix="claude-opus-4-7"),
    ModelProfile(prefix="claude-opus-4-8"),
    ModelProfile(prefix="claude-haiku-5", thinks_unasked=True),
    ModelProfile(prefix="claude-sonnet-5", thinks_unasked=True),
    ModelProfile(prefix="claude-opus-5", thinks_unasked=True),
    # Opus 5.5 always thinks.
    ModelProfile(prefix="claude-opus-5-5", thinking=frozenset({"adaptive"}), thinks_unasked=True),
)

UNKNOWN: Final = ModelProfile(
    prefix="",
    context_tokens=None,
    output_tokens=None,
    structured_outputs=False,
    sampling=True,
    thinking=THINKING_TYPES,
)
"""A model without a row: nothing is translated, and triage has only the prompt and the strict parser."""


@lru_cache(maxsize=100)
def profile_of(model: str) -> ModelProfile:
    """The profile with the longest prefix of `model`, or UNKNOWN if there is none."""
    matching = [profile for profile in PROFILES if model.startswith(profile.prefix)]
    # The longest prefix, so that `claude-opus-5-5` does not get the row of `claude-opus-5`.
    return max(matching, key=lambda profile: len(profile.prefix), default=UNKNOWN)

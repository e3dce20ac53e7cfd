"""What each model accepts and refuses, as data: a new model is a row.

Sources: the Messages API reference and migration guides (https://platform.claude.com/docs). A comment names the public
report where it is the only source of a refusal.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from typing import Final

from cheapdeep_ops.model_names import Version, model_name

THINKING_TYPES: Final = frozenset({"enabled", "adaptive", "disabled", "between_tools"})
"""The types of thinking that profiles cover; any other type is passed on unchanged."""

THINKING_OFF: Final = frozenset({"disabled", "between_tools"})
"""The types with which a request without tools gets no thinking."""

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
"""The levels of effort that profiles cover, in ascending order; any other level is passed on unchanged."""

THINKING_ALLOWANCE: Final = 8_192
"""Tokens for the thinking about one question: ample, because only the tokens that a model writes are billed."""

_DOCUMENTED: Final = date(2026, 11, 29)
_BEFORE_XHIGH: Final = frozenset(EFFORTS) - {"xhigh"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Which parameters a model accepts, where models differ."""

    family: str
    version: Version
    known_since: date = _DOCUMENTED
    """The day on which the documentation was read."""
    context_tokens: int | None = 1_000_000
    """The size of the context window, reply included; None if unknown."""
    output_tokens: int | None = 128_000
    """The largest `max_tokens`; None if unknown."""
    structured_outputs: bool = True
    efforts: frozenset[str] = frozenset(EFFORTS)
    """The accepted levels of `output_config.effort`; empty if the model does not accept the parameter."""
    sampling: bool = False
    """Whether temperature, top_p and top_k are accepted, through `extra_body` and on older API versions."""
    thinking: frozenset[str] = frozenset({"adaptive", "disabled"})
    """The accepted types of the `thinking` parameter."""
    thinks_unasked: bool = False
    """Whether the model thinks if the request has no `thinking` parameter."""
    most_effort_unthinking: str = EFFORTS[-1]
    """The highest effort that the model accepts with thinking off."""


_generation_45: Final = partial(
    ModelProfile,
    context_tokens=200_000,
    output_tokens=64_000,
    sampling=True,
    thinking=frozenset({"enabled", "disabled"}),
)
_generation_46: Final = partial(
    ModelProfile,
    efforts=_BEFORE_XHIGH,
    sampling=True,
    thinking=frozenset({"enabled", "adaptive", "disabled"}),
)
_generation_5: Final = partial(ModelProfile, thinks_unasked=True, most_effort_unthinking="high")
_always_thinking: Final = partial(ModelProfile, thinking=frozenset({"adaptive"}), thinks_unasked=True)

PROFILES: Final[tuple[ModelProfile, ...]] = (
    # Haiku 4.5 answers 400 to effort and to adaptive thinking (OmniRoute issues 1563 and 4661).
    _generation_45(family="haiku", version=(4, 5), efforts=frozenset()),
    _generation_5(family="haiku", version=(5, 5)),
    _generation_45(family="sonnet", version=(4, 5), efforts=frozenset()),
    _generation_46(family="sonnet", version=(4, 6)),
    ModelProfile(family="sonnet", version=(5,), thinks_unasked=True),
    # Sonnet 5.5 switches thinking off before the first tool call only (`between_tools`), never for a whole reply.
    _generation_5(family="sonnet", version=(5, 5), thinking=frozenset({"adaptive", "between_tools"})),
    _generation_45(family="opus", version=(4, 5), efforts=_BEFORE_XHIGH - {"max"}),
    _generation_46(family="opus", version=(4, 6)),
    # Opus 4.7 answers 400 to sampling parameters and to fixed thinking budgets (Roo-Code issue 12162).
    ModelProfile(family="opus", version=(4, 7)),
    ModelProfile(family="opus", version=(4, 8)),
    _generation_5(family="opus", version=(5,)),
    _always_thinking(family="opus", version=(5, 5)),
    _always_thinking(family="fable", version=(5,)),
    _always_thinking(family="fable", version=(5, 1)),
    _always_thinking(family="fable", version=(5, 2)),
    _always_thinking(family="mythos", version=(5,)),
    _always_thinking(family="mythos", version=(5, 1)),
    _always_thinking(family="mythos", version=(5, 2)),
)
"""The known models; in each family the oldest first."""

UNKNOWN: Final = ModelProfile(
    family="",
    version=(),
    context_tokens=None,
    output_tokens=None,
    structured_outputs=False,
    sampling=True,
    thinking=THINKING_TYPES,
)
"""A model of an unknown family, or older than its family's rows.

Nothing is translated, and triage has only the prompt and the strict parser.
"""


@lru_cache(maxsize=100)
def profile_of(model: str) -> ModelProfile:
    """The profile of `model` under any of its names; an unknown model has that of the newest model of its family.

    It is UNKNOWN for an unknown family, and for models older than those that are known.
    """
    name = model_name(model)
    rows = [profile for profile in PROFILES if profile.family == name.family]
    exact = [profile for profile in rows if profile.version == name.version]
    if exact or not rows:
        return exact[0] if exact else UNKNOWN
    # A name without a version means the newest model.
    return UNKNOWN if name.version and name.version < rows[0].version else rows[-1]


def is_assumed(model: str) -> bool:
    """Whether `model` has the profile of another model, because its own is not known yet."""
    profile, name = profile_of(model), model_name(model)
    return profile is not UNKNOWN and profile.version != name.version


def thinking_allowance(profile: ModelProfile, *, is_off: bool = False) -> int:
    """Tokens to add to `max_tokens` for the thinking that the API counts towards it; 0 if the model does not think.

    `is_off` is whether the request switches thinking off.
    """
    return THINKING_ALLOWANCE if profile.thinks_unasked and not is_off else 0

"""How each feature of a request is treated: triaged as it is, triaged with a translation, or sent to the deep tier.

The table is data; `CHEAPDEEP_TREATMENTS` changes it within its limits. By default, routing never changes what a caller
can get. So a call is not triaged if it needs a feature that a triage reply (one JSON object) cannot give.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from cheapdeep_ops.values import BypassCause


class Treatment(StrEnum):
    """How one feature of a request is treated."""

    TRIAGE = "triage"
    """The triage request has the feature as the caller sent it."""
    TRANSLATE = "translate"
    """The triage request leaves the feature out, or adapts it to the model; the call's span shows the change."""
    BYPASS = "bypass"
    """The whole call goes to the deep tier without triage, with a cause."""


class Feature(NamedTuple):
    """A row of the table: a feature, its default treatment, and the other treatments that a setting may choose.

    `cause` is the bypass cause that is counted; None if the feature never bypasses. `means` explains the row in one
    sentence. If there is no other treatment, it says why.
    """

    name: str
    cause: BypassCause | None
    default: Treatment
    means: str
    others: tuple[Treatment, ...] = ()

    @property
    def possible(self) -> tuple[Treatment, ...]:
        """All treatments that the feature can have, the default first."""
        return (self.default, *self.others)


# Short names, so that the table below is readable.
_TRIAGE, _TRANSLATE, _BYPASS = Treatment.TRIAGE, Treatment.TRANSLATE, Treatment.BYPASS


def _triaged(name: str, means: str, cause: BypassCause | None = None) -> Feature:
    return Feature(name=name, cause=cause, default=_TRIAGE, others=(_BYPASS,) if cause else (), means=means)


def _translated(name: str, means: str, cause: BypassCause | None = None) -> Feature:
    return Feature(name=name, cause=cause, default=_TRANSLATE, others=(_BYPASS,) if cause else (), means=means)


def _bypassed(name: str, cause: BypassCause, means: str, *others: Treatment) -> Feature:
    return Feature(name=name, cause=cause, default=_BYPASS, others=others, means=means)


FEATURES: Final = (
    _triaged("system", "The system prompt stands before the triage contract, unchanged: nearly every call has one."),
    _triaged("conversation", "More than one turn: all of them go along.", BypassCause.CONVERSATION),
    _triaged("cache_control", "Breakpoints stay where they are and none is added: they change no answer."),
    _triaged(
        "carried",
        "`metadata`, `service_tier`, `inference_geo`, `user_profile_id`, `workspace_id`, `extra_headers`, "
        "`extra_query`, `timeout` and `stream` mean the same to every tier.",
    ),
    _translated("effort", "`output_config.effort` goes along where the model takes it.", BypassCause.EFFORT),
    _translated(
        "sampling",
        "`temperature`, `top_p` and `top_k` (in `extra_body`) are no part of the triage question; the deep tier gets "
        "them where it takes them.",
        BypassCause.SAMPLING,
    ),
    _translated(
        "thinking_off",
        "`thinking` of type `disabled` or `between_tools` goes along where the model would think unasked.",
    ),
    _bypassed(
        "thinking",
        BypassCause.THINKING,
        "`thinking` of any other type; translated, triage does not ask for it and its answers come without.",
        _TRANSLATE,
    ),
    _bypassed(
        "thinking_blocks",
        BypassCause.THINKING,
        "Thinking in earlier turns; translated, it is left out of the triage question only.",
        _TRANSLATE,
    ),
    _bypassed(
        "images",
        BypassCause.IMAGES,
        "Triaged, they go along; such answers are not graded, because a grader reads only text.",
        _TRIAGE,
    ),
    _bypassed(
        "documents",
        BypassCause.DOCUMENTS,
        "Triaged, they go along; such answers are graded only if all documents are plain text.",
        _TRIAGE,
    ),
    _bypassed("search_results", BypassCause.DOCUMENTS, "Triaged, they go along; graders read their text.", _TRIAGE),
    _bypassed("citations", BypassCause.CITATIONS, "A triage reply is JSON, which the API gives no citations in."),
    _bypassed("tools", BypassCause.TOOLS, "A triage reply is an answer or none; it cannot call a tool."),
    _bypassed("tool_choice", BypassCause.TOOLS, "Means nothing without tools."),
    _bypassed("server_tools", BypassCause.TOOLS, "`container`, and blocks of tools that the API runs: as with tools."),
    _bypassed(
        "unknown_blocks",
        BypassCause.TOOLS,
        "Blocks of a type that is not in this table: their effect on triage is unknown.",
    ),
    _bypassed(
        "structured_output", BypassCause.STRUCTURED_OUTPUT, "The triage reply has a schema of its own in that place."
    ),
    _bypassed(
        "stop_sequences",
        BypassCause.STOP_SEQUENCES,
        "They would stop the JSON around an answer as well, and what they stop cannot be made up exactly.",
    ),
    _bypassed("prefill", BypassCause.PREFILL, "A last turn that is not the user's: the reply has to go on from it."),
    _bypassed(
        "too_long",
        BypassCause.TOO_LONG,
        "More than the first tier's context window or `CHEAPDEEP_TRIAGE_MAX_INPUT_TOKENS`: roughly counted, four bytes "
        "of text a token.",
    ),
    _bypassed(
        "suspicious_text",
        BypassCause.SUSPICIOUS_TEXT,
        "Text with so many escapes, lookalikes or keys of a verdict that the search for copied verdicts is given up.",
    ),
    _bypassed(
        "cache_warming",
        BypassCause.PARAMETERS,
        "`max_tokens` of 0 warms the deep tier's cache and asks for no answer.",
    ),
    _bypassed(
        "unknown_parameters",
        BypassCause.PARAMETERS,
        "All others, `speed` and `diagnostics` too, and what else is in `extra_body`: they may mean anything.",
    ),
    _bypassed("malformed_request", BypassCause.MALFORMED_REQUEST, "What is wrong with a request, the API says best."),
)
"""All features, in the order for a reader: the triaged ones first, the bypassed ones last."""

_LONGEST_NAMED: Final = 40

BY_NAME: Final = {feature.name: feature for feature in FEATURES}
_CHANGEABLE: Final = [feature.name for feature in FEATURES if feature.others]


def treatments(changes: Mapping[str, Treatment]) -> dict[str, Treatment]:
    """The treatment of every feature: from `changes`, else its default."""
    return {feature.name: changes.get(feature.name, feature.default) for feature in FEATURES}


DEFAULTS: Final[Mapping[str, Treatment]] = treatments({})


def read_changes(text: str) -> dict[str, str]:
    """The pairs of a text such as `images=triage,effort=bypass`.

    Raises ValueError if the text has another form or names a feature twice.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    changes = {name.strip(): treatment.strip() for name, _, treatment in pairs}
    if not all(equals for _, equals, _ in pairs) or len(changes) < len(pairs):
        raise ValueError("needs pairs such as images=triage,effort=bypass, and no feature twice")
    return changes


def checked(changes: Mapping[str, object]) -> dict[str, Treatment]:
    """`changes` as treatments. Raises ValueError that names an unknown feature, or one without this treatment."""
    for name, treatment in changes.items():
        if name not in BY_NAME:
            # Shortened, because the name comes from the environment and may be long.
            raise ValueError(f"{str(name)[:_LONGEST_NAMED]} is no feature; {', '.join(_CHANGEABLE)} can be changed")
        possible = BY_NAME[name].possible
        if treatment not in possible:
            raise ValueError(f"{name} can only be {' or '.join(possible)}. {BY_NAME[name].means}")
    return {name: Treatment(str(treatment)) for name, treatment in changes.items()}

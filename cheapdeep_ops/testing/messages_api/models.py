"""The models of the simulated API, the parameters that they refuse, and their catalogue entries."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

Refused = Literal[
    "sampling", "thinking_enabled", "thinking_adaptive", "thinking_disabled", "between_tools", "effort", "effort_xhigh",
    "effort_max", "unthinking_above_high", "forced_tools", "format", "prefill", "assistant_documents", "user_citations",
]  # fmt: skip
"""What a model may refuse; `unthinking_above_high` is thinking that is off at an effort above `high`."""

Line = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
Lifecycle = Literal["active", "deprecated", "retired"]

UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"
"""The API's value for an unknown release date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """A model with its limits, its lifecycle and the parameters that it refuses with HTTP 400."""

    id: str
    display_name: str
    line: Line
    answers_as: str = ""
    """The id in its replies: the API replies to an alias with the dated id. Empty for the model's own id."""
    created_at: str = UNKNOWN_DATE
    lifecycle: Lifecycle = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None
    max_input_tokens: int = 1_000_000
    max_tokens: int = 128_000
    requests_a_minute: int = 2_000
    """The limit that its replies state in their headers."""
    smallest_cached: int = 1_024
    """The smallest prompt, in tokens, that its prompt cache stores."""
    tokens_ratio: float = 1.0
    """Tokens that it reports for each token of four characters; newer tokenizers report more."""
    thinks: int = 0
    """The tokens of its thinking before a simulated answer, unless the request switches that off."""
    refuses: frozenset[Refused] = frozenset({"sampling", "thinking_enabled", "between_tools", "prefill"})

    @property
    def reply_id(self) -> str:
        """The id in its replies."""
        return self.answers_as or self.id


_REFUSED_SINCE_5: Final[frozenset[Refused]] = frozenset({"sampling", "thinking_enabled", "between_tools", "prefill"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules45(SimulatedModel):
    max_input_tokens: int = 200_000
    max_tokens: int = 64_000
    requests_a_minute: int = 4_000
    smallest_cached: int = 4_096
    refuses: frozenset[Refused] = frozenset({"thinking_adaptive", "between_tools", "effort"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules5(SimulatedModel):
    smallest_cached: int = 512
    refuses: frozenset[Refused] = _REFUSED_SINCE_5 | {"unthinking_above_high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _AlwaysThinking(SimulatedModel):
    smallest_cached: int = 512
    refuses: frozenset[Refused] = _REFUSED_SINCE_5 | {"thinking_disabled", "forced_tools"}


def _with_alias(model: SimulatedModel) -> tuple[SimulatedModel, SimulatedModel]:
    """The model by its alias, which has no date, and by its dated id."""
    return replace(model, id=model.id.rpartition("-")[0], answers_as=model.id), model


# Refusals, limits and the smallest cached prompts are as documented in November 2026. From a certain API version on,
# every model refuses sampling parameters too. Sources differ on two prompt caches: Opus 4.7 (2,048 or 4,096 tokens),
# and Sonnet 4.6 (1,024 are documented, 2,048 were observed).
MODELS: Final[tuple[SimulatedModel, ...]] = (
    _Rules5(
        id="claude-haiku-5-5",
        display_name="Claude Haiku 5.5",
        line="haiku",
        created_at="2026-10-07T00:00:00Z",
    ),
    _Rules5(
        id="claude-sonnet-5-5",
        display_name="Claude Sonnet 5.5",
        line="sonnet",
        refuses=(_REFUSED_SINCE_5 - {"between_tools"}) | {"thinking_disabled", "unthinking_above_high", "forced_tools"},
    ),
    SimulatedModel(id="claude-sonnet-5", display_name="Claude Sonnet 5", line="sonnet"),
    _AlwaysThinking(id="claude-opus-5-5", display_name="Claude Opus 5.5", line="opus"),
    _Rules5(id="claude-opus-5", display_name="Claude Opus 5", line="opus"),
    _AlwaysThinking(id="claude-fable-5-1", display_name="Claude Fable 5.1", line="fable"),
    _AlwaysThinking(id="claude-mythos-5-1", display_name="Claude Mythos 5.1", line="mythos"),
    SimulatedModel(id="claude-opus-4-8", display_name="Claude Opus 4.8", line="opus"),
    SimulatedModel(
        id="claude-opus-4-7",
        display_name="Claude Opus 4.7",
        line="opus",
        created_at="2026-04-16T00:00:00Z",
        smallest_cached=2_048,
    ),
    SimulatedModel(
        id="claude-sonnet-4-6",
        display_name="Claude Sonnet 4.6",
        line="sonnet",
        smallest_cached=2_048,
        refuses=frozenset({"between_tools", "effort_xhigh", "prefill"}),
    ),
    SimulatedModel(
        id="claude-opus-4-6",
        display_name="Claude Opus 4.6",
        line="opus",
        smallest_cached=4_096,
        refuses=frozenset({"between_tools", "effort_xhigh", "prefill"}),
    ),
    *_with_alias(
        _Rules45(
            id="claude-opus-4-5-20251101",
            display_name="Claude Opus 4.5",
            line="opus",
            lifecycle="deprecated",
            retires_at="2027-01-22T00:00:00Z",
            refuses=frozenset({"thinking_adaptive", "between_tools", "effort_xhigh", "effort_max"}),
        )
    ),
    *_with_alias(
        _Rules45(
            id="claude-haiku-4-5-20251001",
            display_name="Claude Haiku 4.5",
            line="haiku",
            created_at="2025-10-15T00:00:00Z",
        )
    ),
    *_with_alias(
        _Rules45(
            id="claude-sonnet-4-5-20250929",
            display_name="Claude Sonnet 4.5",
            line="sonnet",
            lifecycle="deprecated",
            smallest_cached=1_024,
            retires_at="2026-11-30T00:00:00Z",
        )
    ),
)


class Catalogue:
    """The models that the API knows; a test may change them while the server runs."""

    def __init__(self, models: Iterable[SimulatedModel]) -> None:
        self._first: Mapping[str, SimulatedModel] = {model.id: model for model in models}
        self._served: Mapping[str, SimulatedModel] = self._first

    @property
    def by_id(self) -> Mapping[str, SimulatedModel]:
        """The models by id."""
        return self._served

    def put(self, model: SimulatedModel) -> None:
        """Add a model, or replace one."""
        # A new mapping, because the server's thread may be iterating over the old one.
        self._served = {**self._served, model.id: model}

    def refuse(self, model: str, parameters: Iterable[Refused]) -> None:
        """Let a model refuse more parameters, until `restore`. Raises KeyError if the model is unknown."""
        served = self._served[model]
        self._served = {**self._served, model: replace(served, refuses=served.refuses.union(parameters))}

    def restore(self) -> None:
        """Have the models of the beginning again, which refuse only what they refuse by themselves."""
        self._served = self._first

    def page(self, lifecycles: Collection[str]) -> dict[str, object]:
        """Return the API's list of the models in these stages of their lifecycle."""
        data = [model_info(model) for model in self._served.values() if model.lifecycle in lifecycles]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"data": data, "has_more": False, **ends}


def model_info(model: SimulatedModel) -> dict[str, object]:
    """Return the catalogue entry of `model` as the API's `ModelInfo`."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name,
        "line": model.line,
        "created_at": model.created_at,
        "lifecycle": model.lifecycle,
        "deprecated_at": model.deprecated_at,
        "retires_at": model.retires_at,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_tokens,
        "capabilities": _capabilities(model.refuses),
    }


def _capabilities(refuses: frozenset[Refused]) -> dict[str, object]:
    always = ("batch", "citations", "code_execution", "image_input", "pdf_input")
    return {
        **{name: _support(on=True) for name in always},
        "structured_outputs": _support(on="format" not in refuses),
        "context_management": _support(on=True),
        "effort": _effort(refuses),
        "server_tools": {
            **_support(on=True),
            "code_execution": _support(on=True),
            "web_search": _support(on=True),
        },
        "thinking": {**_support(on=True), "types": _thinking_types(refuses)},
    }


def _effort(refuses: frozenset[Refused]) -> Mapping[str, object]:
    on = "effort" not in refuses
    levels = {level: _support(on=on) for level in ("low", "medium", "high")}
    refusable: tuple[tuple[str, Refused], ...] = (("xhigh", "effort_xhigh"), ("max", "effort_max"))
    return {
        **_support(on=on),
        **levels,
        **{level: _support(on=on and name not in refuses) for level, name in refusable},
    }


def _thinking_types(refuses: frozenset[Refused]) -> Mapping[str, object]:
    return {
        "adaptive": _support(on="thinking_adaptive" not in refuses),
        "between_tools": _support(on="between_tools" not in refuses),
        "disabled": _support(on="thinking_disabled" not in refuses),
        "enabled": _support(on="thinking_enabled" not in refuses),
    }


def _support(*, on: bool) -> dict[str, object]:
    return {"supported": on}

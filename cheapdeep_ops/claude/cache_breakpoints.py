"""Where a caller's prompt cache breakpoints stand, seen from the triage contract."""

from collections.abc import Mapping
from typing import Any, Final

from cheapdeep_ops.claude.content import blocks_of, field
from cheapdeep_ops.claude.prompt import TriagePrompt
from cheapdeep_ops.pricing import ContractPlace

_MARK: Final = "cache_control"


def contract_place(params: Mapping[str, Any], prompt: TriagePrompt) -> ContractPlace:
    """Where the API counts the contract's tokens in the triage request made from `params`.

    The contract stands behind the system prompt, or in the last turn; a mark on the whole request counts as one on its
    last block.
    """
    system, *turns = (params.get("system"), *(turn.get("content") for turn in params["messages"]))
    first_behind = len(turns) - 1 if prompt.replaces_user_turn else 0
    if not params.get(_MARK) and not any(map(_is_marked, turns[first_behind:])):
        return ContractPlace.UNCACHED
    is_read_without = any(map(_is_marked, (system, *turns[:first_behind])))
    return ContractPlace.WRITTEN if is_read_without else ContractPlace.READ


def _is_marked(content: object) -> bool:
    return any(field(block, _MARK) for block in blocks_of(content))

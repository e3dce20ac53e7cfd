"""Where a caller's prompt cache breakpoints are, relative to the triage contract."""

from typing import Final

from cheapdeep_ops.claude.content import blocks_of, field
from cheapdeep_ops.claude.params import Params
from cheapdeep_ops.claude.prompt import TriagePrompt
from cheapdeep_ops.pricing import ContractPlace

_MARK: Final = "cache_control"


def contract_place(params: Params, prompt: TriagePrompt) -> ContractPlace:
    """Which token count of the API holds the contract's tokens, in the triage request made from `params`.

    The contract follows the system prompt, or is in the last turn.
    """
    system, *turns = (params.get("system"), *(turn.get("content") for turn in params["messages"]))
    first_after_contract = len(turns) - 1 if prompt.replaces_user_turn else 0
    # A breakpoint on the whole request counts as one on its last block, which follows the contract.
    if not params.get(_MARK) and not any(map(_is_marked, turns[first_after_contract:])):
        return ContractPlace.UNCACHED
    has_earlier_breakpoint = any(map(_is_marked, (system, *turns[:first_after_contract])))
    return ContractPlace.WRITTEN if has_earlier_breakpoint else ContractPlace.READ


def _is_marked(content: object) -> bool:
    return any(field(block, _MARK) for block in blocks_of(content))

"""Where a caller's prompt cache breakpoints stand, seen from the triage contract."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cheapdeep_ops.claude.prompt import TriagePrompt

_MARK: Final = "cache_control"


def covers_contract(params: Mapping[str, Any], prompt: TriagePrompt) -> bool:
    """Whether a breakpoint of the triage request made from `params` lies behind the contract, which it then caches.

    The contract stands behind the system prompt, or in the last turn; a mark on the whole request counts as one on its
    last block.
    """
    messages = params["messages"]
    behind = messages[-1:] if prompt.replaces_user_turn else messages
    return bool(params.get(_MARK)) or any(_is_marked(turn.get("content")) for turn in behind)


def _is_marked(content: object) -> bool:
    if isinstance(content, str) or not isinstance(content, Iterable):
        return False
    return any(isinstance(block, Mapping) and bool(block.get(_MARK)) for block in content)

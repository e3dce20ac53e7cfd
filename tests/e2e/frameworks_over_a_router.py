"""Asks through a framework that was given a router, and prints what came of it; `test_frameworks.py` runs it.

`python frameworks_over_a_router.py WAY URL`
"""
# ruff: noqa: PLC0415 - a way loads its own framework alone

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.policy import blank_book

OPUS, ASKED = "claude-opus-4-7", "Where is my order?"


class Kept:
    """Decisions and warnings."""

    def __init__(self) -> None:
        self.book = blank_book()
        self.decisions: list[Any] = []
        self.warnings: list[str] = []

    def put(self, decision: Any, _tell: object) -> None:
        self.decisions.append(decision)

    def close(self) -> None:
        pass

    def warned(self, record: logging.LogRecord) -> bool:
        self.warnings.append(record.getMessage())
        return True


def with_instructor(router: Any) -> str:
    import instructor
    from pydantic import BaseModel

    class Ticket(BaseModel):
        subject: str

    client = instructor.from_anthropic(router, mode=instructor.Mode.JSON)
    asked = {"model": OPUS, "max_tokens": 100, "messages": [{"role": "user", "content": ASKED}]}
    ticket = client.chat.completions.create(response_model=Ticket, **asked)
    return (asyncio.run(ticket) if isinstance(router, AsyncRouter) else ticket).subject


def _agent(router: Any) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return Agent(AnthropicModel(OPUS, provider=AnthropicProvider(anthropic_client=router)))


def with_pydantic_ai(router: Any) -> str:
    return str(_agent(router).run_sync(ASKED).output)


def with_pydantic_ai_streamed(router: Any) -> str:
    async def streamed() -> str:
        async with _agent(router).run_stream(ASKED) as result:
            return str(await result.get_output())

    return asyncio.run(streamed())


def _model(router: Any) -> Any:
    from langchain_anthropic import ChatAnthropic

    model = ChatAnthropic(model=OPUS, api_key="any", max_tokens=100)
    vars(model)["_async_client" if isinstance(router, AsyncRouter) else "_client"] = router
    return model


def with_langchain(router: Any) -> str:
    model = _model(router)
    answer = asyncio.run(model.ainvoke(ASKED)) if isinstance(router, AsyncRouter) else model.invoke(ASKED)
    return str(answer.text)


def with_langchain_streamed(router: Any) -> str:
    return "".join(chunk.text for chunk in _model(router).stream(ASKED))


WAYS: dict[str, tuple[type[Router | AsyncRouter], Callable[[Any], str]]] = {
    "instructor": (Router, with_instructor),
    "instructor, asyncio": (AsyncRouter, with_instructor),
    "pydantic-ai": (AsyncRouter, with_pydantic_ai),
    "pydantic-ai, streamed": (AsyncRouter, with_pydantic_ai_streamed),
    "langchain-anthropic": (Router, with_langchain),
    "langchain-anthropic, asyncio": (AsyncRouter, with_langchain),
    "langchain-anthropic, streamed": (Router, with_langchain_streamed),
}


def main(way: str, url: str) -> None:
    kept = Kept()
    logging.getLogger("cheapdeep_ops.router.base").addFilter(kept.warned)
    kind, ask = WAYS[way]
    router = kind(base_url=url, api_key="any", recorder=kept, settings=Settings(record=False))  # type: ignore[call-arg]
    answer = ask(router)
    shown = [[each.model, each.reason, each.bypass_cause] for each in kept.decisions]
    print(json.dumps({"answer": answer, "decisions": shown, "warnings": kept.warnings}))


if __name__ == "__main__":
    main(*sys.argv[1:])

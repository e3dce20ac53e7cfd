"""Clients in Python, for `test_python.py`: one JSON object on a line says what to do, one what came of it.

It imports nothing of this project: frameworks have an environment of their own.
"""
# ruff: noqa: PLC0415 - an act loads its own framework alone

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import anthropic

MODEL = "claude-opus-4-7"
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
Given = dict[str, Any]


def asked(given: Given) -> Given:
    return {"model": MODEL, "max_tokens": 1024, "messages": [{"role": "user", "content": given["question"]}]}


def options(given: Given) -> Given:
    return {"base_url": given["url"], "api_key": given["key"], "max_retries": given.get("retries", 0)}


def shown(message: Any) -> Given:
    known = message.to_dict(mode="json")
    return {name: known[name] for name in ("content", "stop_reason", "usage", "model")}


# The SDK


def create(given: Given) -> Given:
    with anthropic.Anthropic(**options(given)) as client:
        message = client.messages.create(**asked(given))
        return {**shown(message), "request_id": message._request_id}


def stream(given: Given) -> Given:
    with anthropic.Anthropic(**options(given)) as client, client.messages.stream(**asked(given)) as stream:
        text = "".join(stream.text_stream)
        return {**shown(stream.get_final_message()), "text": text}


def tools(given: Given) -> Given:
    with anthropic.Anthropic(**options(given)) as client:
        return shown(client.messages.create(**asked(given), tools=[WEATHER]))


def others(given: Given) -> Given:
    """Tokens, models and a batch."""
    with anthropic.Anthropic(**options(given)) as client:
        known = asked(given)
        counted = client.messages.count_tokens(model=known["model"], messages=known["messages"])
        batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": known}])
        client.messages.batches.retrieve(batch.id)
        results = [(line.custom_id, shown(line.result.message)) for line in client.messages.batches.results(batch.id)]
        models = [model.to_dict(mode="json") for model in client.models.list()]
    return {"counted": counted.to_dict(), "models": models, "results": results}


async def create_async(given: Given) -> Given:
    async with anthropic.AsyncAnthropic(**options(given)) as client:
        return shown(await client.messages.create(**asked(given)))


async def stream_async(given: Given) -> Given:
    async with (
        anthropic.AsyncAnthropic(**options(given)) as client,
        client.messages.stream(**asked(given)) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        return {**shown(await stream.get_final_message()), "text": text}


async def together_async(given: Given) -> list[Given]:
    async with anthropic.AsyncAnthropic(**options(given)) as client:
        calls = (client.messages.create(**asked(given)) for _ in range(20))
        return [shown(message) for message in await asyncio.gather(*calls)]


# LangChain


def _chat(given: Given) -> Any:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model=MODEL, api_key=given["key"], base_url=given["url"], max_tokens=1024, max_retries=0)


def _told(answer: Any) -> Given:
    usage = {name: answer.usage_metadata[name] for name in ("input_tokens", "output_tokens")}
    calls = [[call["name"], call["args"]] for call in answer.tool_calls]
    return {"text": str(answer.text), "usage": usage, "calls": calls, "stop": answer.response_metadata["stop_reason"]}


def langchain(given: Given) -> Given:
    return _told(_chat(given).invoke(given["question"]))


async def langchain_async(given: Given) -> Given:
    return _told(await _chat(given).ainvoke(given["question"]))


def langchain_stream(given: Given) -> Given:
    whole = None
    for chunk in _chat(given).stream(given["question"]):
        whole = chunk if whole is None else whole + chunk
    return _told(whole)


def langchain_tools(given: Given) -> Given:
    return _told(_chat(given).bind_tools([WEATHER]).invoke(given["question"]))


# Pydantic AI


def _agent(given: Given) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    provider = AnthropicProvider(anthropic_client=anthropic.AsyncAnthropic(**options(given)))
    return Agent(AnthropicModel(MODEL, provider=provider))


def _of_run(result: Any, text: str) -> Given:
    usage = result.usage() if callable(result.usage) else result.usage
    return {"text": text, "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}}


def pydantic_ai(given: Given) -> Given:
    result = _agent(given).run_sync(given["question"])
    return _of_run(result, result.output)


async def pydantic_ai_stream(given: Given) -> Given:
    async with _agent(given).run_stream(given["question"]) as result:
        text = await result.get_output()
        return _of_run(result, text)


def pydantic_ai_tools(given: Given) -> Given:
    agent, called = _agent(given), []

    @agent.tool_plain
    def weather(city: str) -> str:
        """Tell the weather of a city."""
        called.append(city)
        return "Sunny."

    result = agent.run_sync(given["question"])
    return {**_of_run(result, result.output), "called": called}


ACTS: dict[str, Callable[[Given], Any]] = {
    act.__name__: act
    for act in (
        create, stream, tools, others, create_async, stream_async, together_async,
        langchain, langchain_async, langchain_stream, langchain_tools,
        pydantic_ai, pydantic_ai_stream, pydantic_ai_tools,
    )
}  # fmt: skip


def failed(error: Exception) -> Given:
    """What a client raised; a framework's error with the SDK's that it hides."""
    inner = error if isinstance(error, anthropic.APIStatusError) else error.__cause__
    known = {"failed": type(error).__name__, "status": getattr(error, "status_code", None)}
    if not isinstance(inner, anthropic.APIStatusError):
        return known
    body = {**inner.body, "request_id": None} if isinstance(inner.body, dict) else inner.body
    return {**known, "class": type(inner).__name__, "inner": inner.status_code, "body": body}


def main() -> None:
    # LangChain keeps its connections from one call to the next, and they belong to one loop.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for line in sys.stdin:
        given = json.loads(line)
        try:
            result = ACTS[given["act"]](given)
            result = loop.run_until_complete(result) if asyncio.iscoroutine(result) else result
        except Exception as error:  # noqa: BLE001 - it is what the test asks about
            result = failed(error)
        print(json.dumps(result), flush=True)
    loop.close()


if __name__ == "__main__":
    main()

"""A service written against the SDK, as many are: it has to type-check and to run with the routers in its place too.

Only the line that imports the two clients differs then; `tests/test_swap.py` changes it.
"""
# pyright: strict

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Literal, assert_type

import anthropic
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import (
    ImageBlockParam,
    Message,
    MessageParam,
    MessageTokensCount,
    ModelInfo,
    ModelParam,
    ParsedMessage,
    TextBlockParam,
    ToolChoiceParam,
    ToolParam,
    ToolResultBlockParam,
    ToolUseBlock,
)
from anthropic.types.beta import BetaMessage
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages import MessageBatch
from anthropic.types.messages.batch_create_params import Request
from pydantic import BaseModel

MODEL: ModelParam = "claude-opus-4-7"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HANDBOOK: list[TextBlockParam] = [
    {"type": "text", "text": "You answer for a shop.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
]
LOOK_UP: ToolParam = {
    "name": "order",
    "description": "The state of an order.",
    "input_schema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
}


class Ticket(BaseModel):
    """What `parse` fills."""

    subject: str
    urgent: bool


def asking(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def asking_about_a_picture() -> list[MessageParam]:
    picture: ImageBlockParam = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
    }
    return [{"role": "user", "content": [picture, {"type": "text", "text": "What is wrong with it?"}]}]


def results_of(message: Message) -> list[ToolResultBlockParam]:
    wanted = [block for block in message.content if isinstance(block, ToolUseBlock)]
    return [{"type": "tool_result", "tool_use_id": block.id, "content": "It is on its way."} for block in wanted]


def batched(text: str) -> list[Request]:
    return [{"custom_id": "only", "params": {"model": MODEL, "max_tokens": 64, "messages": asking(text)}}]


class Desk:
    """The service for threads."""

    def __init__(self, client: Anthropic | None = None) -> None:
        self.client = client or Anthropic(timeout=20.0, max_retries=1, default_headers={"x-team": "shop"})
        self.patient: Anthropic = self.client.with_options(timeout=anthropic.Timeout(60.0, connect=5.0), max_retries=5)

    def answer(self, text: str, system: str | anthropic.Omit = anthropic.omit) -> Message:
        return self.client.messages.create(
            model=MODEL,
            max_tokens=1024,
            messages=asking(text),
            system=system,
            stop_sequences=["END"],
            metadata={"user_id": "7"},
            timeout=30.0,
            extra_headers={"X-Team": "support"},
        )

    def answer_from_params(self, text: str) -> Message:
        params: MessageCreateParamsNonStreaming = {"model": MODEL, "max_tokens": 64, "messages": asking(text)}
        return self.patient.messages.create(**params)

    def answer_in_any_way(self, text: str, *, stream: bool) -> str:
        reply = self.client.messages.create(model=MODEL, max_tokens=64, messages=asking(text), stream=stream)
        if isinstance(reply, Message):
            return text_of(reply)
        with reply:
            return " ".join(event.type for event in reply)

    def answer_about_a_picture(self) -> Message:
        return self.client.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=asking_about_a_picture(),
            system=HANDBOOK,
            thinking={"type": "adaptive"},
        )

    def with_tools(self, text: str) -> Message:
        choice: ToolChoiceParam = {"type": "auto"}
        turns = asking(text)
        first = self.client.messages.create(
            model=MODEL, max_tokens=64, messages=turns, tools=[LOOK_UP], tool_choice=choice
        )
        turns.append({"role": "assistant", "content": first.content})
        turns.append({"role": "user", "content": results_of(first) or "Do without."})
        return self.client.messages.create(model=MODEL, max_tokens=64, messages=turns, tools=[LOOK_UP])

    def pieces(self, text: str) -> Iterator[str]:
        for event in self.client.messages.create(model=MODEL, max_tokens=64, messages=asking(text), stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text

    def written(self, text: str) -> Message:
        with self.client.messages.stream(model=MODEL, max_tokens=64, messages=asking(text)) as stream:
            for piece in stream.text_stream:
                print(piece, end="", flush=True)
            return stream.get_final_message()

    def written_as_events(self, text: str) -> str:
        with self.client.messages.stream(model=MODEL, max_tokens=64, messages=asking(text)) as stream:
            for event in stream:
                if event.type == "text":
                    print(event.text, event.snapshot)
            return stream.get_final_text()

    def ticket(self, text: str) -> Ticket | None:
        parsed: ParsedMessage[Ticket] = self.client.messages.parse(
            model=MODEL, max_tokens=64, messages=asking(text), output_format=Ticket
        )
        return parsed.parsed_output

    def written_ticket(self, text: str) -> Ticket | None:
        with self.client.messages.stream(
            model=MODEL, max_tokens=64, messages=asking(text), output_format=Ticket
        ) as stream:
            message = stream.get_final_message()
        assert_type(message, ParsedMessage[Ticket])
        return message.parsed_output

    def size(self, text: str) -> int:
        count: MessageTokensCount = self.client.messages.count_tokens(
            model=MODEL, messages=asking(text), tools=[LOOK_UP]
        )
        return count.input_tokens

    def known(self) -> list[str]:
        return [model.id for model in self.client.models.list()]

    def model(self) -> ModelInfo:
        return self.client.models.retrieve("claude-opus-4-7")

    def over_night(self, text: str) -> MessageBatch:
        batch = self.client.messages.batches.create(requests=batched(text))
        return self.client.messages.batches.retrieve(batch.id)

    def of_the_night(self, batch: MessageBatch) -> list[str]:
        results = self.client.messages.batches.results(batch.id)
        return [text_of(each.result.message) for each in results if each.result.type == "succeeded"]

    def with_headers(self, text: str) -> tuple[Message, str | None]:
        raw = self.client.messages.with_raw_response.create(model=MODEL, max_tokens=64, messages=asking(text))
        return raw.parse(), raw.headers.get("request-id")

    def experimental(self, text: str) -> BetaMessage:
        return self.client.beta.messages.create(
            model=MODEL, max_tokens=64, messages=[{"role": "user", "content": text}], betas=["files-api-2025-04-14"]
        )

    def outcome(self, text: str) -> Literal["answered", "later", "never", "offline"]:
        try:
            self.answer(text)
        except anthropic.RateLimitError as error:
            print(error.response.headers.get("retry-after"), error.status_code)
            return "later"
        except anthropic.APIStatusError as error:
            print(error.message, error.request_id)
            return "never"
        except anthropic.APIConnectionError as error:
            print(error.__cause__)
            return "offline"
        return "answered"


class AsyncDesk:
    """The same for asyncio."""

    def __init__(self, client: AsyncAnthropic | None = None) -> None:
        self.client = client or AsyncAnthropic(timeout=20.0, max_retries=1, default_headers={"x-team": "shop"})
        self.patient: AsyncAnthropic = self.client.with_options(timeout=60.0, max_retries=5)

    async def answer(self, text: str, system: str | anthropic.Omit = anthropic.omit) -> Message:
        return await self.client.messages.create(
            model=MODEL, max_tokens=1024, messages=asking(text), system=system, stop_sequences=["END"], timeout=30.0
        )

    async def answers(self, texts: list[str]) -> list[Message]:
        return await asyncio.gather(*(self.answer(text) for text in texts))

    async def answer_from_params(self, text: str) -> Message:
        params: MessageCreateParamsNonStreaming = {"model": MODEL, "max_tokens": 64, "messages": asking(text)}
        return await self.patient.messages.create(**params)

    async def answer_about_a_picture(self) -> Message:
        return await self.client.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=asking_about_a_picture(),
            system=HANDBOOK,
            thinking={"type": "adaptive"},
        )

    async def with_tools(self, text: str) -> Message:
        return await self.client.messages.create(
            model=MODEL, max_tokens=64, messages=asking(text), tools=[LOOK_UP], tool_choice={"type": "any"}
        )

    async def pieces(self, text: str) -> AsyncIterator[str]:
        events = await self.client.messages.create(model=MODEL, max_tokens=64, messages=asking(text), stream=True)
        async for event in events:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text

    async def written(self, text: str) -> Message:
        async with self.client.messages.stream(model=MODEL, max_tokens=64, messages=asking(text)) as stream:
            async for piece in stream.text_stream:
                print(piece, end="", flush=True)
            return await stream.get_final_message()

    async def ticket(self, text: str) -> Ticket | None:
        parsed = await self.client.messages.parse(
            model=MODEL, max_tokens=64, messages=asking(text), output_format=Ticket
        )
        return parsed.parsed_output

    async def size(self, text: str) -> int:
        return (await self.client.messages.count_tokens(model=MODEL, messages=asking(text))).input_tokens

    async def known(self) -> list[str]:
        return [model.id async for model in self.client.models.list()]

    async def model(self) -> ModelInfo:
        return await self.client.models.retrieve("claude-opus-4-7")

    async def over_night(self, text: str) -> MessageBatch:
        batch = await self.client.messages.batches.create(requests=batched(text))
        return await self.client.messages.batches.retrieve(batch.id)

    async def of_the_night(self, batch: MessageBatch) -> list[str]:
        results = await self.client.messages.batches.results(batch.id)
        return [text_of(each.result.message) async for each in results if each.result.type == "succeeded"]

    async def experimental(self, text: str) -> BetaMessage:
        return await self.client.beta.messages.create(
            model=MODEL, max_tokens=64, messages=[{"role": "user", "content": text}]
        )

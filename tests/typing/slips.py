"""Not run: what a type checker has to find in a service, with the SDK and with the routers in its place alike."""

from typing import Final

from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam

OPUS: Final = "claude-opus-4-7"
M: list[MessageParam] = []


Anthropic(api_keys="one, two")  # slip
AsyncAnthropic(timeout="20")  # slip


async def slips(client: Anthropic, later: AsyncAnthropic) -> None:
    client.messages.create(model=OPUS, max_token=64, messages=M)  # slip
    client.messages.create(model=OPUS, max_tokens="64", messages=M)  # slip
    client.messages.create(model=OPUS, max_tokens=64, messages="Hello")  # slip
    client.messages.create(model=OPUS, max_tokens=64, messages=[{"role": "usr", "content": "Hello"}])  # slip
    client.messages.create(model=OPUS, max_tokens=64, messages=M, sistem="Be brief.")  # slip
    client.messages.create(model=OPUS, max_tokens=64, messages=M, temperature=0.0)  # slip
    client.messages.create(model=OPUS, max_tokens=64, messages=M, tools=[{"name": 3}])  # slip
    print(client.messages.create(model=OPUS, max_tokens=64, messages=M, stream=True).content)  # slip
    print(client.messages.create(model=OPUS, max_tokens=64, messages=M).contents)  # slip
    client.messages.stream(model=OPUS, max_tokens=64, messages=M, tool_choice="any")  # slip
    client.messages.parse(model=OPUS, max_tokens=64, message=M, output_format=int)  # slip
    client.messages.count_tokens(model=OPUS, message=M)  # slip
    client.models.retreive(OPUS)  # slip
    await later.messages.create(model=OPUS, max_tokens=64, messages=M, top_k=3)  # slip
    print(later.messages.create(model=OPUS, max_tokens=64, messages=M).content)  # slip
    later.messages.stream(model=OPUS, max_tokens=64, messages=M, thinking=True)  # slip
    await later.messages.parse(model=OPUS, max_tokens=64, message=M, output_format=int)  # slip
    await later.messages.count_tokens(model=OPUS, message=M)  # slip
    await client.messages.create(model=OPUS, max_tokens=64, messages=M)  # slip

"""An AsyncRouter on trio, where the SDK's own client works: every call is refused, and nothing is sent."""

import anthropic
import trio

from cheapdeep_ops import AsyncRouter, Settings
from cheapdeep_ops.errors import EventLoopError
from cheapdeep_ops.testing import Reply, SimulatedAnthropic

QUESTION = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


async def helped(router):
    async with router.messages.stream(**QUESTION):
        pass


async def main(api):
    client = anthropic.AsyncAnthropic(base_url=api.url, api_key="any")
    api.enqueue(Reply.text("Bare."))
    await client.messages.create(model="claude-haiku-4-5", **QUESTION)
    try:
        AsyncRouter(client=client, settings=Settings(record=False))
    except EventLoopError as error:
        print(error)
    for call in (lambda: made.route(**QUESTION), lambda: made.messages.create(**QUESTION), lambda: helped(made)):
        try:
            await call()
        except EventLoopError as error:
            print(error)
    await made.aclose()
    await client.close()
    print(len(api.requests), "sent")


made = AsyncRouter(settings=Settings(record=False), api_key="any")
with SimulatedAnthropic() as api:
    trio.run(main, api)

"""One address before several guards: a TCP proxy that takes them in turn."""

import asyncio
import threading
from contextlib import suppress
from itertools import count
from typing import Self

from tests.patience import PATIENCE_S


class Balancer:
    """Forwards connections to `ports` on loopback, each to the next one that accepts it. A context manager."""

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._turn = ports, count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = server.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = next(self._turn)
        try:
            for step in range(len(self._ports)):
                with suppress(OSError):
                    onward = await asyncio.open_connection("127.0.0.1", self._ports[(start + step) % len(self._ports)])
                    await asyncio.wait(
                        [asyncio.create_task(_copy(reader, onward[1])), asyncio.create_task(_copy(onward[0], writer))],
                        return_when=asyncio.ALL_COMPLETED,
                    )
                    return
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()

"""The counterpart of `cheapdeep_ops.router.threads` for asyncio: triage streams and background tasks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from sniffio import AsyncLibraryNotFoundError, current_async_library

from cheapdeep_ops.errors import EventLoopError
from cheapdeep_ops.router.background import BackgroundTask
from cheapdeep_ops.router.provider import AsyncStream, RawMessageStreamEvent
from cheapdeep_ops.router.streams import TAIL_S, OpenStream

_ASYNCIO: Final = "asyncio"
LoopStream = OpenStream[AsyncStream[RawMessageStreamEvent]]


def require_asyncio(*, running: bool) -> None:
    """Raises EventLoopError if another async library runs, or with `running` if no asyncio task does."""
    library = _running()
    if library != _ASYNCIO and (running or library is not None):
        raise EventLoopError(
            f"an AsyncRouter needs asyncio, but {library or 'no event loop'} runs here: "
            "use asyncio, or a Router in a worker thread"
        )


async def beside_the_loop(work: Callable[[], None]) -> None:
    """Do work that may block: in a thread, or at once where asyncio does not run."""
    if _running() == _ASYNCIO:
        await asyncio.to_thread(work)
    else:
        work()


def _running() -> str | None:
    """The name of the async library that runs; None if none does."""
    try:
        return current_async_library()
    except AsyncLibraryNotFoundError:
        return None


class LoopTasks:
    """The running asyncio tasks of one router, each with its background task; they may belong to several loops."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], BackgroundTask] = {}

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(list(self._running))

    def __len__(self) -> int:
        return len(self._running)

    def run(self, work: Coroutine[Any, Any, None], task: BackgroundTask) -> None:
        """Run `work`; `task` is over when it has ended."""
        self.leave_closed_loops()
        running = asyncio.create_task(work)
        self._running[running] = task
        # Not a `finally` in the work: a task that is cancelled before it begins runs none of its own code.
        running.add_done_callback(self._ended)

    async def join(self, seconds: float) -> None:
        """Wait until all of this loop have ended, or for so many seconds."""
        self.leave_closed_loops()
        here = [task for task in self._running if task.get_loop() is asyncio.get_running_loop()]
        if here:
            await asyncio.wait(here, timeout=seconds)

    def leave_closed_loops(self) -> None:
        """Give up the tasks of closed loops, which never end."""
        for running in list(self._running):
            if running.get_loop().is_closed():
                self._ended(running)

    def _ended(self, running: asyncio.Task[None]) -> None:
        task = self._running.pop(running, None)
        if task is not None:
            task.over()


async def read_until_decided(opened: LoopStream) -> None:
    """Read a triage stream until it is known whether its answer ships."""
    async for event in opened.stream:
        opened.take(opened.progress.take(event))
        if not opened.is_undecided:
            return
    opened.read()


async def read_tail(opened: LoopStream) -> None:
    """Read a triage stream to its end, if that is near. Never raises, except when the call is cancelled."""
    with suppress(Exception):  # the call escalates in any case
        async with asyncio.timeout(TAIL_S):
            async for event in opened.stream:
                if not opened.take_tail(event):
                    return
        opened.read()


async def read_the_rest(opened: LoopStream, task: BackgroundTask, seconds: float) -> None:
    """Read a withheld answer to its end, for grading, for so many seconds at most. A loop that ends cancels it."""
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(seconds):
            async for event in opened.stream:
                opened.progress.take(event)
        opened.progress.end()
    except Exception as error:  # noqa: BLE001 - the caller has an answer from another tier
        failure = error
    finally:
        opened.end(failure)
        task.over()
        await opened.stream.close()


@asynccontextmanager
async def closing_on_failure(stream: AsyncStream[RawMessageStreamEvent]) -> AsyncIterator[None]:
    """Close the stream if the block fails."""
    try:
        yield
    except BaseException:
        await stream.close()
        raise

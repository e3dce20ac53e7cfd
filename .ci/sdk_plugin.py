"""A plugin of pytest: tests that import `Anthropic` get a router over that client, and outcomes go into a file.

`SDK_TESTS_TIERS` is the number of tiers (0: the bare client), `SDK_TESTS_OUTCOMES` the file. With two tiers all triage
fails without a request, so that the deep tier answers: most mocks can be read once, or count requests.
"""

import json
import os
from functools import wraps
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from cheapdeep_ops import AsyncRouter, Router, Settings
from cheapdeep_ops.claude.clients import CallClients, Views

TIERS = ("claude-haiku-4-5", "claude-opus-4-7")
MOST = int(os.environ.get("SDK_TESTS_TIERS", "0"))
RealAnthropic, RealAsyncAnthropic = anthropic.Anthropic, anthropic.AsyncAnthropic
outcomes: dict[str, str] = {}


def settings() -> Settings:
    return Settings(record=False, tiers=TIERS[-MOST:], breaker_failures=0)


class Anthropic(Router):
    """A router over the client that a test asks for."""

    @wraps(RealAnthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(settings=settings(), client=RealAnthropic(**options))


class AsyncAnthropic(AsyncRouter):
    """An asyncio router over the client that a test asks for."""

    @wraps(RealAsyncAnthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(settings=settings(), client=RealAsyncAnthropic(**options))


class _Failing:
    """A client, and its `messages`, that cannot be reached."""

    def __init__(self, *, is_async: bool) -> None:
        self.messages = self
        self.create = self._create_async if is_async else self._create

    def _create(self, **_request: object) -> object:
        raise anthropic.APIConnectionError(request=httpx2.Request("POST", "http://triage.invalid"))

    async def _create_async(self, **request: object) -> object:
        return self._create(**request)


def _without_triage(calls: CallClients[Any]) -> Views[Any]:
    failing: Any = _Failing(is_async=isinstance(calls._client, RealAsyncAnthropic))  # noqa: SLF001
    return _now(calls)._replace(triage=failing, triage_streams=failing)


_now = CallClients.now
if MOST > 1:
    CallClients.now = _without_triage  # type: ignore[method-assign]
if MOST:
    anthropic.Anthropic = anthropic.Client = Anthropic  # type: ignore[misc, assignment]
    anthropic.AsyncAnthropic = anthropic.AsyncClient = AsyncAnthropic  # type: ignore[misc, assignment]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test: failed, if any of its phases failed."""
    if outcomes.get(report.nodeid) != "failed" and (report.when == "call" or not report.passed):
        outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["SDK_TESTS_OUTCOMES"]).write_text(json.dumps(outcomes), encoding="utf-8")

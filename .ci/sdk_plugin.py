"""A plugin of pytest: `from anthropic import Anthropic` gives a router over that client, and outcomes go into a file.

`SDK_TESTS_TIERS` is the number of tiers (0: the bare client), `SDK_TESTS_OUTCOMES` the file.
"""

import json
import os
from functools import wraps
from pathlib import Path
from typing import Any

import anthropic
import pytest

from cheapdeep_ops import AsyncRouter, Router, Settings

TIERS = ("claude-haiku-4-5", "claude-opus-4-7")
MOST = int(os.environ.get("SDK_TESTS_TIERS", "0"))
RealAnthropic, RealAsyncAnthropic = anthropic.Anthropic, anthropic.AsyncAnthropic
outcomes: dict[str, str] = {}


def settings() -> Settings:
    return Settings(record=False, tiers=TIERS[-MOST:])


class Anthropic(Router):
    """A router over the client that a test asks for."""

    @wraps(RealAnthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(settings=settings(), client=RealAnthropic(**options))


class AsyncAnthropic(AsyncRouter):
    """The same for asyncio."""

    @wraps(RealAsyncAnthropic.__init__)
    def __init__(self, **options: Any) -> None:
        super().__init__(settings=settings(), client=RealAsyncAnthropic(**options))


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

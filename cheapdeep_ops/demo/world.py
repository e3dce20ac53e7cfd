"""Everything that a demonstration needs, running: simulated API and Slack, a router, a guard."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self

from cheapdeep_ops.claude.clients import make_client_for
from cheapdeep_ops.claude.grading import GraderApi
from cheapdeep_ops.demo.report import Answered
from cheapdeep_ops.guard.app import Service
from cheapdeep_ops.guard.rulebook import read_rulebook
from cheapdeep_ops.router import Router
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.testing import CLASSES, SimulatedAnthropic, SimulatedSlack, TrafficClass

ROUTE: Final = "support"
CHANNEL: Final = "C0STORMS"
SAMPLE_RATE: Final = 1.0
"""Every confident answer is graded here, instead of 1%: a demonstration has not the traffic of a day."""

_WORKERS: Final = 8


def no_proxy_on_loopback() -> None:
    """Whatever proxies the environment names, none reaches this machine's loopback."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


class World:
    """A router and a guard on a store of their own, between simulated servers; everything over HTTP on loopback."""

    def __init__(self, *, shortened_by: float, seed: int) -> None:
        no_proxy_on_loopback()
        self.outcomes: list[Answered] = []
        self.failures = 0
        self._open = ExitStack()
        self._folder = Path(self._open.enter_context(TemporaryDirectory(prefix="cheapdeep-demo-")))
        self.api = self._open.enter_context(SimulatedAnthropic(seed=seed))
        self.slack = self._open.enter_context(SimulatedSlack())
        self.settings = self._make_settings()
        rulebook = read_rulebook().shortened(shortened_by)
        client = self._open.enter_context(make_client_for(self.api.url, api_key="simulated"))
        self.service = Service(self.settings, rulebook=rulebook, grader_api=GraderApi(client))
        self._open.callback(self.service.stop)
        self.service.start()
        self.router = self._open.enter_context(Router(settings=self.settings, client=client, route=ROUTE))
        self._pool = self._open.enter_context(ThreadPoolExecutor(_WORKERS, thread_name_prefix="caller"))
        self._asked = 0

    def _make_settings(self) -> Settings:
        """What the demonstration rests on, whatever the environment says."""
        return Settings(
            store_url=f"sqlite:///{self._folder}/demo.db",
            tiers=("claude-haiku-4-5", "claude-opus-4-7"),
            base_threshold=0.8,
            raised_threshold=0.9,
            max_escalation_rate=0.35,
            mode="enforce",
            flush_every_s=0.25,
            evaluate_every_s=0.5,
            sample_rate=SAMPLE_RATE,
            grade_every_s=0.5,
            max_false_confident_rate=None,
            grader_model="claude-opus-4-7",
            grade_by="direct",
            retain_content_days=1,
            rules_file=None,
            triage_template=None,
            record=True,
            slack_bot_token=self.slack.token,
            slack_channel=CHANNEL,
            slack_base_url=self.slack.url,
            slack_webhook_url=None,
        )

    def ask(self, classes: Sequence[TrafficClass]) -> None:
        """Send the next question, of the next class in turn, without waiting for its answer."""
        kind = classes[self._asked % len(classes)]
        future = self._pool.submit(self._ask, kind, self._asked)
        future.add_done_callback(self._note)
        self._asked += 1

    def _ask(self, kind: TrafficClass, number: int) -> Answered:
        begun_at = time.time()
        routed = self.router.ask(kind.prompt(number), input_class=kind.name)
        return Answered(
            routed=routed,
            begun_at=begun_at,
            finished_at=time.time(),
            correct=self.api.was_correct(routed.text),
        )

    def _note(self, future: "Future[Answered]") -> None:
        if future.exception() is None:
            self.outcomes.append(future.result())
        else:
            self.failures += 1

    def settle(self) -> None:
        """Wait for the calls under way, and have all of them counted."""
        self._pool.shutdown(wait=True)
        self.router.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def named(*names: str) -> tuple[TrafficClass, ...]:
    """Ready-made traffic classes by name, in the order given."""
    known = {each.name: each for each in CLASSES}
    return tuple(known[name] for name in names)

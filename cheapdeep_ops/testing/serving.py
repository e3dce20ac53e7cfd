"""Run both simulators for a terminal or for another process."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from cheapdeep_ops.testing.messages_api.server import SimulatedAnthropic
from cheapdeep_ops.testing.slack.server import SimulatedSlack
from cheapdeep_ops.testing.slack.slack_wire import SlackMessage


def serve(
    *,
    anthropic_port: int = 0,
    slack_port: int = 0,
    host: str = "127.0.0.1",
    seed: int = 0,
    as_json: bool = False,
    until: threading.Event | None = None,
    out: TextIO | None = None,
) -> None:
    """Run both simulators until `until` is set or, without it, until SIGTERM or SIGINT.

    The first line on `out` (standard output) is one JSON object with the URLs. Standard error shows the messages to
    Slack and, unless `as_json`, the environment variables to export. Without `until` it must run in the main thread.
    Raises OSError if a port is taken.
    """
    with (
        SimulatedAnthropic(port=anthropic_port, host=host, seed=seed) as api,
        SimulatedSlack(port=slack_port, host=host, on_message=_show) as slack,
        _ended_by_signal() if until is None else contextlib.nullcontext(until) as end,
    ):
        # Flushed, because the process that started this one waits for the line.
        print(json.dumps(addresses(api, slack)), file=out or sys.stdout, flush=True)
        if not as_json:
            sys.stderr.write(_hint(api, slack))
        end.wait()


def addresses(api: SimulatedAnthropic, slack: SimulatedSlack) -> dict[str, str | int]:
    """Return the URLs, ports and the Slack token of two running simulators, by name."""
    return {
        "anthropic_url": api.url,
        "anthropic_port": api.port,
        "slack_url": slack.url,
        "slack_port": slack.port,
        "slack_webhook_url": slack.webhook_url,
        "slack_token": slack.token,
    }


def _show(message: SlackMessage) -> None:
    act = "replied" if message.is_reply else "posted" if len(message.versions) == 1 else "edited"
    sys.stderr.write(f"Slack, {act}: {message.text}\n")


def _hint(api: SimulatedAnthropic, slack: SimulatedSlack) -> str:
    return (
        f"export ANTHROPIC_BASE_URL={api.url} ANTHROPIC_API_KEY=simulated\n"
        f"export CHEAPDEEP_SLACK_BASE_URL={slack.url} CHEAPDEEP_SLACK_BOT_TOKEN={slack.token} "
        f"CHEAPDEEP_SLACK_CHANNEL=C0SIMULATED\n"
    )


@contextlib.contextmanager
def _ended_by_signal() -> Iterator[threading.Event]:
    end = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: end.set())
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

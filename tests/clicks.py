"""An incident with its message on a simulated Slack, and a handler of clicks on it."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import contextmanager

from starlette.applications import Starlette

from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH
from cheapdeep_ops.guard.notify.notifier import Notifier
from cheapdeep_ops.guard.notify.outbox import announce
from cheapdeep_ops.guard.notify.receivers import receivers_of, senders_for
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.guard.rules.recipients import Recipient
from cheapdeep_ops.guard.slack_actions.clicks import silent_client
from cheapdeep_ops.guard.slack_actions.endpoint import interactions_route
from cheapdeep_ops.guard.slack_actions.handler import ClickHandler
from cheapdeep_ops.guard.slack_actions.people import People
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import incidents, policies, silences
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.testing import SimulatedSlack
from cheapdeep_ops.testing._server import ServedApp
from cheapdeep_ops.testing.slack.slack_wire import texts_of

CHANNEL = "C0ALERTS"
RULE = "EscalationStorm"


def settings_for(slack: SimulatedSlack, store_url: str, **changes: object) -> Settings:
    """The settings of a guard that posts to this Slack, and hears of clicks by signed requests."""
    known = {"slack_bot_token": slack.token, "slack_channel": CHANNEL, "slack_base_url": slack.url}
    known["slack_signing_secret"] = slack.signing_secret
    return Settings(store_url=store_url, **{**known, **changes})


class Place:
    """A store with open incidents, their messages on Slack, and a guard's handler behind a real HTTP server."""

    def __init__(
        self, slack: SimulatedSlack, settings: Settings, *, answer_s: float = 30.0, recipients: Sequence[Recipient] = ()
    ) -> None:
        self.slack, self.settings = slack, settings
        self.offset_s = 0.0
        self.store = Store(settings.store_url)
        migrate(self.store)
        client = silent_client(settings)
        self.context = ActionContext(store=self.store, settings=settings, clock=self.now)
        self.handler = ClickHandler(self.context, client=client, people=People(client, settings), answer_s=answer_s)
        recipients = recipients or read_rulebook(settings.rules_file).receivers
        senders = senders_for(settings, receivers_of(recipients))
        self._notifier = Notifier(self.store, senders, recipients=recipients)
        secret = settings.slack_signing_secret.get_secret_value()
        route = interactions_route(self.handler, signing_secret=secret, clock=self.now)
        self._server = ServedApp(Starlette(routes=[route]), host="127.0.0.1", port=0, name="guard").start()
        self.url = f"{self._server.url}{CLICKS_PATH}"
        slack.interactivity.url = self.url
        # So that a loaded machine fails no test; Slack waits for three seconds.
        slack.interactivity.patience_s = 30.0

    def now(self) -> float:
        return time.time() + self.offset_s

    def close(self) -> None:
        self._server.stop()
        self.handler.close()
        self.store.close()

    def incident(self, *, scope: str = "support", about: str = "grader_failing", rule: str = RULE) -> int:
        """Open an incident, and have its message posted."""
        now, known = self.now(), {"about": about, "rule": rule, "scope": scope, "summary": "s"}
        rates = {f"{name}{key}": 0.1 for name in ("", "shipped_") for key in ("rate", "low", "high", "n")}
        signal = {"why": "x"} if about == "grader_failing" else {**rates, "limit": 0.05}

        def work(connection):
            number = incidents.open_incident(connection, rule=rule, scope=scope, at=now)
            row = {"rule": rule, "scope": scope, "state": "firing", "level": "above", "since": now}
            row |= {"below_since": None, "incident_id": number, "signal": {}, "updated_at": now}
            incidents.save_alerts(connection, [row])
            told = {**known, "incident_id": number, "started_at": now, "signal": signal}
            told |= {"threshold": "threshold 0.8 -> 0.9", "effective_threshold": 0.9}
            announce(connection, self.settings, number, kind="started", payload=told, at=now)
            return number

        number = self.store.transact(work)
        self.deliver()
        return number

    def resolve(self, number: int) -> None:
        self.store.transact(lambda connection: incidents.resolve_incident(connection, number, at=self.now()))

    def deliver(self) -> None:
        while self._notifier.deliver(self.now()):
            pass

    def message(self, number: int):
        """The incident's message as it is now."""
        self.deliver()
        return next(each for each in self.slack.posts if f"cheapdeep_{number}" in str(each.versions[0].blocks))

    def click(self, number: int, act: str, user: str):
        return self.slack.click(self.message(number), f"cheapdeep_{act}", user)

    def form(self, number: int, act: str, user: str):
        return self.slack.opened(self.click(number, act, user), 20.0)

    def order(self, number: int, act: str, user: str, **values):
        """Click, and submit the form; returns the answer to it."""
        return self.slack.submit(self.form(number, act, user), values, user).answer

    def told(self, text: str) -> str:
        """The message to one person that has this text."""
        return self.slack.interactivity.wait_for_ephemeral(lambda each: text in each.text, 20.0).text

    def history(self) -> list:
        with self.store.reading() as connection:
            return policies.history(connection)

    def silences(self) -> list:
        with self.store.reading() as connection:
            return silences.active(connection, at=self.now())

    def acknowledged(self, number: int):
        with self.store.reading() as connection:
            return incidents.shown(connection, number)["acknowledged"]


@contextmanager
def locked(store_url: str):
    """A lock on a SQLite store that makes every other writer wait."""
    connection = sqlite3.connect(store_url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def texts(message) -> str:
    """All text of a message's blocks."""
    return "\n".join(each["text"] for each in texts_of(message.blocks))


def buttons(message) -> list[str]:
    """The acts of a message's buttons."""
    blocks = [block for block in message.blocks if block["type"] == "actions"]
    return [each["action_id"].removeprefix("cheapdeep_") for block in blocks for each in block["elements"]]

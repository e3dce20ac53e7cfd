"""Answers clicks and forms: it opens a form for a click, and carries out what is submitted.

Slack wants an answer within three seconds, and sends nothing again. So a click is acknowledged before anything else is
done. A form is answered after its order is stored: a person whose guard was killed sees an error, and submits again.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from cheapdeep_ops.errors import CheapdeepError, StoreError
from cheapdeep_ops.guard.actions.baselines import blindness
from cheapdeep_ops.guard.actions.operation import ActionContext
from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.notify.buttons import RELEARN
from cheapdeep_ops.guard.notify.slack_blocks import escaped
from cheapdeep_ops.guard.notify.slack_history import code_of
from cheapdeep_ops.guard.slack_actions import forms
from cheapdeep_ops.guard.slack_actions.orders import AlreadyDoneError, carry_out, subject
from cheapdeep_ops.guard.slack_actions.people import People
from cheapdeep_ops.guard.slack_actions.requests import WHY, Click, FormFacts, Submission, is_own_form, read

_log: Final = logging.getLogger(__name__)
ANSWER_S: Final = 2.3
"""How long a form waits for its order at most; Slack waits for three seconds."""

_CLICK_LASTS_S: Final = 300.0
_FORM_LASTS_S: Final = 900.0
"""After this time a form is refused, because its person may have forgotten what it was about."""

_THREADS: Final = 4
_LONGEST_FAULT: Final = 300
_NOTHING: Final = "nothing was changed"
_UNREADABLE: Final = f"this form is of another version of the guard: {_NOTHING}; close it and click again"
_UNCERTAIN: Final = (
    "It is not known yet whether this was done, because the store is slow. The incident's message says so once it is. "
    "A message that only you see tells the outcome."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to Slack, and what is done after it was sent."""

    body: Mapping[str, Any]
    then: Callable[[], None] = lambda: None


class ClickHandler:
    """Answers what Slack sends, whichever way it comes; no method raises. Threads may share it."""

    def __init__(
        self, context: ActionContext, *, client: WebClient, people: People, answer_s: float = ANSWER_S
    ) -> None:
        """`answer_s` is the longest wait for an order, in seconds."""
        self._context = context
        self._client = client
        self._people = people
        self._answer_s = answer_s
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="slack-order")

    def receive(self, payload: Mapping[str, Any]) -> Reply:
        """The answer to one interaction; what is not about an incident is acknowledged, and nothing is done."""
        found = read(payload)
        if isinstance(found, Click):
            return Reply(body={}, then=lambda: self._guarded(found))
        if found is not None:
            return Reply(body=self._answer(found))
        # An empty answer would close the form, which looks as if it was done.
        return Reply(body=_answer_of(_UNREADABLE) if is_own_form(payload) else {})

    def close(self) -> None:
        """Wait for orders that are being carried out."""
        self._pool.shutdown()

    def _guarded(self, click: Click) -> None:
        """Open the form of a click, or say to its person why there is none."""
        try:
            self._open(click)
        except CheapdeepError as error:
            _log.info("a click of %s on incident %s was refused: %s", click.user, click.incident_id, error)
            self._tell(click.channel, click.user, f"{error}: {_NOTHING}.")
        except SlackApiError as error:
            # The trigger of a click opens one form: this click came twice.
            if code_of(error) == "exchanged_trigger_id":
                _log.info("a click of %s on incident %s came again: %s", click.user, click.incident_id, _NOTHING)
                return
            self._no_form(click, code_of(error))
        except (SlackClientError, OSError, ValueError, LookupError, AttributeError) as error:
            self._no_form(click, type(error).__name__)
        except Exception:  # noqa: BLE001 - a fault here must not end slack_sdk's worker without a word
            _log.exception("a click on incident %s failed", click.incident_id)

    def _open(self, click: Click) -> None:
        context, now = self._context, self._context.clock()
        if abs(now - click.at) > _CLICK_LASTS_S:
            raise CheapdeepError(f"this click is {duration(abs(now - click.at))} old")
        self._people.person(click.user, click.channel)
        facts = FormFacts(
            act=click.act, incident_id=click.incident_id, channel=click.channel, ts=click.ts, opened_at=now, seen=""
        )  # fmt: skip
        settings = context.settings
        with context.store.reading() as connection:
            about = subject(connection, settings, facts, now=now)
            rule, scope = about.incident["rule"], about.scope
            needed, blind_s = (
                blindness(connection, settings, rule, scope, now=now) if click.act == RELEARN else (0, None)
            )
        known = replace(facts, seen=about.seen)
        view = forms.form(
            known, rule=rule, scope=scope, base=about.book.base, raised=about.book.raised, threshold=about.threshold,
            blind_s=blind_s, grades=needed,
        )  # fmt: skip
        self._client.views_open(trigger_id=click.trigger, view=view)

    def _no_form(self, click: Click, why: str) -> None:
        _log.warning("Slack did not open a form for a click on incident %s: %s", click.incident_id, why)
        other = f"cheapdeep-ops alert ack {click.incident_id} --why TEXT"
        text = f"Slack did not open the form ({why}): {_NOTHING}. Click again, or use the command line: {other}"
        self._tell(click.channel, click.user, text)

    def _answer(self, submission: Submission) -> Mapping[str, Any]:
        """The answer to a form: empty if its order is done, else what is wrong."""
        working = self._pool.submit(self._carry_out, submission)
        try:
            return _answer_of(working.result(self._answer_s))
        except TimeoutError:
            working.add_done_callback(lambda done: self._tell_outcome(submission, done))
            return {"response_action": "update", "view": forms.notice("Not confirmed yet", _UNCERTAIN)}

    def _carry_out(self, submission: Submission) -> str:
        """Carry an order out; returns what is wrong, empty if it is done."""
        facts, now = submission.facts, self._context.clock()
        try:
            if not 0 <= now - facts.opened_at <= _FORM_LASTS_S:
                return f"this form is {duration(abs(now - facts.opened_at))} old: {_NOTHING}; close it and click again"
            person = self._people.person(submission.user, facts.channel)
            done = carry_out(self._context, submission, person)
            _log.info("%s, by %s on Slack", done, person.author)
        except AlreadyDoneError:
            _log.info("an order of %s on incident %s came again: it is done once", submission.user, facts.incident_id)
        except StoreError as error:
            _log.warning("an order on incident %s may not be stored: %s", facts.incident_id, error)
            return "the store did not answer, so it is not known whether this was done; submit again: it is done once"
        except CheapdeepError as error:
            _log.info("an order of %s on incident %s was refused: %s", submission.user, facts.incident_id, error)
            return str(error)
        except Exception:  # noqa: BLE001 - the person must be told
            _log.exception("an order on incident %s failed", facts.incident_id)
            return "the guard failed; its log says why"
        return ""

    def _tell_outcome(self, submission: Submission, done: "Future[str]") -> None:
        fault = done.result()
        about = f"Incident {submission.facts.incident_id}"
        text = f"{about}: {fault}." if fault else f"{about}: it is done."
        self._tell(submission.facts.channel, submission.user, text)

    def _tell(self, channel: str, user: str, text: str) -> None:
        """Say something to one person in the channel, as far as possible."""
        try:
            shown = text[:1].upper() + text[1:]
            # Without markup, because it may quote an author or a route.
            self._client.chat_postEphemeral(channel=channel, user=user, text=escaped(shown))
        except SlackApiError as error:
            _log.warning("%s could not be told on Slack (%s): %s", user, code_of(error), text)
        except (SlackClientError, OSError, ValueError, LookupError, AttributeError) as error:
            _log.warning("%s could not be told on Slack (%s): %s", user, type(error).__name__, text)


def _answer_of(fault: str) -> Mapping[str, Any]:
    return {"response_action": "errors", "errors": {WHY: fault[:_LONGEST_FAULT]}} if fault else {}

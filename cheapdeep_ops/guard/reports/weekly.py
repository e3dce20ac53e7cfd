"""The weekly receipt, sent once if the settings ask for it."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from cheapdeep_ops.guard.incidents.links import receipt_links
from cheapdeep_ops.guard.notify.receipt_text import receipt_message
from cheapdeep_ops.guard.report_types.figures import IncidentCounts, ReceiptMessage
from cheapdeep_ops.guard.reports.receipt import receipt
from cheapdeep_ops.guard.reports.status import policy_state
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters, incidents
from cheapdeep_ops.store.engine import Connection, Store, take_lock
from cheapdeep_ops.store.records import IncidentBase
from cheapdeep_ops.units import DAY_S, HOUR_S, WEEK_S

_MONDAY_S: Final = 4 * DAY_S
"""The first Monday of Unix time began then."""


class ReportedWeek(NamedTuple):
    """From one Monday, 00:00 UTC, to the next; in Unix seconds."""

    since: float
    until: float


def week_due(settings: Settings, now: float) -> ReportedWeek | None:
    """The last full week, if its receipt is due; None before the set hour on Monday, or without weekly receipts."""
    until = (now - _MONDAY_S) // WEEK_S * WEEK_S + _MONDAY_S
    if settings.report_every != "weekly" or now < until + settings.report_hour * HOUR_S:
        return None
    return ReportedWeek(until - WEEK_S, until)


def enqueue_week(store: Store, settings: Settings, now: float) -> bool:
    """Put the receipt of the last full week into the outbox, once; returns whether it did.

    Without a call before that Monday, none is sent. Raises StoreError.
    """
    week = week_due(settings, now)
    # Checked before the receipt is computed, because most runs of the job have nothing to send.
    if week is None or not _is_wanted(store, week):
        return False
    # Read before the transaction: to add up a busy week takes seconds, and other writers would wait.
    payload = message_of(store, settings, since=week.since, until=week.until)

    def work(connection: Connection) -> bool:
        # Two guards may get here at once; the lock and the second check keep it to one message.
        take_lock(connection, "report")
        if incidents.was_enqueued(connection, kind="report", since=week.until):
            return False
        incidents.enqueue(connection, incident_id=None, kind="report", payload=payload, at=now)
        return True

    return store.transact(work)


def message_of(store: Store, settings: Settings, *, since: float, until: float) -> ReceiptMessage:
    """The message with the receipt of `[since, until)`, the policy of this moment, and links. Raises StoreError."""
    figures = receipt(store, settings, since=since, until=until)
    with store.reading() as connection:
        begun = incidents.within(connection, since=since, until=until)
        policy = policy_state(connection, settings)
    links = receipt_links(settings, since=since, until=until)
    return receipt_message(figures, incidents=_by_rule(begun), policy=policy, links=links)


def _is_wanted(store: Store, week: ReportedWeek) -> bool:
    with store.reading() as connection:
        if incidents.was_enqueued(connection, kind="report", since=week.until):
            return False
        return counters.first_second(connection, since=0.0, until=week.until) is not None


def _by_rule(begun: Sequence[IncidentBase]) -> dict[str, IncidentCounts]:
    began = Counter(each["rule"] for each in begun)
    still_open = Counter(each["rule"] for each in begun if each["resolved_at"] is None)
    return {rule: {"began": count, "open": still_open[rule]} for rule, count in began.items()}

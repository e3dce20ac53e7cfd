"""Which labelled answers check the grader."""

from cheapdeep_ops.guard.statistics.agreement import majority
from cheapdeep_ops.store import anchors
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.values import Grade


def anchor_labels(connection: Connection) -> dict[str, Grade]:
    """The labels of the answers that check the grader: those on which people and its first grade agree.

    An answer on which they differ says little: many such answers are errors of one grading, which another one corrects.
    """
    found = {}
    for call in anchors.labelled(connection):
        label = majority(call.labels)
        if label is not None and label == call.first:
            found[call.call_id] = label
    return found

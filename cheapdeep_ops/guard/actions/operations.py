"""All operations, in the order of the OpenAPI document."""

from typing import Any, Final

from cheapdeep_ops.guard.actions.alerts import acknowledge, drop, retry, silence, unsilence
from cheapdeep_ops.guard.actions.baselines import accept_grader, relearn
from cheapdeep_ops.guard.actions.labels import label, label_all
from cheapdeep_ops.guard.actions.operation import Operation
from cheapdeep_ops.guard.actions.outcomes import report, report_all
from cheapdeep_ops.guard.actions.route_labels import admit, forget
from cheapdeep_ops.guard.actions.thresholds import pin, release

OPERATIONS: Final[tuple[Operation[Any], ...]] = (
    pin,
    release,
    relearn,
    accept_grader,
    label,
    label_all,
    report,
    report_all,
    acknowledge,
    silence,
    unsilence,
    drop,
    retry,
    admit,
    forget,
)

"""What the rule on confidence waits for; pure."""

from cheapdeep_ops.guard.rules.confidence_separation.rule import GateRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.rules.progress import Pace, Progress, lacking


def gate_progress(rule: GateRule, finding: Finding, pace: Pace) -> Progress:
    """How far the rule is from firing: it needs grades, some of them of wrong answers."""
    signal = finding.signal
    have, wrong, area = int(signal.get("grades") or 0), int(signal.get("wrong") or 0), signal.get("auroc")
    if have < rule.min_grades:
        return lacking("grades", have, rule.min_grades, pace.grades, why="to compare right answers with wrong ones")
    if wrong < rule.min_wrong or area is None:
        per_s = pace.grades * wrong / have
        return lacking("grades", wrong, rule.min_wrong, per_s, why="of wrong answers")
    low, high = float(signal["auroc_low"]), float(signal["auroc_high"])
    found = f"AUROC {area:.2f} ({low:.2f} to {high:.2f}) on {have:,} grades; it fires below {rule.limit:.2f}."
    missing = "" if finding.level is Level.ABOVE else "Its interval reaches the limit, so it does not fire."
    return Progress(found=found, missing=missing, unit="grades", have=have, needed=rule.min_grades)

"""What a storm rule waits for; pure."""

from cheapdeep_ops.guard.formatting import duration
from cheapdeep_ops.guard.rules.escalation.detection import CLIMBS
from cheapdeep_ops.guard.rules.escalation.rule import StormRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.rules.progress import Pace, Progress, example_of, growth_of, lacking, of_evidence


def storm_progress(rule: StormRule, finding: Finding, pace: Pace) -> Progress:
    """How far a storm rule is from firing."""
    signal = finding.signal
    n, limit = int(signal.get("n") or 0), signal.get("limit")
    if n < rule.min_calls:
        within = duration(max(rule.reach, rule.windows.long))
        return lacking("calls", n, rule.min_calls, pace.calls, why=f"within {within}")
    if limit is None or finding.level is Level.NO_DATA:
        return Progress(found="", missing="The last call is too long ago to say anything of now.", unit="calls", have=n)
    # The window has the present pace; the hour may be older than the route.
    per_s = n / float(signal["window_s"]) if signal.get("window_s") else pace.calls
    dispersion, recent = float(signal.get("dispersion") or 1.0), float(signal["recent_rate"])
    example = example_of(rule.evidence_limit, limit, CLIMBS, unit="calls", per_s=per_s, by=dispersion)
    if dispersion > 1:
        example += f" Its minutes vary {dispersion:.1f} times as much as independent calls, so it needs that many more."
    growth = growth_of(recent, limit, CLIMBS) / dispersion
    return of_evidence(finding, unit="calls", n=n, growth=growth, per_s=per_s, limit=limit, example=example)

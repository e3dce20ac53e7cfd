"""What a quality rule waits for; pure."""

from cheapdeep_ops.guard.rules.false_confidence.rule import QualityRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.rules.progress import Pace, Progress, example_of, growth_of, lacking, of_evidence
from cheapdeep_ops.guard.statistics.sequential import CLIMBS


def quality_progress(rule: QualityRule, finding: Finding, pace: Pace) -> Progress:
    """How far a quality rule is from firing."""
    signal = finding.signal
    n, target = int(signal.get("n") or 0), signal.get("target")
    if target is None:
        if rule.limit != "normal":
            return Progress(found="", missing="It has no grades, or CHEAPDEEP_MAX_FALSE_CONFIDENT_RATE is not set.")
        have = min(pace.known_grades, rule.normal_grades)
        return lacking("grades", have, rule.normal_grades, pace.grades, why="to learn what is normal")
    if why := str(signal.get("why") or ""):
        return Progress(found=why, missing="It reads no grades now.")
    if finding.level is Level.NO_DATA:
        return lacking("grades", n, max(rule.min_grades, n), pace.grades, why="since it last resolved")
    # While it fires, the evidence is that of the test that resolves it.
    dispersion = float(signal.get("dispersion") or 1.0)
    example = example_of(
        float(signal["evidence_limit"]), target, CLIMBS, unit="grades", per_s=pace.grades, by=dispersion
    )
    if dispersion > 1:
        example += f" Its rate varies {dispersion:.1f} times as much as by chance, so it needs that many more."
    growth = growth_of(float(signal.get("rate") or 0.0), target, CLIMBS) / dispersion
    return of_evidence(finding, unit="grades", n=n, growth=growth, per_s=pace.grades, limit=target, example=example)

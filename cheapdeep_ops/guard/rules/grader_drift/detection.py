"""Detects that a grader's verdicts on labelled answers have moved; pure.

Answers whose first grade agreed with people's label are graded again, some every day. A verdict *differs* if it is not
the label: the other verdict, or unsure. How often that happens is a property of the grader alone: traffic that becomes
worse does not change these answers. Each of the two labels has a normal of its own. So a grader that becomes stricter
and one that overlooks more are both seen.

The target of a label is the one-sided upper 90% bound of its normal. One e-detector (see `statistics.sequential`) has
bets on both labels. A repeated grading moves only the bets on its own label. The others stay, so the promise on false
alarms counts all repeated gradings. Answers differ in how likely a verdict on them changes. They are graded in turn, so
counts vary less than the test assumes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, Self

from cheapdeep_ops.guard.rules.grader_drift.rule import GraderDriftRule
from cheapdeep_ops.guard.rules.model import Finding, Level
from cheapdeep_ops.guard.statistics.intervals import Proportion, wilson
from cheapdeep_ops.guard.statistics.sequential import Bets, Detector, Observed
from cheapdeep_ops.values import Grade

LABELS: Final = (Grade.CORRECT, Grade.INCORRECT)
_CLIMBS: Final = (1.5, 2.5, 4.0, 7.0, 12.0)
"""Bets are on a rate of this multiple of the target. A changed grader differs far more often than normal, or a little
more; nothing is known of which."""

_TARGET_CONFIDENCE: Final = 0.8
"""Two-sided, of the interval whose upper bound is the target: one-sided it is 90%."""

_HIGHEST_TARGET: Final = 0.9
_RESTS: Final = tuple(0.0 for _ in _CLIMBS)
_MILDEST: Final = 1.5
"""The alarm level is never below this multiple of the target."""


class Regrading(Protocol):
    """A repeated grading that gave a verdict."""

    @property
    def id(self) -> int:
        """Grows in the order of grading."""

    @property
    def call_id(self) -> str:
        """The call whose answer was graded."""

    @property
    def at(self) -> float:
        """When it was graded (Unix time)."""

    @property
    def label(self) -> Grade:
        """People's label of the answer: correct or incorrect."""

    @property
    def verdict(self) -> Grade:
        """The grader's verdict now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTest:
    """The data of one label: counts as (differing, all)."""

    normal: tuple[int, int] = (0, 0)
    """The first repeated gradings, from which normal is learned."""
    recent: tuple[int, int] = (0, 0)
    """Those since there was last no evidence or, while the alert fires, since its start."""
    level: float | None = None
    """The rate below which the alert resolves; None if this label is not why it fires."""
    fall: Detector = field(default_factory=Detector)
    """The test that the rate is below `level`."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The data from the result of `row`."""
        counts = {name: (row[name][0], row[name][1]) for name in ("normal", "recent")}
        return cls(**counts, level=row["level"], fall=Detector.from_row(row["fall"]))

    def row(self) -> dict[str, object]:
        """The data as JSON."""
        counts = {"normal": list(self.normal), "recent": list(self.recent)}
        return {**counts, "level": self.level, "fall": self.fall.row()}

    def target(self, enough: int) -> float | None:
        """The rate above which the test has evidence; None while normal is being learned."""
        if self.normal[1] < enough:
            return None
        return min(wilson(*self.normal, _TARGET_CONFIDENCE)[1], _HIGHEST_TARGET)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTest:
    """The state of the test of one grader."""

    since: float = 0.0
    """When a person last accepted the grader as it is (Unix time); normal is learned from then on."""
    author: str = ""
    why: str = ""
    """Who did that, and why."""
    fired_at: float = 0.0
    """When the alert began to fire; 0 while it does not."""
    detector: Detector = field(default_factory=Detector)
    differing: tuple[str, ...] = ()
    """The calls on which recent verdicts differ; as many as the rule needs, each once."""
    labels: Mapping[Grade, LabelTest] = field(default_factory=lambda: {label: LabelTest() for label in LABELS})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The state from the result of `row`; a blank one from an empty row."""
        if not row:
            return cls()
        labels = {label: LabelTest.from_row(row["labels"][label.value]) for label in LABELS}
        detector = Detector.from_row(row["detector"])
        return cls(
            **{name: row[name] for name in ("since", "author", "why", "fired_at")},
            detector=detector,
            differing=tuple(row["differing"]),
            labels=labels,
        )

    def row(self) -> dict[str, Any]:
        """The state as JSON."""
        labels = {label.value: test.row() for label, test in self.labels.items()}
        plain = {name: getattr(self, name) for name in ("since", "author", "why", "fired_at")}
        return {**plain, "detector": self.detector.row(), "differing": list(self.differing), "labels": labels}

    def in_state(self, rule: GraderDriftRule, *, fired_at: float) -> "DriftTest":
        """The test for an alert that has fired since `fired_at`, or does not fire (0): begun anew if that changed."""
        if fired_at == self.fired_at:
            return self
        labels = {
            label: replace(test, recent=(0, 0), fall=Detector(), level=self._level(rule, label) if fired_at else None)
            for label, test in self.labels.items()
        }
        return replace(self, fired_at=fired_at, detector=Detector(), differing=(), labels=labels)

    def _level(self, rule: GraderDriftRule, label: Grade) -> float | None:
        """The alarm level of a label: half of its rate when the alert fired; None if it is not why it fired."""
        test = self.labels[label]
        target = test.target(rule.normal_regradings)
        # The label with more evidence is always a reason, so that there is at least one.
        weakest = min(max(map(self._evidence, LABELS)), -math.log(rule.alpha) / 2)
        if target is None or self._evidence(label) < weakest:
            return None
        differing, count = test.recent
        return min(max(_MILDEST * target, differing / max(count, 1) / 2), _HIGHEST_TARGET)

    def _evidence(self, label: Grade) -> float:
        """The evidence of the bets on one label, a natural logarithm."""
        first = LABELS.index(label) * len(_CLIMBS)
        return Detector(logs=self.detector.logs[first : first + len(_CLIMBS)]).evidence

    def after(self, rule: GraderDriftRule, regradings: Iterable[Regrading]) -> "DriftTest":
        """The test after more repeated gradings, in the order of grading."""
        test = self
        for each in regradings:
            if each.at > self.since:
                test = test._after_one(rule, each)
        return test

    def _after_one(self, rule: GraderDriftRule, regrading: Regrading) -> "DriftTest":
        label, differs = regrading.label, regrading.verdict is not regrading.label
        test = self.labels[label]
        target = test.target(rule.normal_regradings)
        # The regradings that normal is learned from are no evidence against it.
        if target is None:
            learned = replace(test, normal=(test.normal[0] + differs, test.normal[1] + 1))
            return replace(self, labels={**self.labels, label: learned})
        grown = Bets.on_climb(target, _CLIMBS).growth(int(differs), 1)
        growth = tuple(each for one in LABELS for each in (grown if one is label else _RESTS))
        detector = self.detector.after_all([Observed(growth, int(differs), 1, regrading.at)])
        if detector.since is None and not self.fired_at:
            rested = {one: replace(each, recent=(0, 0)) for one, each in self.labels.items()}
            return replace(self, detector=detector, differing=(), labels=rested)
        differing = self.differing
        if differs and regrading.call_id not in differing and len(differing) < rule.min_answers:
            differing = (*differing, regrading.call_id)
        labels = {**self.labels, label: _counted(test, differs=differs, at=regrading.at)}
        return replace(self, detector=detector, differing=differing, labels=labels)

    def is_back(self, rule: GraderDriftRule) -> bool:
        """Whether each label for which the alert fires differs rarely again."""
        reasons = [test for test in self.labels.values() if test.level is not None]
        return bool(reasons) and all(test.fall.alarms(rule.release_alpha) for test in reasons)


def _counted(test: LabelTest, *, differs: bool, at: float) -> LabelTest:
    recent = (test.recent[0] + differs, test.recent[1] + 1)
    if test.level is None:
        return replace(test, recent=recent)
    return replace(test, recent=recent, fall=test.fall.after(Bets.on_fall(test.level), int(differs), 1, at=at))


def finding_of(rule: GraderDriftRule, test: DriftTest, *, anchors: int) -> Finding:
    """The finding of a test, for an alert in the state that the test knows.

    `anchors` is how many labelled answers can be graded again.
    """
    level = _level_of(rule, test)
    differing, count = (sum(each.recent[part] for each in test.labels.values()) for part in (0, 1))
    rate = Proportion(hits=differing, n=count)
    low, high = rate.interval()
    evidence = max(test.detector.evidence, 0.0)
    signal = {
        "kind": _kind(test, level),
        "why": _why(rule, test, anchors),
        "rate": rate.rate,
        "low": low,
        "high": high,
        "n": count,
        "evidence": evidence,
        "evidence_limit": -math.log(rule.alpha),
        "anchors": anchors,
    }
    return Finding(level=level, signal=signal)


def _level_of(rule: GraderDriftRule, test: DriftTest) -> Level:
    if _is_accepted(test) or (test.fired_at and test.is_back(rule)):
        return Level.BELOW
    # A single answer whose verdict is open is no change of the grader.
    if test.detector.alarms(rule.alpha) and len(test.differing) >= rule.min_answers:
        return Level.ABOVE
    if test.fired_at:
        return Level.UNCLEAR
    is_learned = any(each.target(rule.normal_regradings) is not None for each in test.labels.values())
    return Level.BELOW if is_learned else Level.NO_DATA


def _kind(test: DriftTest, level: Level) -> str:
    """`moved` as long as the alert fires, so that its message is not sent again; `accepted` by a person; or empty."""
    if _is_accepted(test):
        return "accepted"
    return "moved" if level is Level.ABOVE or (test.fired_at and level is not Level.BELOW) else ""


def _is_accepted(test: DriftTest) -> bool:
    """Whether a person has accepted the grader since the alert began to fire."""
    return bool(test.fired_at) and test.since >= test.fired_at


def _why(rule: GraderDriftRule, test: DriftTest, anchors: int) -> str:
    if _is_accepted(test):
        return f"accepted as it is by {test.author}: {test.why}"
    known = [label for label in LABELS if test.labels[label].target(rule.normal_regradings) is not None]
    if not known:
        learned = " and ".join(f"{test.labels[label].normal[1]} of answers labelled {label}" for label in LABELS)
        return f"normal is being learned: {learned} of {rule.normal_regradings} each; {anchors} answers can be graded"
    texts = "; ".join(_label_text(label, test.labels[label]) for label in known)
    return f"since it fired, {texts}" if test.fired_at else texts


def _label_text(label: Grade, test: LabelTest) -> str:
    """How often a label is contradicted, and how often that is normal."""
    (differing, count), (usual, learned) = test.recent, test.normal
    return f"{differing} of {count} verdicts differ from the label {label} (normal {usual} of {learned})"

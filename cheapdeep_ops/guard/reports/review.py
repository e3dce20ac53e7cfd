"""Labels by people check the grader: the next answer to label, their agreement, and the corrected rate."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, groupby
from operator import attrgetter
from random import Random
from typing import Final

from cheapdeep_ops.guard.grading.version import grader_version
from cheapdeep_ops.guard.report_types.figures import Correction
from cheapdeep_ops.guard.report_types.labels import Agreement, Judge, JudgeFacts, Pair, Review, Sample
from cheapdeep_ops.guard.statistics.agreement import (
    ENOUGH_CORRECT,
    ENOUGH_INCORRECT,
    BoundedRate,
    GraderAgreement,
    LabelledGrades,
    kappa_of,
    majority,
)
from cheapdeep_ops.guard.statistics.intervals import Estimate, pooled, weighted
from cheapdeep_ops.sampling import position
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grades, labels
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.labels import LabelledGrade
from cheapdeep_ops.units import DAY_S
from cheapdeep_ops.values import ALL_ROUTES, Grade

_ENOUGH: Final = {Grade.CORRECT.value: ENOUGH_CORRECT, Grade.INCORRECT.value: ENOUGH_INCORRECT}
_SALT: Final = "label"
Ballot = Sequence[LabelledGrade]
"""All votes on one answer."""


def next_sample(
    connection: Connection, settings: Settings, *, scope: str = ALL_ROUTES, skipped: Collection[str] = ()
) -> GradingSample | None:
    """The answer whose label adds most information, with its content; None if none is left.

    The verdict that lacks more labels comes first. Within it a hash chooses, so all people get one answer.
    """
    grader = grader_version(settings)
    unlabelled = labels.unlabelled(connection, grader, scope)
    waiting = {call: verdict for call, verdict in unlabelled.items() if call not in skipped}
    if not waiting:
        return None
    done = Counter(ballot[0].judged for ballot in _ballots(labels.votes(connection, grader, scope)))
    # Relative to the needed labels, which differ between the two verdicts.
    wanted = min(set(waiting.values()), key=lambda verdict: done[verdict] / _ENOUGH[verdict])
    of_verdict = (call for call, verdict in waiting.items() if verdict == wanted)
    chosen = min(of_verdict, key=lambda call: position(call, _SALT))
    return next(iter(candidates.with_content(connection, [chosen])), None)


def shown(sample: GradingSample) -> Sample:
    """An answer as a person labels it: without the grader's verdict, which would bias them."""
    return {
        "call_id": sample.call_id,
        "route": sample.route,
        "input_class": sample.input_class,
        "at": sample.at,
        "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
        "answer": sample.answer,
    }


def review_of(connection: Connection, settings: Settings, scope: str = ALL_ROUTES) -> Review:
    """The grader's agreement with people, the labels that are still needed, and a comparison of all graders."""
    grader = grader_version(settings)
    votes = labels.votes(connection, grader, scope)
    agreed = _agreement(connection, grader, votes, scope)
    waiting = Counter(labels.unlabelled(connection, grader, scope).values())
    known = labels.graders(connection)
    return {
        "judge": _named(grader),
        "route": scope,
        **_facts(agreed),
        "needed": {
            "judged_correct": max(ENOUGH_CORRECT - agreed.judged_correct, 0),
            "judged_incorrect": max(ENOUGH_INCORRECT - agreed.judged_incorrect, 0),
        },
        "waiting": {"judged_correct": waiting[Grade.CORRECT], "judged_incorrect": waiting[Grade.INCORRECT]},
        "undecided": len(_ballots(votes)) - agreed.labels,
        "authors": dict(Counter(each.author for each in votes)),
        "judges": [_grader_facts(connection, each, scope) for each in known],
        "pairs": [_pair(connection, one, other, scope) for one, other in combinations(known, 2)],
    }


def agreement_of(connection: Connection, settings: Settings) -> Agreement:
    """The grader's agreement with people, over all routes."""
    grader = grader_version(settings)
    return _facts(_agreement(connection, grader, labels.votes(connection, grader)))


def correction_of(connection: Connection, settings: Settings, *, since: float, until: float) -> Correction:
    """The false-confident rate of the period's shipped answers, corrected for the grader's errors.

    The rate is None, with the reason, while there are too few labels. Labels of all times count.
    """
    grader = grader_version(settings)
    agreed = _agreement(connection, grader, labels.votes(connection, grader))
    judged_wrong = _share_graded_wrong(connection, grader, since=since, until=until, shipped=True)
    why = _why_not(agreed, judged_wrong)
    rate = BoundedRate(rate=None, low=0.0, high=1.0) if why or judged_wrong is None else agreed.corrected(judged_wrong)
    if not why and rate.rate is None:
        why = "with the error rates from the labels, the grader could not have found this rate in this period"
    return {
        "judge_correction_why": why,
        "judge_labels": agreed.labels,
        "corrected_false_confident_rate": rate.rate,
        "corrected_false_confident_interval": (rate.low, rate.high),
    }


def _why_not(agreed: GraderAgreement, judged_wrong: Estimate | None) -> str:
    if judged_wrong is None:
        return "this grader has graded no shipped answer of the period"
    if agreed.judged_correct < ENOUGH_CORRECT or agreed.judged_incorrect < ENOUGH_INCORRECT:
        return (
            f"{agreed.judged_correct} of {ENOUGH_CORRECT} labels of answers graded correct, "
            f"{agreed.judged_incorrect} of {ENOUGH_INCORRECT} of answers graded incorrect"
        )
    return "" if agreed.suffices else "by the labels, the grader does not separate wrong answers from right ones"


def _agreement(
    connection: Connection, grader: GraderVersion, votes: Sequence[LabelledGrade], scope: str = ALL_ROUTES
) -> GraderAgreement:
    """The agreement of `votes` with the grades of their days."""
    labelled = [label for ballot in _ballots(votes) if (label := _labelled(ballot)) is not None]
    drawn_from = pooled(_days(connection, grader, votes, scope))
    # A fixed seed, so that a report is repeatable.
    return GraderAgreement.of(labelled, drawn_from, Random(0))  # noqa: S311 - a simulation, no secret


def _days(
    connection: Connection, grader: GraderVersion, votes: Sequence[LabelledGrade], scope: str
) -> Iterator[tuple[Estimate, float]]:
    """The share graded as wrong on each day with labelled answers, and the day's share of the labels.

    Days weigh by their answers graded as right, if there are any: those graded as wrong are labelled more often than
    they occur.
    """
    right = [each for each in votes if each.judged == Grade.CORRECT.value]
    for day, count in Counter(int(each.called_at // DAY_S) for each in right or votes).items():
        wrong = _share_graded_wrong(connection, grader, since=day * DAY_S, until=(day + 1) * DAY_S, scope=scope)
        if wrong is not None:
            yield wrong, count


def _labelled(ballot: Ballot) -> LabelledGrades | None:
    """The verdict of most people; None for a tie, or if most are unsure."""
    most, first = majority(each.verdict for each in ballot), ballot[0]
    if most is None:
        return None
    judged_wrong = first.judged == Grade.INCORRECT.value
    return LabelledGrades(judged_wrong=judged_wrong, is_wrong=most is Grade.INCORRECT, inclusion=first.inclusion)


def _ballots(votes: Sequence[LabelledGrade]) -> list[list[LabelledGrade]]:
    return [list(of_call) for _, of_call in groupby(votes, key=attrgetter("call_id"))]


def _share_graded_wrong(
    connection: Connection,
    grader: GraderVersion,
    *,
    since: float = float("-inf"),
    until: float = float("inf"),
    scope: str = ALL_ROUTES,
    shipped: bool | None = None,
) -> Estimate | None:
    """The share that `grader` graded as wrong, of the evenly sampled answers to calls of `[since, until)`."""
    tallies = grades.tallies(connection, since=since, until=until, scope=scope, grader=grader)
    # Samples that a suspicion chose are no random sample of the answers.
    return weighted(
        (each.verdict == Grade.INCORRECT.value, each.inclusion, each.count)
        for each in tallies
        if each.verdict in _ENOUGH and not each.steered and shipped in {None, each.shipped}
    )


def _facts(agreed: GraderAgreement) -> Agreement:
    """Labels and agreement of one grader; unknown rates are None."""
    kappa, tpr, fpr = agreed.kappa, agreed.tpr, agreed.fpr
    return {
        "labels": agreed.labels,
        "judged_correct": agreed.judged_correct,
        "judged_incorrect": agreed.judged_incorrect,
        "suffices": agreed.suffices,
        "kappa": kappa.rate,
        "kappa_interval": (kappa.low, kappa.high),
        "tpr": tpr.rate,
        "tpr_interval": (tpr.low, tpr.high),
        "fpr": fpr.rate,
        "fpr_interval": (fpr.low, fpr.high),
    }


def _named(grader: GraderVersion) -> Judge:
    return {"model": grader.model, "prompt": grader.prompt}


def _grader_facts(connection: Connection, grader: GraderVersion, scope: str) -> JudgeFacts:
    """The share that one grader graded as wrong, and its agreement with people: for comparing prompts."""
    wrong = _share_graded_wrong(connection, grader, scope=scope)
    return {
        **_named(grader),
        "graded": wrong.count if wrong else 0,
        "judged_wrong": wrong.rate if wrong else None,
        "judged_wrong_interval": wrong.interval() if wrong else (0.0, 1.0),
        **_facts(_agreement(connection, grader, labels.votes(connection, grader, scope), scope)),
    }


def _pair(connection: Connection, one: GraderVersion, other: GraderVersion, scope: str) -> Pair:
    """The agreement of two graders on the answers that both have graded."""
    verdicts = labels.paired_verdicts(connection, one, other, scope)
    kappa = kappa_of(verdicts, Random(0))  # noqa: S311 - a simulation, no secret
    return {
        "judges": (_named(one), _named(other)),
        "n": sum(verdicts.values()),
        "agree": sum(count for (first, then), count in verdicts.items() if first == then),
        "kappa": kappa.rate,
        "kappa_interval": (kappa.low, kappa.high),
    }

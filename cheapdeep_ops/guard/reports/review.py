"""The judge checked by people: what to label next, what the labels say, and the rate that follows."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from itertools import combinations, groupby
from operator import attrgetter
from random import Random
from typing import Any, Final

from cheapdeep_ops.errors import PolicyError
from cheapdeep_ops.guard.grading.grader import grader_version
from cheapdeep_ops.guard.statistics.agreement import (
    ENOUGH_CORRECT,
    ENOUGH_INCORRECT,
    BoundedRate,
    GraderAgreement,
    LabelledGrades,
    kappa_of,
)
from cheapdeep_ops.guard.statistics.intervals import Estimate, pooled, weighted
from cheapdeep_ops.sampling import position
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import candidates, grades, labels
from cheapdeep_ops.store.candidates import GradingSample
from cheapdeep_ops.store.engine import Connection, Store
from cheapdeep_ops.store.grades import GraderVersion
from cheapdeep_ops.store.labels import LabelledGrade
from cheapdeep_ops.values import ALL_ROUTES, Grade

_ENOUGH: Final = {Grade.CORRECT.value: ENOUGH_CORRECT, Grade.INCORRECT.value: ENOUGH_INCORRECT}
_SALT: Final = "label"
_DAY_S: Final = 86_400.0
Ballot = Sequence[LabelledGrade]
"""All votes on one answer."""


def label(store: Store, call_id: str, verdict: Grade, *, author: str, now: float) -> None:
    """Store what a person says of a graded answer, in place of what they said before.

    Raises PolicyError where no judge has decided on the call, StoreError where the store is out of reach.
    """
    store.transact(lambda connection: _put(connection, call_id, verdict, author=author, now=now))


def label_all(
    store: Store, settings: Settings, given: Sequence[tuple[str, Grade]], *, author: str, now: float
) -> list[dict[str, Any]]:
    """The same of several calls: all of them, or none where one is refused.

    Returns them, each with what the judge had said: only now, so that it sways nobody.
    """

    def work(connection: Connection) -> None:
        for call_id, verdict in given:
            _put(connection, call_id, verdict, author=author, now=now)

    store.transact(work)
    with store.reading() as connection:
        return [
            {
                "call_id": call_id,
                "verdict": verdict.value,
                "author": author,
                "judge": dict(labels.said(connection, grader_version(settings), call_id)),
            }
            for call_id, verdict in given
        ]


def _put(connection: Connection, call_id: str, verdict: Grade, *, author: str, now: float) -> None:
    if not labels.put(connection, call_id, verdict, author=author, at=now):
        raise PolicyError(f"no verdict of a judge on the call {call_id}: no label is stored")


def next_sample(
    connection: Connection, settings: Settings, *, scope: str = ALL_ROUTES, skipped: Collection[str] = ()
) -> GradingSample | None:
    """The answer whose label tells most now, with its content; None where none is left.

    Of the two verdicts, the one of which fewer labels are there than needed comes first; which answer of it, chance
    decides, the same for everyone.
    """
    judge = grader_version(settings)
    waiting = {call: said for call, said in labels.unlabelled(connection, judge, scope).items() if call not in skipped}
    if not waiting:
        return None
    done = Counter(ballot[0].judged for ballot in _ballots(labels.votes(connection, judge, scope)))
    wanted = min(set(waiting.values()), key=lambda verdict: done[verdict] / _ENOUGH[verdict])
    chosen = min((call for call, said in waiting.items() if said == wanted), key=lambda call: position(call, _SALT))
    return next(iter(candidates.with_content(connection, [chosen])), None)


def shown(sample: GradingSample) -> dict[str, Any]:
    """What a person is to read of an answer, without what the judge says of it: that would sway them."""
    return {
        "call_id": sample.call_id,
        "route": sample.route,
        "input_class": sample.input_class,
        "at": sample.at,
        "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
        "answer": sample.answer,
    }


def review_of(connection: Connection, settings: Settings, scope: str = ALL_ROUTES) -> dict[str, Any]:
    """How far the judge agrees with people, what is still to be labelled, and how all judges compare."""
    judge = grader_version(settings)
    votes = labels.votes(connection, judge, scope)
    agreed = _agreement(connection, judge, votes, scope)
    waiting = Counter(labels.unlabelled(connection, judge, scope).values())
    known = labels.judges(connection)
    return {
        "judge": asdict(judge),
        "route": scope,
        **_facts(agreed),
        "needed": {
            "judged_correct": max(ENOUGH_CORRECT - agreed.judged_correct, 0),
            "judged_incorrect": max(ENOUGH_INCORRECT - agreed.judged_incorrect, 0),
        },
        "waiting": {"judged_correct": waiting[Grade.CORRECT], "judged_incorrect": waiting[Grade.INCORRECT]},
        "undecided": len(_ballots(votes)) - agreed.labels,
        "authors": dict(Counter(each.author for each in votes)),
        "judges": [_judge_facts(connection, each, scope) for each in known],
        "pairs": [_pair(connection, one, other, scope) for one, other in combinations(known, 2)],
    }


def agreement_of(connection: Connection, settings: Settings) -> dict[str, Any]:
    """How far the judge agrees with people, over all routes: that part of `review_of` alone."""
    judge = grader_version(settings)
    return _facts(_agreement(connection, judge, labels.votes(connection, judge)))


def correction_of(connection: Connection, settings: Settings, *, since: float, until: float) -> dict[str, Any]:
    """The false-confident rate of what was shipped by calls of the period, the judge's errors taken out.

    Says "uncorrected", and why, while there are too few labels; labels of all times count.
    """
    judge = grader_version(settings)
    agreed = _agreement(connection, judge, labels.votes(connection, judge))
    found = _judged_wrong(connection, judge, since=since, until=until, shipped=True)
    why = _why_not(agreed, found)
    rate = BoundedRate(rate=None, low=0.0, high=1.0) if why or found is None else agreed.corrected(found)
    if not why and rate.rate is None:
        why = "the judge errs otherwise in this period than the labels say: it cannot have found such a rate"
    return {
        "judge_correction": "uncorrected" if why else "corrected",
        "judge_correction_why": why,
        "judge_labels": agreed.labels,
        "corrected_false_confident_rate": rate.rate,
        "corrected_false_confident_interval": [rate.low, rate.high],
    }


def _why_not(agreed: GraderAgreement, found: Estimate | None) -> str:
    if found is None:
        return "this judge has graded no shipped answer of the period"
    if agreed.judged_correct < ENOUGH_CORRECT or agreed.judged_incorrect < ENOUGH_INCORRECT:
        return (
            f"{agreed.judged_correct} of {ENOUGH_CORRECT} labels of answers judged correct, "
            f"{agreed.judged_incorrect} of {ENOUGH_INCORRECT} of those judged incorrect"
        )
    return "" if agreed.suffices else "by the labels, the judge does not tell wrong from right"


def _agreement(
    connection: Connection, judge: GraderVersion, votes: Sequence[LabelledGrade], scope: str = ALL_ROUTES
) -> GraderAgreement:
    """What `votes` say, against the grades of the days that they are of."""
    labelled = [found for ballot in _ballots(votes) if (found := _labelled(ballot)) is not None]
    drawn_from = pooled(_days(connection, judge, votes, scope))
    return GraderAgreement.of(labelled, drawn_from, Random(0))  # noqa: S311 - a simulation, no secret


def _days(
    connection: Connection, judge: GraderVersion, votes: Sequence[LabelledGrade], scope: str
) -> Iterator[tuple[Estimate, float]]:
    """What the judge calls wrong on each day of which answers are labelled, and the day's share in the labels.

    Of answers judged right, where there are any: those judged wrong are labelled more often than they occur.
    """
    right = [each for each in votes if each.judged == Grade.CORRECT.value]
    for day, count in Counter(int(each.called_at // _DAY_S) for each in right or votes).items():
        found = _judged_wrong(connection, judge, since=day * _DAY_S, until=(day + 1) * _DAY_S, scope=scope)
        if found is not None:
            yield found, count


def _labelled(ballot: Ballot) -> LabelledGrades | None:
    """What more people say than anything else; None where that is nothing, or that they are unsure."""
    said, first = Counter(each.verdict for each in ballot), ballot[0]
    (most, count), *others = said.most_common()
    if most == Grade.UNSURE or any(other == count for _, other in others):
        return None
    judged_wrong = first.judged == Grade.INCORRECT.value
    return LabelledGrades(judged_wrong=judged_wrong, is_wrong=most == Grade.INCORRECT, inclusion=first.inclusion)


def _ballots(votes: Sequence[LabelledGrade]) -> list[list[LabelledGrade]]:
    return [list(of_call) for _, of_call in groupby(votes, key=attrgetter("call_id"))]


def _judged_wrong(
    connection: Connection,
    judge: GraderVersion,
    *,
    since: float = float("-inf"),
    until: float = float("inf"),
    scope: str = ALL_ROUTES,
    shipped: bool | None = None,
) -> Estimate | None:
    """The share that `judge` calls wrong, of the evenly chosen answers to calls of `[since, until)`."""
    found = grades.tallied(connection, since=since, until=until, scope=scope, judge=judge)
    return weighted(
        (each.verdict == Grade.INCORRECT.value, each.inclusion, each.count)
        for each in found
        if each.verdict in _ENOUGH and not each.steered and shipped in {None, each.shipped}
    )


def _facts(agreed: GraderAgreement) -> dict[str, Any]:
    """Labels and agreement of one judge; what is unknown is None."""
    return {
        "labels": agreed.labels,
        "judged_correct": agreed.judged_correct,
        "judged_incorrect": agreed.judged_incorrect,
        "suffices": agreed.suffices,
        **_bounded("kappa", agreed.kappa),
        **_bounded("tpr", agreed.tpr),
        **_bounded("fpr", agreed.fpr),
    }


def _bounded(name: str, found: BoundedRate) -> dict[str, Any]:
    return {name: found.rate, f"{name}_interval": [found.low, found.high]}


def _judge_facts(connection: Connection, judge: GraderVersion, scope: str) -> dict[str, Any]:
    """What one judge finds wrong, and how far people agree: a new prompt beside the old one."""
    found = _judged_wrong(connection, judge, scope=scope)
    return {
        **asdict(judge),
        "graded": found.count if found else 0,
        "judged_wrong": found.rate if found else None,
        "judged_wrong_interval": list(found.interval()) if found else [0.0, 1.0],
        **_facts(_agreement(connection, judge, labels.votes(connection, judge, scope), scope)),
    }


def _pair(connection: Connection, one: GraderVersion, other: GraderVersion, scope: str) -> dict[str, Any]:
    """How two judges agree on the answers that both have graded."""
    said = labels.both(connection, one, other, scope)
    kappa = kappa_of(said, Random(0))  # noqa: S311 - a simulation, no secret
    return {
        "judges": [asdict(one), asdict(other)],
        "n": sum(said.values()),
        "agree": sum(count for (first, then), count in said.items() if first == then),
        **_bounded("kappa", kappa),
    }

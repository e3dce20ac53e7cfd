"""The command by which people check the judge."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final
from unicodedata import category

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, app, text_given
from cheapdeep_ops.cli.common import author as user
from cheapdeep_ops.cli.guards.protocol import GuardClient, connected
from cheapdeep_ops.guard.formatting import bounded, bounds, percent, plain, two_digits
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES, Grade

if TYPE_CHECKING:
    from rich.console import Console

    from cheapdeep_ops.guard.report_types.labels import Judge, JudgeFacts, Review, Sample
    from cheapdeep_ops.store.records import Judged

_KEYS: Final = {"c": Grade.CORRECT, "i": Grade.INCORRECT, "u": Grade.UNSURE}
_MOST: Final = 10
_LONGEST_REASON: Final = 500
_JOINERS: Final = "\u200c\u200d"
"""Letters of some scripts, and many emoji, are made with these."""

_PROMPT: Final = "[c]orrect, [i]ncorrect, [u]nsure, [s]kip or [q]uit"


@app.command()
def review(
    json: Json = False,
    route: Annotated[str, typer.Option(callback=text_given, help="One route; without it, all routes.")] = ALL_ROUTES,
    limit: Annotated[int, typer.Option(min=1, help="How many answers to be asked about.")] = _MOST,
    author: Annotated[str | None, typer.Option(callback=text_given, help="Whose word it is.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="CALL_ID=VERDICT labels one call without asking; may be given again.")
    ] = None,
) -> None:
    """Label graded answers by hand, and print how far the judge agrees with people; --json and --label never ask."""
    settings, given, by = Settings(), _given(label or ()), (author or user()).strip()
    with connected(settings) as guard:
        if given:
            guard.label(given, author=by)
        elif not json:
            _ask(guard, route=route, limit=limit, author=by)
        found = guard.review(route)
    if json:
        output.print_json(found)
    else:
        show_review(output.console(), found)


def _given(labels: Sequence[str]) -> list[tuple[str, Grade]]:
    """Call ids, which may hold `=` themselves, and verdicts. Raises BadParameter."""
    found = [text.rpartition("=") for text in labels]
    if wrong := [
        text
        for text, (call_id, _, verdict) in zip(labels, found, strict=True)
        if not call_id or verdict not in set(Grade)
    ]:
        raise typer.BadParameter(
            f"{wrong[0]!r} is not of the form CALL_ID=VERDICT, with correct, incorrect or unsure", param_hint="--label"
        )
    return [(call_id, Grade(verdict)) for call_id, _, verdict in found]


def _ask(guard: GuardClient, *, route: str, limit: int, author: str) -> None:
    """Show answers and take labels, until enough were shown, none is left, or the person has had enough."""
    out, skipped = output.console(), set[str]()
    for _ in range(limit):
        sample = guard.next_sample(route, skipped=skipped)
        if sample is None:
            out.print("no answer is left to label: what was graded is labelled, or its content is gone")
            return
        _show_sample(out, sample)
        key = _key()
        if key == "q":
            return
        if key in _KEYS:
            (labelled,) = guard.label([(sample["call_id"], _KEYS[key])], author=author)
            _show_judged(out, labelled["judge"])
        else:
            skipped.add(sample["call_id"])


def _key() -> str:
    """The first letter of what a person types; whoever has gone is done."""
    known = {*_KEYS, "s", "q"}
    while True:
        try:
            typed = input(f"{_PROMPT}: ").strip().lower()[:1]
        except EOFError:
            return "q"
        if typed in known:
            return typed


def _show_sample(out: "Console", sample: "Sample") -> None:
    out.print(f"--- call {plain(sample['call_id'])}, route {plain(sample['route'])}", markup=False, style="dim")
    for turn in sample["turns"]:
        out.print(f"{turn['role']}:\n{_quoted(turn['text'])}", markup=False)
    out.print(f"ANSWER:\n{_quoted(sample['answer'])}", markup=False, style="bold")


def _show_judged(out: "Console", judged: "Judged") -> None:
    """The grader's verdict: after the label, because it would bias the person."""
    reason = plain(judged.get("reason") or "", _LONGEST_REASON)
    out.print(f"the judge said {judged.get('verdict')}: {reason}", markup=False)


def _quoted(text: str) -> str:
    """`text` with a bar before each line, so that it cannot pass for a line of ours."""
    return "\n".join(f"  | {_harmless(line)}" for line in text.split("\n"))


def _harmless(line: str) -> str:
    """`line` without what would move a terminal's cursor or turn its letters around."""
    return "".join(each if _is_harmless(each) else f"\\x{ord(each):02x}" for each in line.expandtabs(4))


def _is_harmless(character: str) -> bool:
    return character.isprintable() or category(character) == "Zs" or character in _JOINERS


def show_review(out: "Console", review: "Review") -> None:
    """How far the grader agrees with people, and how all graders compare."""
    rows = [_row(each) for each in review["judges"]]
    columns = (
        "judge",
        "graded",
        "says wrong",
        "labels (right + wrong)",
        "sees wrong ones",
        "blames right ones",
        "kappa",
    )
    out.print(output.table("Judges", columns, rows) if rows else "nothing was graded yet")
    for pair in review["pairs"]:
        if pair["n"]:
            names = " and ".join(_judge(each) for each in pair["judges"])
            kappa = bounded(pair["kappa"], pair["kappa_interval"], two_digits)
            out.print(f"{names}: agree on {pair['agree']} of {pair['n']} answers, kappa {kappa}", markup=False)
    out.print(_next_step(review), markup=False)


def _next_step(review: "Review") -> str:
    if review["route"] != ALL_ROUTES:
        return f"{review['labels']} labels of this route; the report's rate is corrected by the labels of all routes"
    if review["suffices"]:
        return f"{review['labels']} labels: the report's rate is corrected for the judge's errors"
    needed, waiting = review["needed"], review["waiting"]
    if not needed["judged_correct"] and not needed["judged_incorrect"]:
        return "by the labels, the judge does not tell wrong from right: nothing can be corrected"
    return (
        f"rates stay uncorrected until {needed['judged_correct']} more answers judged correct and "
        f"{needed['judged_incorrect']} more judged incorrect are labelled; "
        f"{waiting['judged_correct']} and {waiting['judged_incorrect']} can be"
    )


def _row(judge: "JudgeFacts") -> Sequence[str]:
    return (
        _judge(judge),
        f"{judge['graded']:,}",
        f"{percent(judge['judged_wrong'])} ({bounds(judge['judged_wrong_interval'])})",
        f"{judge['judged_correct']} + {judge['judged_incorrect']}",
        bounded(judge["tpr"], judge["tpr_interval"]),
        bounded(judge["fpr"], judge["fpr_interval"]),
        bounded(judge["kappa"], judge["kappa_interval"], two_digits),
    )


def _judge(judge: "Judge") -> str:
    return f"{judge['model']}, prompt {judge['prompt']}"

"""The command `review`: people label graded answers and see how far the grader agrees with them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final
from unicodedata import category

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, app, filled_option
from cheapdeep_ops.cli.common import author as user
from cheapdeep_ops.cli.groups import ACT, example
from cheapdeep_ops.cli.guard_client import GuardClient, connected
from cheapdeep_ops.guard.formatting import bounded, bounds, percent, plain, two_digits
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES, Grade

if TYPE_CHECKING:
    from rich.console import Console

    from cheapdeep_ops.guard.report_types.labels import Judge, JudgeFacts, Label, Review, Sample
    from cheapdeep_ops.store.records import Judged

_KEYS: Final = {"c": Grade.CORRECT, "i": Grade.INCORRECT, "u": Grade.UNSURE}
_MOST: Final = 10
_LONGEST_REASON: Final = 500
# Zero-width joiners: some scripts and many emoji need them.
_JOINERS: Final = "\u200c\u200d"

_PROMPT: Final = "[c]orrect, [i]ncorrect, [u]nsure, [s]kip or [q]uit"


@app.command(rich_help_panel=ACT, epilog=example("review --route support --limit 20"))
def review(
    json: Json = False,
    route: Annotated[str, typer.Option(callback=filled_option, help="One route; without it, all routes.")] = ALL_ROUTES,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of answers to show.")] = _MOST,
    author: Annotated[
        str | None,
        typer.Option(callback=filled_option, help="The person who labels; without it, the user of this process."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="CALL_ID=VERDICT labels one call without a prompt; repeatable.")
    ] = None,
) -> None:
    """Label graded answers. Then print how far the grader agrees with people. --json and --label show no prompt."""
    settings, labels, by = Settings(), _parsed(label or ()), author or user()
    with connected(settings) as guard:
        if labels:
            _label(guard, labels, author=by)
        elif not json:
            _ask(guard, route=route, limit=limit, author=by)
        agreement = guard.read("review", route=route)
    if json:
        output.print_json(agreement)
    else:
        show_review(output.console(), agreement)


def _parsed(labels: Sequence[str]) -> list[tuple[str, Grade]]:
    """Call ids and verdicts, from texts `CALL_ID=VERDICT`. Raises BadParameter if one is malformed."""
    # From the right, because a call id may contain `=`.
    parts = [text.rpartition("=") for text in labels]
    if wrong := [
        text
        for text, (call_id, _, verdict) in zip(labels, parts, strict=True)
        if not call_id or verdict not in set(Grade)
    ]:
        raise typer.BadParameter(
            f"{wrong[0]!r} is not of the form CALL_ID=VERDICT, with correct, incorrect or unsure", param_hint="--label"
        )
    return [(call_id, Grade(verdict)) for call_id, _, verdict in parts]


def _label(guard: GuardClient, labels: Sequence[tuple[str, Grade]], *, author: str) -> Sequence["Label"]:
    """Store labels, all or none; returns them, each with the grader's verdict."""
    from cheapdeep_ops.guard.actions.labels import label_all

    pairs = [{"call_id": call_id, "verdict": verdict} for call_id, verdict in labels]
    labelled: Sequence[Label] = guard.act(label_all, labels=pairs, author=author)
    return labelled


def _ask(guard: GuardClient, *, route: str, limit: int, author: str) -> None:
    """Show answers and store labels, until `limit` answers were shown, none is left, or the person quits."""
    out, skipped = output.console(), set[str]()
    for _ in range(limit):
        sample = guard.read("review/next", route=route, skip=list(skipped))
        if sample is None:
            out.print("no answer is left to label: each graded answer is labelled, or its text is deleted")
            return
        _show_sample(out, sample)
        key = _key()
        if key == "q":
            return
        if key in _KEYS:
            (labelled,) = _label(guard, [(sample["call_id"], _KEYS[key])], author=author)
            _show_grade(out, labelled["judge"])
        else:
            skipped.add(sample["call_id"])


def _key() -> str:
    """The key that a person chooses; `q` at the end of the input."""
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


def _show_grade(out: "Console", grade: "Judged") -> None:
    """Print the grader's verdict."""
    # Only after the label, because the verdict would bias the person.
    reason = plain(grade.get("reason") or "", _LONGEST_REASON)
    out.print(f"the grader's verdict: {grade.get('verdict')}: {reason}", markup=False)


def _quoted(text: str) -> str:
    """`text` with a bar before each line."""
    # An answer could imitate the lines of this command.
    return "\n".join(f"  | {_harmless(line)}" for line in text.split("\n"))


def _harmless(line: str) -> str:
    """`line` with escapes for characters that move the cursor or reverse the direction of text."""
    return "".join(each if _is_harmless(each) else f"\\x{ord(each):02x}" for each in line.expandtabs(4))


def _is_harmless(character: str) -> bool:
    return character.isprintable() or category(character) == "Zs" or character in _JOINERS


def show_review(out: "Console", review: "Review") -> None:
    """Print how far the grader agrees with people, and how the graders compare."""
    rows = [_row(each) for each in review["judges"]]
    columns = (
        "grader",
        "graded",
        "graded wrong",
        "labels (right + wrong)",
        "wrong ones found",
        "right ones rejected",
        "kappa",
    )
    out.print(output.table("Graders", columns, rows) if rows else "no answer was graded yet")
    for pair in review["pairs"]:
        if pair["n"]:
            names = " and ".join(_name(each) for each in pair["judges"])
            kappa = bounded(pair["kappa"], pair["kappa_interval"], two_digits)
            out.print(f"{names}: they agree on {pair['agree']} of {pair['n']} answers, kappa {kappa}", markup=False)
    out.print(_next_step(review), markup=False)


def _next_step(review: "Review") -> str:
    if review["route"] != ALL_ROUTES:
        return f"{review['labels']} labels of this route; the labels of all routes together correct the report's rate"
    if review["suffices"]:
        return f"{review['labels']} labels: the report's rate is corrected for the grader's errors"
    needed, waiting = review["needed"], review["waiting"]
    if not needed["judged_correct"] and not needed["judged_incorrect"]:
        return "by the labels, the grader cannot tell wrong from right: no rate can be corrected"
    return (
        f"rates stay uncorrected until people label {needed['judged_correct']} more answers graded correct and "
        f"{needed['judged_incorrect']} more graded incorrect; "
        f"{waiting['judged_correct']} and {waiting['judged_incorrect']} can be labelled"
    )


def _row(grader: "JudgeFacts") -> Sequence[str]:
    return (
        _name(grader),
        f"{grader['graded']:,}",
        f"{percent(grader['judged_wrong'])} ({bounds(grader['judged_wrong_interval'])})",
        f"{grader['judged_correct']} + {grader['judged_incorrect']}",
        bounded(grader["tpr"], grader["tpr_interval"]),
        bounded(grader["fpr"], grader["fpr_interval"]),
        bounded(grader["kappa"], grader["kappa_interval"], two_digits),
    )


def _name(grader: "Judge") -> str:
    return f"{grader['model']}, prompt {grader['prompt']}"

"""Why the rules fire in a route, or do not, in words: for the console and the terminal."""

from collections.abc import Iterator
from typing import Final

from cheapdeep_ops.guard.formatting import duration, plain, scope_text
from cheapdeep_ops.guard.report_types.why import RuleProgress, Why

_LONGEST: Final = 300


def progress_summary(why: Why) -> Iterator[str]:
    """The threshold of the route, and the rules that have found no problem."""
    pinned = "" if why["pin"] is None else "; a person has pinned it, so rules only report"
    yield f"{scope_text(why['route'])}: threshold {why['threshold']:g}{pinned}"
    calm = sorted({each["rule"] for each in why["rules"] if _is_calm(each)})
    if calm:
        yield f"No problem: {', '.join(calm)}"


def progress_lines(why: Why) -> list[tuple[str, list[str]]]:
    """Each rule with something to say: a title, and lines with its finding, its evidence and what is missing."""
    return [
        (f"{each['rule']} of {scope_text(each['scope'])}: {each['state']}", list(_lines(each)))
        for each in why["rules"]
        if not _is_calm(each)
    ]


def _is_calm(each: RuleProgress) -> bool:
    """Whether it waits for no evidence, and has found no problem."""
    return not each["unit"] and not each["found"] and each["level"] == "below" and each["state"] == "inactive"


def _lines(each: RuleProgress) -> Iterator[str]:
    if each["found"]:
        yield plain(each["found"], _LONGEST)
    if each["evidence"] is not None and each["evidence_limit"] is not None:
        yield f"Evidence {max(each['evidence'], 0.0):.1f} of {each['evidence_limit']:.1f}."
    if each["missing"]:
        wait = "" if each["wait_s"] is None else f" That takes about {duration(each['wait_s'])} at the present pace."
        yield f"{each['missing']}{wait}"
    if each["example"]:
        yield each["example"]

"""Why the rules fire in a route, or do not, in words: for the console and the terminal."""

from collections.abc import Iterator
from typing import Final

from cheapdeep_ops.guard.formatting import duration, plain, scope_text
from cheapdeep_ops.guard.report_types.why import RuleProgress, Why
from cheapdeep_ops.values import ALL_ROUTES

_LONGEST: Final = 300


def progress_summary(why: Why) -> Iterator[str]:
    """The threshold of the route, and the rules that have found no problem."""
    reasons = [] if why["pin"] is None else ["a person has pinned it"]
    reasons += [] if why["mode"] == "enforce" else [f"the mode is {why['mode']}"]
    only = f"; {' and '.join(reasons)}, so rules only report" if reasons else ""
    yield f"{scope_text(why['route'])}: threshold {why['threshold']:g}{only}"
    if why["route"] == ALL_ROUTES:
        yield "Rules judge all routes together where two of them or more have data and do not fire alone."
    elif not why["has_data"]:
        yield "This route has no calls within a day and no grades. Is the name right? cheapdeep-ops routes list"
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

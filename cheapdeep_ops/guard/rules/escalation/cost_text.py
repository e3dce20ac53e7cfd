"""What a storm costs, in words; facts as in `consequences.consequence_of`."""

from collections.abc import Iterable, Mapping
from typing import Any

from cheapdeep_ops.guard.formatting import money, share

Payload = Mapping[str, Any]


def hourly(consequence: Payload | None) -> str:
    """What follows a headline about a storm that goes on; nothing where no cost was asked for."""
    if not consequence:
        return ""
    if consequence["usd_per_hour"] is None:
        return "; cost unknown"
    if consequence["usd_per_hour"] <= 0:
        return "; no dearer than usual"
    return f"; about {money(consequence['usd_per_hour'])} an hour more than usual"


def cost_lines(payload: Payload) -> Iterable[str]:
    """What a storm costs, or has cost, with what that rests on."""
    found = payload.get("consequence")
    if not found:
        return
    if found["usd"] is None:
        yield f"Cost: unknown, {found['why']}"
        return
    is_over = payload["kind"] == "resolved"
    name, unit, per = ("usd", "", "since") if is_over else ("usd_per_hour", " an hour", "now")
    bounds = f"95%: {money(found[f'{name}_low'])} to {money(found[f'{name}_high'])}"
    rates = f"{share(found['usual'])} of the calls escalated in {found['compared_with']}, {share(found['now'])} {per}"
    each = money(found["escalation_usd"])
    yield f"Cost: about {money(found[name])}{unit} more than usual ({bounds}): {rates}, at {each} each"


def affected(payload: Payload) -> str:
    """How many calls fared otherwise than usual, where that is known."""
    extra = (payload.get("consequence") or {}).get("extra_calls")
    return "" if extra is None else f"; about {max(round(extra), 0):,} more than usual went to the deep tier"

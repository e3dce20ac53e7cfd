"""Commands of people who look after alerts: acknowledge an incident, silence a rule for a while."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, alert_app, author, seconds_in, text_given
from cheapdeep_ops.cli.guards.protocol import connected
from cheapdeep_ops.guard.formatting import plain, timestamp
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.units import DAY_S

Why = Annotated[str, typer.Option("--why", callback=text_given, help="For the log.")]


@alert_app.command("ack")
def alert_ack(
    incident_id: Annotated[int, typer.Argument(help="The incident's number, as messages say it.")],
    why: Why,
    json: Json = False,
) -> None:
    """Say that somebody looks after an incident: nobody is reminded of it any more."""
    with connected(Settings()) as guard:
        found = guard.acknowledge(incident_id, author=author(), why=why)
    if json:
        output.print_json(found)
    else:
        output.console().print(f"incident {incident_id} ({found['rule']}) is acknowledged", markup=False)


@alert_app.command("silence")
def alert_silence(
    rule: Annotated[str, typer.Option("--rule", callback=text_given, help="The alert, such as EscalationStorm.")],
    lasts: Annotated[str, typer.Option("--for", help="How long, such as 30m, 2h or 7d.")],
    why: Why,
    route: Annotated[
        str | None, typer.Option("--route", callback=text_given, help="One route; without it, every one.")
    ] = None,
    json: Json = False,
) -> None:
    """Keep messages of a rule back for a while; the rule itself goes on, and raises where it must."""
    from cheapdeep_ops.guard.incidents.attention import LONGEST_SILENCE_S

    lasts_s = seconds_in(lasts, "--for")
    if not 0 < lasts_s <= LONGEST_SILENCE_S:
        raise typer.BadParameter(f"needs more than 0s and at most {LONGEST_SILENCE_S / DAY_S:g}d", param_hint="--for")
    with connected(Settings()) as guard:
        found = guard.silence(rule, route=route, lasts_s=lasts_s, author=author(), why=why)
    show_silences(found, as_json=json)


@alert_app.command("silences")
def alert_silences(json: Json = False) -> None:
    """Print the silences that last."""
    with connected(Settings()) as guard:
        found = guard.silences()
    show_silences(found, as_json=json)


@alert_app.command("unsilence")
def alert_unsilence(
    silence_id: Annotated[int, typer.Argument(help="The silence, as `alert silences` numbers it.")],
    why: Annotated[str | None, typer.Option("--why", callback=text_given, help="For the log.")] = None,
    json: Json = False,
) -> None:
    """End a silence before its time."""
    with connected(Settings()) as guard:
        found = guard.unsilence(silence_id, author=author(), why=why or "")
    show_silences(found, as_json=json)


def show_silences(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print silences."""
    if as_json:
        output.print_json(found)
        return
    out = output.console()
    for each in found:
        where = "every route" if each["route"] is None else plain(each["route"])
        until = timestamp(each["until"])
        by = f"{plain(each['author'])}: {plain(each['why'], len(each['why']))}"
        out.print(f"silence {each['id']}: {each['rule']} of {where} until {until}, by {by}", markup=False)
    if not found:
        out.print("nothing is silenced")

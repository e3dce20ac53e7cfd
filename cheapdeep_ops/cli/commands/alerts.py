"""Commands for alerts: acknowledge an incident, silence a rule for a limited time, drop or retry a message."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cheapdeep_ops.cli import guard_client, output
from cheapdeep_ops.cli.common import Json, OptionalWhyOption, WhyOption, alert_app, filled_option, limited_seconds_in
from cheapdeep_ops.cli.groups import example
from cheapdeep_ops.guard.formatting import plain, timestamp
from cheapdeep_ops.guard.state_text import silence_end

if TYPE_CHECKING:
    from cheapdeep_ops.guard.report_types.state import Silence
    from cheapdeep_ops.store.records import UndeliveredMessage


@alert_app.command("ack", epilog=example('alert ack 3 --why "looking at it"'))
def alert_ack(
    incident_id: Annotated[int, typer.Argument(help="The incident's number, as messages show it.")],
    why: WhyOption,
    json: Json = False,
) -> None:
    """Acknowledge an incident. Its reminders stop."""
    from cheapdeep_ops.guard.actions.alerts import acknowledge

    incident = guard_client.act(acknowledge, incident_id=incident_id, why=why)
    if json:
        output.print_json(incident)
    else:
        output.console().print(f"incident {incident_id} ({incident['rule']}) is acknowledged", markup=False)


@alert_app.command("silence", epilog=example('alert silence --rule InertGate --for 2h --why "new prompt"'))
def alert_silence(  # noqa: PLR0917 - typer passes options by name
    rule: Annotated[str, typer.Option("--rule", callback=filled_option, help="The alert, such as EscalationStorm.")],
    lasts: Annotated[str, typer.Option("--for", help="The duration, such as 30m, 2h or 7d.")],
    why: WhyOption,
    route: Annotated[
        str | None, typer.Option("--route", callback=filled_option, help="One route; without it, all routes.")
    ] = None,
    new_route: Annotated[bool, typer.Option("--new-route", help="The route is new, and no misspelt one.")] = False,
    incident: Annotated[
        int | None, typer.Option("--incident", min=1, help="An open incident; the silence ends once it is over.")
    ] = None,
    json: Json = False,
) -> None:
    """Suppress the messages of a rule for a time. The rule still raises thresholds."""
    from cheapdeep_ops.guard.actions.alerts import LONGEST_SILENCE_S, silence

    lasts_s = limited_seconds_in(lasts, "--for", longest_s=LONGEST_SILENCE_S)
    bound = {} if incident is None else {"incident_id": incident, "ends_with_incident": True}
    active = guard_client.act(silence, rule=rule, route=route, new_route=new_route, for_s=lasts_s, **bound, why=why)
    show_silences(active, as_json=json)


@alert_app.command("silences", epilog=example("alert silences"))
def alert_silences(json: Json = False) -> None:
    """Print the active silences."""
    show_silences(guard_client.read("silences"), as_json=json)


@alert_app.command("unsilence", epilog=example("alert unsilence 2"))
def alert_unsilence(
    silence_id: Annotated[int, typer.Argument(help="The silence's number, as `alert silences` shows it.")],
    why: OptionalWhyOption = None,
    json: Json = False,
) -> None:
    """End a silence early."""
    from cheapdeep_ops.guard.actions.alerts import unsilence

    show_silences(guard_client.act(unsilence, silence_id=silence_id, why=why or ""), as_json=json)


@alert_app.command("pending", epilog=example("alert pending"))
def alert_pending(json: Json = False) -> None:
    """Print the messages that a receiver has not accepted, each with its last error."""
    show_undelivered(guard_client.read("undelivered"), as_json=json)


@alert_app.command("drop", epilog=example('alert drop 12 --why "old channel"'))
def alert_drop(
    message_id: Annotated[int, typer.Argument(help="The message's number, as `alert pending` shows it.")],
    why: WhyOption,
    json: Json = False,
) -> None:
    """Give a message up. Later messages of its incident are sent."""
    from cheapdeep_ops.guard.actions.alerts import drop

    show_undelivered(guard_client.act(drop, message_id=message_id, why=why), as_json=json)


@alert_app.command("retry", epilog=example("alert retry 12"))
def alert_retry(
    message_id: Annotated[int, typer.Argument(help="The message's number, as `alert pending` shows it.")],
    why: OptionalWhyOption = None,
    json: Json = False,
) -> None:
    """Send a message at once, to the channel that is configured now. A receiver may have refused it for good."""
    from cheapdeep_ops.guard.actions.alerts import retry

    show_undelivered(guard_client.act(retry, message_id=message_id, why=why or ""), as_json=json)


def show_undelivered(messages: Sequence["UndeliveredMessage"], *, as_json: bool) -> None:
    """Print messages that a receiver has not accepted, as JSON or as one line each."""
    if as_json:
        output.print_json(messages)
        return
    out = output.console()
    for each in messages:
        of = (
            f"incident {each['incident_id']} ({each['rule']} {plain(each['scope'])})" if each["rule"] else "no incident"
        )
        state = f"next attempt {timestamp(each['due_at'])}" if each["state"] == "waiting" else "refused for good"
        tried = f"{state}, {each['attempts']} attempts"
        error = f": {plain(each['error'], len(each['error']))}" if each["error"] else ""
        since = timestamp(each["since"])
        what = f"message {each['message_id']} to {each['receiver']}, {each['kind']} of {of}, since {since}"
        out.print(f"{what}; {tried}{error}", markup=False)
    if not messages:
        out.print("every message has arrived")


def show_silences(silences: Sequence["Silence"], *, as_json: bool) -> None:
    """Print silences, as JSON or as one line each."""
    if as_json:
        output.print_json(silences)
        return
    out = output.console()
    for each in silences:
        where = "all routes" if each["route"] is None else plain(each["route"])
        until = silence_end(each)
        by = f"{plain(each['author'])}: {plain(each['why'], len(each['why']))}"
        out.print(f"silence {each['id']}: {each['rule']} of {where} until {until}, by {by}", markup=False)
    if not silences:
        out.print("no rule is silenced")

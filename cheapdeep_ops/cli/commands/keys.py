"""Commands on the file of API tokens: make a token, list them, revoke one."""

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cheapdeep_ops.access.tokens import CallKey, Role, Token
from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import Json, filled_option, keys_app, seconds_in
from cheapdeep_ops.cli.groups import example
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.values import ALL_ROUTES

FileOption = Annotated[
    Path | None, typer.Option("--file", dir_okay=False, help="The file; without it, CHEAPDEEP_API_TOKENS_FILE.")
]
NameArgument = Annotated[str, typer.Argument(callback=filled_option, help="Who holds the token; changes show it.")]


@keys_app.command("make", epilog=example("keys make grafana --role read --expiry 90d"))
def keys_make(  # noqa: PLR0917 - typer passes options by name
    name: NameArgument,
    role: Annotated[list[Role], typer.Option("--role", help="What the token allows; may be repeated.")],
    route: Annotated[
        list[str] | None,
        typer.Option("--route", help="The only route that the token may touch; may be repeated. Without it, all."),
    ] = None,
    expiry: Annotated[
        str | None, typer.Option("--expiry", help="When it ends: 2027-01-31T00:00:00Z, or a period such as 90d.")
    ] = None,
    default_route: Annotated[
        str, typer.Option("--default-route", help="Of a key of a gateway: the route of calls that name none.")
    ] = "",
    usd_per_day: Annotated[float | None, typer.Option(help="Of a key: its US dollars for a day of UTC.")] = None,
    deep_usd_per_day: Annotated[float | None, typer.Option(help="Of a key: those for the deep tier.")] = None,
    path: Annotated[
        list[str] | None, typer.Option("--path", help="Of a key: a further open path, such as /v1/files*; repeatable.")
    ] = None,
    may_turn_off: Annotated[
        bool, typer.Option("--may-turn-off", help="Of a key: calls may ask for the deep tier at once.")
    ] = False,
    ungraded: Annotated[bool, typer.Option("--ungraded", help="Of a key: its answers are not graded.")] = False,
    file: FileOption = None,
    json: Json = False,
) -> None:
    """Make a token, add its hash to the file, and print the token this once."""
    from cheapdeep_ops.access.token_file import with_token
    from cheapdeep_ops.access.token_writer import change
    from cheapdeep_ops.access.tokens import hash_of, new_secret

    secret, known = new_secret(), _path(file)
    token = Token(
        name=name.strip(),
        hash=hash_of(secret),
        roles=frozenset(role),
        routes=None if not route or ALL_ROUTES in route else frozenset(route),
        expires_at=_expires_at(expiry),
        call=CallKey(
            route=default_route,
            usd_per_day=usd_per_day,
            deep_usd_per_day=deep_usd_per_day,
            paths=tuple(path or ()),
            may_turn_off=may_turn_off,
            is_graded=not ungraded,
        ),
    )
    change(known, lambda text: with_token(text, token), creates=True)
    if json:
        output.print_json({**_shown(token), "token": secret, "file": str(known)})
        return
    output.console().print(f"{token.name} is in {known}; keep its token now, it is not shown again:", markup=False)
    output.console().print(secret, markup=False)


@keys_app.command("list", epilog=example("keys list"))
def keys_list(file: FileOption = None, json: Json = False) -> None:
    """Print the tokens of the file without their secrets."""
    from cheapdeep_ops.access.known_tokens import read_tokens

    now = time.time()
    tokens = [{**_shown(token), "expired": token.has_expired(now)} for token in read_tokens(_path(file))]
    if json:
        output.print_json(tokens)
        return
    rows = [
        (
            each["name"],
            ", ".join(each["role"]),
            ", ".join(each["routes"]),
            f"{each['expiry'] or 'never'}{' (expired)' if each['expired'] else ''}",
        )
        for each in tokens
    ]
    output.console().print(output.table("Tokens", ("name", "role", "routes", "expiry"), rows))


@keys_app.command("revoke", epilog=example("keys revoke grafana"))
def keys_revoke(name: NameArgument, file: FileOption = None, json: Json = False) -> None:
    """Remove a token from the file. Running guards refuse it within a second."""
    from cheapdeep_ops.access.token_file import without_token
    from cheapdeep_ops.access.token_writer import change

    path = _path(file)
    change(path, lambda text: without_token(text, name.strip()))
    if json:
        output.print_json({"revoked": name.strip(), "file": str(path)})
    else:
        output.console().print(f"{name.strip()} is revoked", markup=False)


def _path(file: Path | None) -> Path:
    path = file or Settings().api_tokens_file
    if path is None:
        raise SettingsError("set CHEAPDEEP_API_TOKENS_FILE to the path of the file of tokens, or name it with --file")
    return path


def _expires_at(expiry: str | None) -> float | None:
    """The Unix time, in whole seconds, of a moment or a period from now. Raises BadParameter."""
    if expiry is None:
        return None
    try:
        moment = datetime.fromisoformat(expiry)
    except ValueError:
        if expiry[-1:].isalpha():
            return float(int(time.time() + seconds_in(expiry, "--expiry")))
        why = "needs a moment such as 2027-01-31T00:00:00Z, or a period such as 90d"
        raise typer.BadParameter(why, param_hint="--expiry") from None
    if moment.tzinfo is None:
        raise typer.BadParameter("needs an offset, such as the Z of 2027-01-31T00:00:00Z", param_hint="--expiry")
    return float(int(moment.timestamp()))


def _shown(token: Token) -> dict[str, Any]:
    from cheapdeep_ops.access.token_file import expiry_text

    return {
        "name": token.name,
        "role": [role.value for role in Role if role in token.roles],
        "routes": [ALL_ROUTES] if token.routes is None else sorted(token.routes),
        "expiry": None if token.expires_at is None else expiry_text(token.expires_at),
        **(asdict(token.call) if Role.CALL in token.roles else {}),
    }

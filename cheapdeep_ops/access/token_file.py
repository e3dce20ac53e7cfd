"""The file of API tokens: TOML with one table `[[token]]` for each token. Pure functions of its text.

[[token]]
name = "support-team"
role = ["read", "act"]
hash = "sha256:..."
routes = ["support"]            # without it: all routes
expiry = 2027-01-31T00:00:00Z   # without it: never

A token with the role `call` is a key of the gateway. It may have more:

[[token]]
name = "mobile-app"
role = "call"
hash = "sha256:..."
routes = ["chat", "search"]     # the routes that its calls may name; without it: all
route = "chat"                  # the route of calls that name none
usd_per_day = 50                # a budget for all its calls, in US dollars for each day of UTC
deep_usd_per_day = 20           # a budget for what the deep tier costs
paths = ["/v1/files*"]          # further paths that are open to it, which show the files of all keys
may_turn_off = true             # whether `x-cheapdeep-mode: off` is allowed
graded = false                  # whether its answers may be graded; without it: true
"""

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from cheapdeep_ops.access.tokens import CallKey, Role, Token
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.suggestions import did_you_mean, likely_names
from cheapdeep_ops.values import ALL_ROUTES

NEW_FILE: Final = """\
# API tokens of cheapdeep_ops. `cheapdeep-ops keys make` and `keys revoke` change this file, and so may you.
# A running guard or gateway reads it again within a second. It holds hashes, and no secret can be read from it.
"""

_CALL_KEYS: Final = ("route", "usd_per_day", "deep_usd_per_day", "paths", "may_turn_off", "graded")
"""The keys of a token with the role `call` alone."""

_KEYS: Final = ("name", "role", "hash", "routes", "expiry", *_CALL_KEYS)
_TABLE: Final = "token"
_LONGEST_NAME: Final = 100
MOST_USD: Final = 1_000_000
"""The largest budget of a day, in US dollars: a larger one is a slip of the pen."""

_HEADER: Final = re.compile(r"""^[ \t]*\[\[[ \t]*(?:token|"token"|'token')[ \t]*\]\]""", re.MULTILINE)
_HASH: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_AT_LINE: Final = re.compile(r"^(.*) \(at (?:line (\d+), column \d+|end of document)\)$", re.DOTALL)
_NEW_LINE: Final = re.compile(r"^line \d+: ")
_ROLES: Final = ", ".join(Role)
_EXPIRY_FORM: Final = "needs a date and time with an offset and without quotes, such as 2027-01-31T00:00:00Z (RFC 3339)"


class TokenFileError(SettingsError):
    """A file of tokens is malformed; the message names line and key of each fault, and no hash."""


class _FaultError(ValueError):
    """A fault of the value of `key`."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


def parse(text: str) -> tuple[Token, ...]:
    """The tokens of a file, in its order. Raises TokenFileError, which names line and key for each wrong token."""
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise TokenFileError("is nested too deeply") from None
    except ValueError as error:  # also of a date that no calendar has
        problem = _AT_LINE.match(str(error))
        last = _line_at(text, len(text))
        where = f"line {problem[2] or last}: {problem[1]}" if problem else str(error)
        raise TokenFileError(f"is not TOML: {where}") from None
    if faults := [_unknown(key, [_TABLE], _line_of(text, key)) for key in document if key != _TABLE]:
        raise TokenFileError("; ".join(faults))
    tables, spans = document.get(_TABLE, []), _spans(text)
    if not isinstance(tables, list) or len(tables) != len(spans):
        raise TokenFileError(f"each token needs a table of its own, under a line [[{_TABLE}]]")
    return _tokens(text, tables, spans)


def _tokens(text: str, tables: list[dict[str, Any]], spans: list[tuple[int, int]]) -> tuple[Token, ...]:
    tokens: list[Token] = []
    faults: list[str] = []
    lines: dict[tuple[str, str], int] = {}
    first, counted = 1, 0
    for table, (start, end) in zip(tables, spans, strict=True):
        # Counted on from the table before, so that a long file takes linear time.
        first, counted = first + text.count("\n", counted, start), start
        block = text[start:end]
        faults += [_unknown(key, _KEYS, _line_of(block, key, first)) for key in table if key not in _KEYS]
        try:
            token = _token(table)
        except _FaultError as fault:
            faults.append(f"line {_line_of(block, fault.key, first)}: {fault}")
            continue
        for key, value in (("name", token.name), ("hash", token.hash)):
            if (key, value) in lines:
                line = _line_of(block, key, first)
                faults.append(f"line {line}: {key}: the token in line {lines[key, value]} has it already")
            lines.setdefault((key, value), first)
        tokens.append(token)
    if faults:
        raise TokenFileError("; ".join(faults))
    return tuple(tokens)


def _token(table: Mapping[str, Any]) -> Token:
    """The token of a table. Raises _FaultError."""
    roles = _texts(table, "role")
    if wrong := [role for role in roles if role not in list(Role)]:
        raise _FaultError("role", f"{wrong[0]!r} is no role; roles are {_ROLES}")
    token = Token(
        name=_name(table.get("name")),
        hash=_hash(table.get("hash")),
        roles=frozenset(map(Role, roles)),
        routes=_routes(table),
        expires_at=_expires_at(table.get("expiry")),
        call=_call_key(table, roles),
    )
    if token.routes is not None and token.roles == {Role.READ}:
        raise _FaultError("routes", "the role read is for all routes: remove this key")
    if token.call.route and not token.covers(token.call.route):
        raise _FaultError("route", f"{token.call.route!r} is none of the token's routes: add it to `routes`")
    return token


def _call_key(table: Mapping[str, Any], roles: Collection[str]) -> CallKey:
    if Role.CALL not in roles:
        if wrong := [key for key in _CALL_KEYS if key in table]:
            raise _FaultError(wrong[0], "is for tokens with the role call: remove this key, or add that role")
        return CallKey()
    return CallKey(
        route=_texts(table, "route")[0] if "route" in table else "",
        usd_per_day=_usd(table, "usd_per_day"),
        deep_usd_per_day=_usd(table, "deep_usd_per_day"),
        paths=_paths(table),
        may_turn_off=_flag(table, "may_turn_off", default=False),
        is_graded=_flag(table, "graded", default=True),
    )


def _usd(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MOST_USD:
        raise _FaultError(key, f"needs a number of US dollars without quotes, above 0 and at most {MOST_USD:,}")
    return float(value)


def _paths(table: Mapping[str, Any]) -> tuple[str, ...]:
    paths = tuple(_texts(table, "paths")) if "paths" in table else ()
    for path in paths:
        if not path.startswith("/v1/") or "*" in path[:-1]:
            raise _FaultError("paths", f"{path!r} must begin with /v1/ and may have a star at its end only")
    return paths


def _flag(table: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise _FaultError(key, "needs true or false without quotes")
    return value


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise _FaultError("name", f"needs 1 to {_LONGEST_NAME} printable characters in quotes")
    return name.strip()


def _hash(text: object) -> str:
    # A person may have written the secret itself here, so the error does not show the value.
    match = _HASH.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise _FaultError("hash", "needs sha256: and 64 hexadecimal digits, as cheapdeep-ops keys make writes them")
    return match[1].lower()


def _texts(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) and each for each in texts):
        raise _FaultError(key, "needs a text in quotes, or a list of them")
    return texts


def _routes(table: Mapping[str, Any]) -> frozenset[str] | None:
    routes = frozenset(_texts(table, "routes")) if "routes" in table else {ALL_ROUTES}
    return None if ALL_ROUTES in routes else frozenset(routes)


def _expires_at(expiry: object) -> float | None:
    if expiry is None:
        return None
    # TOML has dates without a time and times without an offset too, which mean no moment.
    if not isinstance(expiry, datetime) or expiry.tzinfo is None:
        raise _FaultError("expiry", _EXPIRY_FORM)
    return expiry.timestamp()


def _unknown(key: str, known: Collection[str], line: int) -> str:
    advice = did_you_mean(likely_names(key, known)) or f"known are {', '.join(known)}"
    return f"line {line}: {key!r} is no key of this file; {advice}"


def _spans(text: str) -> list[tuple[int, int]]:
    """Where the table of each token begins and ends."""
    starts = [match.start() for match in _HEADER.finditer(text)]
    return list(pairwise([*starts, len(text)]))


def _line_at(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1


def _line_of(block: str, key: str, first: int = 1) -> int:
    """The line of a key in a block that begins in line `first`; `first` itself if the block lacks the key."""
    found = re.search(rf"""^[ \t]*\[*[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.\]]""", block, re.MULTILINE)
    return first + (_line_at(block, found.start()) - 1 if found else 0)


def with_token(text: str, token: Token) -> str:
    """The text with a token appended; all else stays. Raises TokenFileError if the text or the token is wrong."""
    before = parse(text)
    head = text if not text or text.endswith("\n") else f"{text}\n"
    after = f"{head}\n{_table_of(token)}"
    # Read again, so that no text is written that means something else.
    try:
        tokens = parse(after)
    except TokenFileError as error:
        # The text alone is right, so the fault is in the new lines, whose numbers say nothing.
        raise TokenFileError(_NEW_LINE.sub("the new token: ", str(error), count=1)) from None
    if tokens != (*before, token):
        raise TokenFileError(f"the token {token.name} cannot be added to this file: add it by hand")
    return after


def without_token(text: str, name: str) -> str:
    """The text without the table of one token; all else stays, comments above the table too.

    Raises TokenFileError if the text is wrong or has no such token.
    """
    before = parse(text)
    names = [token.name for token in before]
    if name not in names:
        raise TokenFileError(f"has no token {name!r}; tokens are {', '.join(names) or 'none'}")
    start, end = _spans(text)[names.index(name)]
    block = text[start:end].splitlines(keepends=True)
    # Comments below its last key are about the next token.
    length = max(index for index, line in enumerate(block) if line.strip() and not line.lstrip().startswith("#")) + 1
    kept = "".join(block[length:]).removeprefix("\n")
    after = text[:start] + kept + text[end:]
    if parse(after) != tuple(token for token in before if token.name != name):
        raise TokenFileError(f"the token {name} cannot be removed from this file by a program: remove it by hand")
    return after


def _table_of(token: Token) -> str:
    roles = [_quoted(role) for role in Role if role in token.roles]
    lines = [
        f"[[{_TABLE}]]",
        f"name = {_quoted(token.name)}",
        f"role = {roles[0] if len(roles) == 1 else _list_of(roles)}",
        f'hash = "sha256:{token.hash}"',
    ]
    if token.routes is not None:
        lines.append(f"routes = {_list_of(map(_quoted, sorted(token.routes)))}")
    if token.expires_at is not None:
        lines.append(f"expiry = {expiry_text(token.expires_at)}")
    lines += _call_lines(token.call)
    return "\n".join(lines) + "\n"


def _call_lines(key: CallKey) -> list[str]:
    lines = [f"route = {_quoted(key.route)}"] if key.route else []
    budgets = {"usd_per_day": key.usd_per_day, "deep_usd_per_day": key.deep_usd_per_day}
    lines += [f"{name} = {usd!r}" for name, usd in budgets.items() if usd is not None]
    if key.paths:
        lines.append(f"paths = {_list_of(map(_quoted, key.paths))}")
    if key.may_turn_off:
        lines.append("may_turn_off = true")
    if not key.is_graded:
        lines.append("graded = false")
    return lines


def expiry_text(expires_at: float) -> str:
    """A Unix time as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(expires_at, UTC).isoformat().replace("+00:00", "Z")


def _list_of(items: Any) -> str:
    return f"[{', '.join(items)}]"


def _quoted(text: str) -> str:
    # A JSON string is a TOML string too, but for the delete character, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

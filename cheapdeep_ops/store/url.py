"""Reads CHEAPDEEP_STORE_URL: the path of a SQLite file, or the URL of a PostgreSQL server.

Passwords contain characters that mean something in a URL, and other tools write other schemes. So this module reads
what people paste. No error repeats a part of the text, because that part may be the end of a password.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from cheapdeep_ops.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import URL

_log: Final = logging.getLogger(__name__)
_POSTGRESQL: Final = frozenset({"postgresql", "postgres"})
_HTTP: Final = frozenset({"http", "https"})
_FORM: Final = "the store's URL (CHEAPDEEP_STORE_URL)"
_FORMS: Final = "sqlite:///path or postgresql://user@host/name"

_SQLITE_OPTIONS: Final = frozenset(
    {"cache", "check_same_thread", "detect_types", "immutable", "isolation_level", "mode", "timeout", "uri"}
)

_SERVER: Final = re.compile(r"(?P<hosts>[^/?@]*)(?:/(?P<name>[^/?@]*))?(?:\?(?P<options>\w[^=]*=.*)?)?", re.DOTALL)
"""What follows the user in a PostgreSQL URL. An `@` is possible in options alone."""

_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")
_Host = tuple[str, str]
_SSL_MODES: Final = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
_USER: Final = re.compile(r"(?P<user>[^:/?]*)(?::(?P<password>.*))?", re.DOTALL)

_SECRET_WORDS: Final = ("pass", "pwd", "secret", "token", "key")
"""Words in the names of secret parameters: drivers accept passwords in a URL's query too."""


_KNOWN_OPTIONS: Final = frozenset(
    {
        "application_name", "connect_timeout", "dbname", "host", "password", "port", "sslkey", "sslmode", "sslpassword",
        "target_session_attrs", "user",
    }
)  # fmt: skip
"""Options that are shown beside a secret one."""


class Address(NamedTuple):
    """Where a store is: a SQLite file (`database` is its path), or a PostgreSQL server with its `options`."""

    is_sqlite: bool
    database: str | None
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    options: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"Address({self.shown})"  # a password must not reach a log

    @property
    def url(self) -> "URL":
        """The address as SQLAlchemy's URL."""
        from sqlalchemy import URL  # noqa: PLC0415 - it takes a tenth of a second to load, and a recorder needs none

        # The driver is the one that the extra `postgres` brings.
        driver = "sqlite" if self.is_sqlite else "postgresql+psycopg"
        server = (self.username, self.password, self.host, self.port)
        return URL.create(driver, *server, database=self.database, query=self.options)

    @property
    def shown(self) -> str:
        """The address without its password and without the secrets in its options."""
        return f"sqlite:///{self.database or ''}" if self.is_sqlite else shown(self.url)

    def file_identity(self) -> tuple[int, int] | None:
        """Device and inode of the file at a SQLite store's path; None if there is no file."""
        if not self.is_sqlite or not self.database:
            return None
        try:
            status = os.stat(self.database)  # noqa: PTH116 - the path is a string from the URL
        except OSError:
            return None
        return status.st_dev, status.st_ino


def read_address(text: str, folder: Path) -> Address:
    """The address that `text` means; a relative SQLite path starts at `folder`.

    Raises StoreError if it is malformed.
    """
    # A secret that is mounted as a file often ends with a newline.
    scheme, separator, rest = text.strip().partition("://")
    family = scheme.casefold().partition("+")[0]  # the driver is ours to choose
    if "\0" in unquote(rest):
        raise StoreError(f"{_FORM} has a NUL character")
    if separator and family == "sqlite":
        return _sqlite(rest, folder)
    if separator and family in _POSTGRESQL:
        return _postgresql(rest)
    if separator and family in _HTTP:
        raise StoreError(
            f"{_FORM} is the address of a guard, which only routers and commands that ask a guard can use; this needs "
            f"the store itself: {_FORMS}"
        )
    raise StoreError(f"{_FORM} is not of the form {_FORMS}")


def shown(url: "URL") -> str:
    """`url` without its password, the secrets in its query and its driver; a path is shown as it is."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ''}"
    hidden = {name: "hidden" for name in url.query if any(word in name.casefold() for word in _SECRET_WORDS)}
    # An unescaped & in a secret makes an option of its end.
    unsure = [name for name in url.query if hidden and name not in _KNOWN_OPTIONS]
    shown_url = url.set(drivername="postgresql").update_query_dict(hidden).difference_update_query(unsure)
    return shown_url.render_as_string(hide_password=True)


# SQLite


def _sqlite(rest: str, folder: Path) -> Address:
    if rest and not rest.startswith("/"):
        raise StoreError(f"{_FORM} needs sqlite:/// before a relative path, and sqlite://// before an absolute one")
    _, mark, options = rest.rpartition("?")
    names = {name for name, _ in parse_qsl(options)} if mark else set()
    if names and names <= _SQLITE_OPTIONS:
        raise StoreError(f"{_FORM} has options of SQLite ({', '.join(sorted(names))}), which are not supported")
    written = rest[1:]
    if not written or written == ":memory:":
        return Address(is_sqlite=True, database=written or None)
    return Address(is_sqlite=True, database=str(_absolute(written, folder)))


def _absolute(written: str, folder: Path) -> Path:
    """The path as it is written; percent signs are decoded only if its folder does not exist otherwise."""
    # A script writes paths as they are, and a person may write %20 for a space.
    path, decoded = folder / written, folder / unquote(written)
    if not os.path.isdir(path.parent) and os.path.isdir(decoded.parent):  # noqa: PTH112 - it never raises
        path = decoded
    if Path(written).is_absolute():
        return path
    absolute = path.resolve()
    _warn_once(written, absolute)
    return absolute


@cache
def _warn_once(path: str, absolute: Path) -> None:
    _log.warning(
        "the store's path %s is relative; using %s: set CHEAPDEEP_STORE_URL to one absolute path for routers and guard",
        path,
        absolute,
    )


# PostgreSQL


def _postgresql(rest: str) -> Address:
    readings = list(_readings(rest))
    if len(readings) > 1:
        raise StoreError(f"{_FORM} can be read in two ways: write each @ in the password or in an option as %40")
    if not readings:
        raise StoreError(
            f"{_FORM} is not of the form {_FORMS}: in user and password, write / as %2F, ? as %3F and @ as %40"
        )
    user, hosts, server = readings[0]
    options = _options(server["options"] or "")
    host, port = hosts[0]
    if len(hosts) > 1:
        options |= _several(hosts)
        host = port = ""
    # Of several servers, only the primary can be written to.
    if "," in options.get("host", ""):
        options.setdefault("target_session_attrs", "read-write")
    return Address(
        is_sqlite=False,
        username=_decoded(user["user"]) if user else None,
        password=_decoded(user["password"]) if user else None,
        host=host or None,
        port=int(port) if port else None,
        database=_decoded(server["name"]),
        options=options,
    )


def _readings(rest: str) -> Iterator[tuple[re.Match[str] | None, list[_Host], re.Match[str]]]:
    """All ways to read what follows `postgresql://`: its user, its hosts with their ports, and the rest."""
    # The password may contain an @, so each of them may be the one that ends it.
    starts = [0, *(at.end() for at in re.finditer("@", rest))]
    for start in starts:
        user = _USER.fullmatch(rest[: start - 1]) if start else None
        server = _SERVER.fullmatch(rest, start)
        hosts = _hosts(server["hosts"]) if server else []
        if server and hosts and (user or not start):
            yield user, hosts, server


def _hosts(text: str) -> list[_Host]:
    """Hosts with their ports, which commas separate; empty if one is malformed."""
    found = [_HOST.fullmatch(each) for each in text.split(",")]
    hosts = [(unquote(each["v6"] or each["name"] or ""), each["port"] or "") for each in found if each]
    return hosts if all(found) else []


def _several(hosts: list[_Host]) -> dict[str, str]:
    """The options that name several hosts."""
    return {"host": ",".join(name for name, _ in hosts), "port": ",".join(port for _, port in hosts)}


def _options(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True)
    options = dict(pairs)
    hosts = [value for name, value in pairs if name == "host"]
    if len(hosts) > 1:
        options |= _several(_hosts(",".join(hosts)))
    # Other drivers name it so.
    if "ssl" in options:
        named = options.pop("ssl")
        options["sslmode"] = _SSL_MODES.get(named.casefold(), named)
    return options


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None

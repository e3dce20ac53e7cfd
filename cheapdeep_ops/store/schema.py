"""Bringing the store's schema up to date, once, however many processes start together."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from cheapdeep_ops.errors import SchemaError
from cheapdeep_ops.store.engine import Store, alone

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0006"
"""The newest migration; a test holds it against the folder."""

_FOLDER: Final = Path(__file__).with_name("migrations")


def revision(connection: Connection) -> str | None:
    """The migration that the store is at, or None where it is blank."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def require_schema(store: Store) -> None:
    """Make sure that the store's schema is the one of this code; on SQLite, bring it there.

    Raises SchemaError where it is not, and closes the store: on PostgreSQL a person runs `cheapdeep-ops migrate`, never
    a router.
    """
    with store.reading() as connection:
        found = revision(connection)
    if found == HEAD:
        return
    if not store.is_sqlite:
        store.close()  # routers ask four times a second until somebody migrates, each time with a store of their own
        raise SchemaError(f"the schema of {store.shown_url} is at {found}, this code needs {HEAD}: run cheapdeep-ops "
                          f"migrate")  # fmt: skip
    migrate(store)


def migrate(store: Store) -> str:
    """Bring the schema to the newest migration; returns its name. Safe to run from several processes at once.

    Raises SchemaError where the store was written by a newer version of this package.
    """

    def upgrade(connection: Connection) -> None:
        alone(connection, "schema")
        found = revision(connection)
        if found is not None and found > HEAD:
            raise SchemaError(f"the schema of {store.shown_url} is at {found}, newer than this code's {HEAD}: upgrade "
                              f"cheapdeep_ops")  # fmt: skip
        if found != HEAD:
            _upgrade(connection)

    store.transact(upgrade)
    return HEAD


def _upgrade(connection: Connection) -> None:
    # Imported late: Alembic takes longer to load than all the rest, and a store is migrated once.
    from alembic import command  # noqa: PLC0415

    command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> "Config":
    from alembic.config import Config  # noqa: PLC0415 - see _upgrade

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config

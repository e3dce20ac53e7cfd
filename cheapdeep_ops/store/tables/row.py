"""The base of the tables, and the table with the version of the schema."""

from typing import Final

from sqlalchemy import Column, String, Table
from sqlalchemy.orm import registry
from sqlmodel import SQLModel

from cheapdeep_ops.store.version import VERSION_TABLE


class Row(SQLModel, registry=registry()):
    """The base of all tables; a service's own SQLModel classes are in another registry."""

    # Nothing validates by these classes, so their validators need not be made while a command or a service starts.
    model_config = {"defer_build": True}


METADATA: Final = Row.metadata

VERSION: Final = Table(VERSION_TABLE, METADATA, Column("version", String, primary_key=True))
"""One row: the version of the schema."""


def table_of(model: type[Row]) -> Table:
    """The SQLAlchemy table of a model, for statements without the ORM."""
    return METADATA.tables[str(model.__tablename__)]

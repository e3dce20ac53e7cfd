"""Versions of the schema: made, added to, refused; and beside what other applications have in the same database."""

import hashlib
import multiprocessing
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, inspect, select, text, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import Field, SQLModel

from cheapdeep_ops.errors import SchemaError
from cheapdeep_ops.guard.guard import Guard
from cheapdeep_ops.guard.notify.log import LogSender
from cheapdeep_ops.guard.rules.book import read_rulebook
from cheapdeep_ops.recorder import Recorder
from cheapdeep_ops.settings import Settings
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import SCHEMA, Store
from cheapdeep_ops.store.schema import HEAD, migrate, require_schema, revision
from cheapdeep_ops.store.tables import METADATA, VERSION
from cheapdeep_ops.testing import FrozenClock
from cheapdeep_ops.values import Decision, Hop, Outcome, Tier

NOW = 1_800_000_000.0
DIGESTS = {"8.0": "8460aeb0621a"}
"""What the tables of each version are, in short."""

HOP = Hop(tier=Tier(model="claude-haiku-4-5", index=0, is_deep=False), usage=None, cost_usd=0.0004)
DECISION = Decision(
    call_id="id", route="support", input_class="", tier=0, model="claude-haiku-4-5", confidence=0.9, threshold=0.8,
    policy_version=0, escalated=False, reason=None, bypass_cause=None, base_outcome=Outcome.SHIP, base_reason=None,
    cost_usd=0.0004, triage_cost_usd=0.0004, baseline_cost_usd=0.002, baseline_basis="", started_at=NOW,
    duration_s=0.0, triage_duration_s=0.0, hops=(HOP,),
)  # fmt: skip


def made_up_next():
    """The tables with what a next version might add, and its name."""
    tables = MetaData()
    for table in METADATA.sorted_tables:
        table.to_metadata(tables)
    bucket = tables.tables["bucket"]
    bucket.append_column(Column("languages", Integer, nullable=False, server_default="7"))
    bucket.append_column(Column("note", String))
    Index("ix_bucket_languages", bucket.c.languages)
    Table("made_up", tables, Column("name", String, primary_key=True))
    baseline, added = HEAD.split(".")
    return tables, f"{baseline}.{int(added) + 1}"


@pytest.fixture
def open_store():
    """Opens stores, and closes them."""
    opened = []

    def make(url):
        opened.append(Store(url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def shape(store):
    """Tables, columns and indexes as the database has them, in no order."""
    with store.reading() as connection:
        inspector = inspect(connection)
        schema = None if store.is_sqlite else SCHEMA
        return {
            name: (
                {(each["name"], str(each["type"]), each["nullable"]) for each in inspector.get_columns(name, schema)},
                {(each["name"], tuple(each["column_names"])) for each in inspector.get_indexes(name, schema)},
                tuple(inspector.get_pk_constraint(name, schema)["constrained_columns"]),
            )
            for name in inspector.get_table_names(schema)
        }


def version(store):
    with store.reading() as connection:
        return revision(connection)


def set_version(store, number):
    store.transact(lambda connection: connection.execute(update(VERSION).values(version=number)))


def calls(store):
    with store.reading() as connection:
        return counters.summed(connection, since=0, until=2**40).calls


def recorded(url, count=1):
    """Counts in a process that starts, records and ends."""
    recorder = Recorder(Settings(store_url=url), clock=FrozenClock(NOW), background=False)
    recorder.refresh(NOW)
    for _ in range(count):
        recorder.put(DECISION)
        recorder.drain(NOW)
    recorder.close()


def test_a_blank_store_gets_all_tables_and_the_version(blank_url, open_store):
    store = open_store(blank_url)
    assert version(store) is None
    assert migrate(store) == HEAD == version(store)
    assert shape(store).keys() == METADATA.tables.keys()
    before = shape(store)
    assert migrate(store) == HEAD
    assert shape(store) == before


def test_tables_that_were_changed_have_another_version():
    made = [CreateTable(table) for table in METADATA.sorted_tables]
    made += [
        CreateIndex(index)
        for table in METADATA.sorted_tables
        for index in sorted(table.indexes, key=lambda index: index.name)
    ]
    words = "".join(str(each.compile(dialect=sqlite.dialect())) for each in made)
    digest = hashlib.sha256(words.encode()).hexdigest()[:12]
    assert DIGESTS[HEAD] == digest, "store/tables was changed: see schema.py for the next version, and note its digest"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_store_that_was_added_to_is_like_one_that_was_made_so(engine, request, tmp_path, open_store):
    blank = f"sqlite:///{tmp_path}/new.db" if engine == "sqlite" else request.getfixturevalue("blank_postgresql_url")
    old, new = open_store(request.getfixturevalue(f"{engine}_url")), open_store(blank)
    migrate(old)
    before = shape(old)
    tables, following = made_up_next()
    assert migrate(old, tables=tables, version=following) == following == version(old)
    migrate(new, tables=tables, version=following)
    assert shape(old) == shape(new) != before


@pytest.mark.thorough
def test_an_older_router_goes_on_beside_a_newer_guard_also_after_a_restart(either_url, open_store, monkeypatch):
    running = Recorder(Settings(store_url=either_url), clock=FrozenClock(NOW), background=False)
    running.put(DECISION)
    running.drain(NOW)
    store = open_store(either_url)
    tables, following = made_up_next()
    migrate(store, tables=tables, version=following)
    monkeypatch.setattr("cheapdeep_ops.guard.rules.self_monitoring.reader.HEAD", following)
    running.put(DECISION)
    running.drain(NOW)
    running.close()
    recorded(either_url)
    assert calls(store) == 3
    guard = Guard(
        store,
        settings=Settings(store_url=either_url),
        rulebook=read_rulebook(),
        senders={"log": LogSender()},
        started_at=NOW,
    )
    assert guard.step(NOW + 1)
    guard.close()
    with store.reading() as connection:
        assert connection.execute(select(tables.tables["bucket"].c.languages)).scalars().all() == [7, 7]
    assert migrate(store) == following  # as an older guard, started again
    assert version(store) == following


def test_on_postgresql_a_router_refuses_a_store_that_is_behind(postgresql_url, open_store, monkeypatch):
    store = open_store(postgresql_url)
    _, following = made_up_next()
    monkeypatch.setattr("cheapdeep_ops.store.schema.HEAD", following)
    with pytest.raises(SchemaError, match=f"is at version {HEAD}, this code needs {following}: run cheapdeep-ops"):
        require_schema(store)
    assert version(store) == HEAD


def test_a_blank_sqlite_store_is_made_by_the_first_that_needs_it(sqlite_url, open_store):
    store = open_store(sqlite_url)
    require_schema(store)
    assert version(store) == HEAD


NEXT_BASELINE = f"{int(HEAD.partition('.')[0]) + 1}.0"


@pytest.mark.parametrize("number", ["0.9", "1.0", "2.0", NEXT_BASELINE])
def test_a_store_of_another_baseline_is_refused_and_left_alone(either_url, open_store, number):
    store = open_store(either_url)
    migrate(store)
    set_version(store, number)
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=rf"another development version of cheapdeep_ops \(schema {number}"):
            check(store)
    assert version(store) == number


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_store_of_0_1_is_refused_and_left_alone(blank_url, open_store):
    with closing(sqlite3.connect(blank_url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(
            "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('0006');"
            "CREATE TABLE bucket (calls INTEGER)"
        )
    store = open_store(blank_url)
    for check in (migrate, require_schema):
        with pytest.raises(SchemaError, match=r"of cheapdeep_ops 0\.1, under the names bucket: .*CHEAPDEEP_STORE_URL"):
            check(store)
    assert shape(store).keys() == {"alembic_version", "bucket"}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_another_applications_version_in_the_same_file_is_not_read(blank_url, open_store):
    with closing(sqlite3.connect(blank_url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(
            "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('0006')"
        )
    recorded(blank_url)
    store = open_store(blank_url)
    assert calls(store) == 1
    with store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0006"


OTHERS = (
    "CREATE TABLE alembic_version (version_num text)",
    "INSERT INTO alembic_version VALUES ('0006')",
    "CREATE TABLE invoice (id integer PRIMARY KEY, total text)",
    "CREATE INDEX ix_invoice_total ON invoice (total)",
    "CREATE VIEW latest AS SELECT total FROM invoice",
    "INSERT INTO invoice VALUES (1, 'ten')",
)


def test_all_that_another_application_has_beside_the_store_stays_as_it_was(blank_url, open_store):
    store = open_store(blank_url)

    def others(connection):
        rows = connection.execute(text("SELECT version_num, total FROM alembic_version, latest")).all()
        names = {"alembic_version", "invoice"} & set(inspect(connection).get_table_names())
        return rows, names, inspect(connection).get_indexes("invoice"), inspect(connection).get_view_names()

    with store.engine.begin() as connection:
        for statement in OTHERS:
            connection.execute(text(statement))
        before = others(connection)
    migrate(store)
    tables, following = made_up_next()
    migrate(store, tables=tables, version=following)
    recorded(blank_url)
    with store.reading() as connection:
        assert others(connection) == before
    # The other application drops what it has not made: alembic compares with all tables of the default schema.
    assert store.is_sqlite or not METADATA.tables.keys() & names_in(store, "public")


def names_in(store, schema):
    with store.reading() as connection:
        return set(inspect(connection).get_table_names(schema))


@pytest.mark.parametrize("path", ["nowhere", "other, public", '"$user"', "cheapdeep, public"])
def test_a_search_path_of_the_database_is_of_no_account(postgresql, blank_postgresql_url, open_store, path):
    name = blank_postgresql_url.partition("?")[0].rpartition("/")[2]
    postgresql.execute("CREATE SCHEMA other CREATE TABLE bucket (calls text)", database=name)
    postgresql.execute(f"ALTER DATABASE {name} SET search_path = {path}")
    store = open_store(blank_postgresql_url)
    migrate(store)
    recorded(blank_postgresql_url, 2)
    assert calls(store) == 2
    assert names_in(store, SCHEMA) == METADATA.tables.keys()
    assert names_in(store, "other") == {"bucket"}


def test_a_schema_that_is_there_already_needs_no_right_to_make_one(postgresql, blank_postgresql_url, open_store):
    name = blank_postgresql_url.partition("?")[0].rpartition("/")[2]
    postgresql.execute("CREATE ROLE tenant LOGIN")
    postgresql.execute("CREATE SCHEMA cheapdeep AUTHORIZATION tenant", database=name)
    store = open_store(blank_postgresql_url.replace("postgres@", "tenant@"))
    assert migrate(store) == HEAD
    require_schema(store)


@pytest.mark.parametrize("search_path", ["public", "public,cheapdeep", "nowhere"])
def test_another_applications_tables_on_postgresql_are_neither_read_nor_written(
    blank_postgresql_url, open_store, search_path
):
    other = open_store(blank_postgresql_url)
    with other.engine.begin() as connection:
        for statement in (
            "CREATE TABLE public.alembic_version (version_num text)",
            "INSERT INTO public.alembic_version VALUES ('0006')",
            "CREATE TABLE public.bucket (calls text)",
            "CREATE TABLE public.cheapdeep_version (version text)",
            "INSERT INTO public.cheapdeep_version VALUES ('0.1')",
        ):
            connection.execute(text(statement))
    url = f"{blank_postgresql_url}&options=-csearch_path%3D{search_path}"
    store = open_store(url)
    with pytest.raises(SchemaError, match="has no tables yet, this code needs"):
        require_schema(store)
    migrate(store)
    recorded(url, 2)
    assert calls(store) == 2
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM public.bucket")).scalar() == 0
        assert connection.execute(text("SELECT version FROM public.cheapdeep_version")).scalar() == "0.1"


def test_a_services_own_tables_of_the_same_name_are_another_matter(sqlite_url, open_store):
    class Incident(SQLModel, table=True):
        id: int = Field(primary_key=True)
        severity: str

    class Own(SQLModel, table=True):
        id: int = Field(primary_key=True)

    store = open_store(sqlite_url)
    migrate(store)
    made = shape(store)
    for each in (Incident, Own):
        SQLModel.metadata.remove(each.__table__)
    assert "own" not in made
    assert "severity" not in {name for name, *_ in made["incident"][0]}


def _migrate_once(url, barrier):
    barrier.wait()
    store = Store(url)
    migrate(store)
    store.close()


@pytest.mark.thorough
def test_processes_that_start_together_make_the_tables_once(blank_url):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_migrate_once, args=(blank_url, barrier)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * 4

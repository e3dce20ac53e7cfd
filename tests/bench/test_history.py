"""What history costs, on a small part of the bench; in steps of SQLite's machine, which no busy machine changes."""

from collections import Counter
from random import Random

import pytest
from sqlalchemy import event, func, select

from cheapdeep_ops import Settings
from cheapdeep_ops.guard.retention import Retention
from cheapdeep_ops.store import counters
from cheapdeep_ops.store.engine import Store
from cheapdeep_ops.store.schema import migrate
from cheapdeep_ops.store.tables.call_tables import Bucket, Rollup
from cheapdeep_ops.store.tables.row import table_of

from . import history

pytest.importorskip("nicegui", reason="the console is measured too")
SIZE = history.Size(calls=120_000, days=30.0, routes=8, classes=2, processes=2)
NOW = history.END
BUCKET, ROLLUP = table_of(Bucket), table_of(Rollup)


def filled(path, size):
    settings = Settings(store_url=f"sqlite:///{path}")
    store = Store(settings.store_url)
    history.fill(store, size, NOW)
    return store, settings


def steps_of(store, work):
    """How many thousand steps SQLite's machine takes for `work`."""
    taken = [0]

    def count():
        taken[0] += 1

    def watch(connection, _record, _proxy):
        connection.set_progress_handler(count, 100)

    event.listen(store.engine, "checkout", watch)
    work()
    event.remove(store.engine, "checkout", watch)
    return taken[0]


@pytest.mark.thorough
def test_a_month_costs_what_three_days_cost_and_the_second_month_adds_little(tmp_path):
    month, three_days = filled(tmp_path / "month.db", SIZE), filled(tmp_path / "days.db", SIZE.lasting(3.0))
    parts = [history.parts_of(*each, NOW) for each in (month, three_days)]
    flat = [name for name in parts[0] if "30" not in name]
    assert len(flat) >= 7
    for name in flat:
        for each in parts:
            each[name]()  # the first run fills caches
        many, few = (steps_of(each[0], some[name]) for each, some in zip((month, three_days), parts, strict=True))
        assert few > 0
        assert many <= 1.2 * few + 2, name
    size = history.size_of(month[0])
    later = Store(f"sqlite:///{tmp_path / 'later.db'}")
    assert history.grown(later, SIZE, NOW) <= 1.3 * size  # so few calls make rows of days as large as those of hours
    for store in (month[0], three_days[0], later):
        store.close()


def seconds_of(size, rows):
    """All calls of a size, as recorders write them."""
    random, streams = Random(3), size.streams()
    for at in range(int(NOW - size.days * history.DAY), int(NOW)):
        for _ in range(history.poisson(random, size.rate)):
            process = f"router-{random.randrange(size.processes)}"
            yield (*random.choice(streams), process, at, *rows.of(1))


def widths(store):
    """How many rows there are of each width."""
    with store.reading() as connection:
        counted = connection.execute(select(ROLLUP.c.width_s, func.count()).group_by(ROLLUP.c.width_s))
        return Counter({row[0]: row[1] for row in counted})


@pytest.mark.thorough
def test_folds_make_the_rows_that_the_bench_inserts(tmp_path):
    size = history.Size(calls=20_000, days=2.2, routes=3, classes=2, processes=3)
    inserted, settings = filled(tmp_path / "inserted.db", size)
    store = Store(f"sqlite:///{tmp_path / 'folded.db'}")
    migrate(store)
    rows = history.Rows()
    history.insert(store, "bucket", rows.names, seconds_of(size, rows))
    history.put_processes(store, size, NOW, sealed_before=0)
    with store.reading() as connection:
        before = counters.summed(connection, since=0, until=2**40)
    retention = Retention(store, settings)
    while retention.step(NOW):
        pass
    retention.step(NOW)
    with store.reading() as connection:
        assert counters.summed(connection, since=0, until=2**40) == before
        horizons = {row.width_s: row.since for row in connection.execute(select(history.HORIZON))}
        left = connection.execute(select(func.count(), func.min(BUCKET.c.at))).one()
    assert {width: horizons[width] for width in (1, 60, 3_600)} == history.horizons(size, NOW)
    assert left[1] >= history.open_since(NOW)
    made, found = widths(inserted), widths(store)
    assert made.keys() == found.keys() == {1, 60, 3_600, history.DAY}
    for width in made:
        assert found[width] == pytest.approx(made[width], rel=0.15), width
    for each in (inserted, store):
        each.close()

"""Old grades are deleted, and a SQLite file gives their space back."""

import pytest
from sqlalchemy import select

from cheapdeep_ops.store import anchors, expiry, grades, space
from cheapdeep_ops.store.grades import Baseline, GraderVersion
from cheapdeep_ops.store.tables.grade_tables import AnchorRow, GradeRow, LabelRow
from cheapdeep_ops.store.tables.row import table_of
from tests.stores import migrated

GRADER = GraderVersion(model="m", prompt="p")


@pytest.fixture
def store(sqlite_url):
    store = migrated(sqlite_url)
    yield store
    store.close()


def grade(number, *, route, at, grader=GRADER):
    return {
        "call_id": f"g{number}", "grader_model": grader.model, "grader_prompt": grader.prompt, "verdict": "correct",
        "failure": "", "reason": "", "at": at, "called_at": at, "route": route, "input_class": "", "shipped": True,
        "confidence": 0.9, "policy_version": 0, "inclusion": 0.5, "cost_nusd": 0,
    }  # fmt: skip


def test_old_grades_go_but_not_those_from_which_a_normal_was_or_is_learned(store):
    rows = [
        grade(at, route=route, at=at) for route, begin in (("known", 0), ("new", 100)) for at in range(begin, begin + 9)
    ]
    rows += [grade(300, route="known", at=300), grade(301, route="new", at=301)]
    learned = [Baseline(scope="known", since=-1, rate=0.01, n=5, grades=5, until=4), Baseline(scope="new", since=-1)]

    def fill(connection):
        for each in rows:
            grades.add(connection, each)
        grades.save_baselines(connection, GRADER, learned)
        connection.execute(
            table_of(LabelRow).insert(),
            [{"call_id": f"g{at}", "author": "ann", "verdict": "correct", "at": at} for at in (2, 6)],
        )

    store.transact(fill)
    assert expiry.expire_grades(store, before=200) == 4 + 1
    with store.reading() as connection:
        left = connection.execute(select(table_of(GradeRow).c.called_at)).scalars().all()
        assert connection.execute(select(table_of(LabelRow).c.call_id)).scalars().all() == ["g2"]
    assert sorted(left) == [0, 1, 2, 3, 4, *range(100, 109), 300, 301]


def test_first_grades_of_a_grader_that_was_replaced_go_and_its_normal_stays(store):
    successor = GraderVersion(model="m", prompt="p2")
    rows = [grade(at, route="known", at=at) for at in range(9)]
    rows.append(grade(300, route="known", at=300, grader=successor))
    normal = Baseline(scope="known", since=-1, rate=0.01, n=5, grades=5, until=4)

    def fill(connection):
        for each in rows:
            grades.add(connection, each)
        grades.save_baselines(connection, GRADER, [normal])

    store.transact(fill)
    assert expiry.expire_grades(store, before=200) == 9
    with store.reading() as connection:
        assert grades.baselines(connection, GRADER) == {"known": normal}


def test_the_grade_and_the_label_of_a_kept_answer_stay_as_long_as_its_text(store):
    def fill(connection):
        for number in (1, 2):
            grades.add(connection, grade(number, route="support", at=number))
            label = {"call_id": f"g{number}", "author": "ann", "verdict": "correct", "at": number}
            connection.execute(table_of(LabelRow).insert().values(**label))
        kept = {"call_id": "g1", "at": 1, "kept_at": 2, "turns": [], "answer": "yes"}
        connection.execute(table_of(AnchorRow).insert().values(**kept))

    store.transact(fill)
    assert expiry.expire_grades(store, before=200) == 2
    with store.reading() as connection:
        assert [each.call_id for each in anchors.labelled(connection)] == ["g1"]
    store.transact(lambda connection: anchors.remove(connection, ["g1"]))
    assert expiry.expire_grades(store, before=200) == 2


def test_a_file_gives_the_space_of_deleted_rows_back_in_small_steps(store, tmp_path):
    path = tmp_path / "store.db"

    def fill(connection):
        connection.exec_driver_sql("CREATE TABLE filler (text)")
        connection.exec_driver_sql("INSERT INTO filler VALUES (?)", [("x" * 100_000,) for _ in range(100)])

    def checkpoint():
        with store.reading() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        return path.stat().st_size

    store.transact(fill)
    full = checkpoint()
    store.transact(lambda connection: connection.exec_driver_sql("DELETE FROM filler"))
    space.give_back(store)
    step = full - checkpoint()
    assert 200 * 4_096 < step <= 260 * 4_096  # pages, and a few that only map them
    for _ in range(20):
        space.give_back(store)
    assert checkpoint() < 0.3 * full

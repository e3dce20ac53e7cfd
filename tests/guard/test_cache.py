from cheapdeep_ops.guard.rules.cache import GradeCache
from cheapdeep_ops.store import grades
from cheapdeep_ops.store.grades import GraderVersion

GRADER = GraderVersion(model="claude-opus-4-7", prompt="p1")


def test_grades_are_read_again_only_when_the_route_has_new_ones(monkeypatch):
    reads, counts = [], {"support": 1}

    def newest(_connection, route, _grader, **_limits):
        reads.append(route)
        return [f"grade {counts[route]}"]

    monkeypatch.setattr(grades, "newest", newest)
    monkeypatch.setattr(grades, "counts", lambda _connection: dict(counts))
    cache = GradeCache(GRADER)
    for count in (1, 1, 2, 2):
        counts["support"] = count
        cache.refresh(None)
        assert cache.newest(None, "support", 9) == [f"grade {count}"]
    assert reads == ["support", "support"]

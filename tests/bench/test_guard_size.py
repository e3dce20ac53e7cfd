import sys

import pytest

from . import guard_size


@pytest.mark.thorough
def test_the_bench_measures_every_part(monkeypatch, capsys, tmp_path):
    path = tmp_path / "store.db"
    size = ["--routes", "5", "--grades", "2000", "--buckets", "3000", "--processes", "6", "--store", str(path)]
    monkeypatch.setattr(sys, "argv", ["guard_size.py", *size])
    guard_size.main()
    measured = capsys.readouterr().out
    for part in ("the first ever", "new grades of 20 routes", "after a restart", "metrics page, scrape 5", "--json"):
        assert part in measured
    assert guard_size._ends(path) > 0

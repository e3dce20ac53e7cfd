"""Confidence separates right from wrong, or does not."""

import pytest

from cheapdeep_ops.guard.calibration import separation


def test_ties_count_half() -> None:
    found = separation([(0.9, False), (0.9, True)] * 50)
    assert found is not None
    assert found[0] == pytest.approx(0.5)
    assert found[1] < 0.5 < found[2]


def test_confidence_that_separates_is_seen() -> None:
    assert separation([(0.95, False), (0.85, True)] * 50) == (1, 1, 1)


def test_one_class_alone_says_nothing() -> None:
    assert separation([(0.9, False)]) is None

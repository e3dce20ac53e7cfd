import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.token_limit import TokenLimit, is_surely_longer


def passed(pieces, most):
    limit = TokenLimit(most)
    return "".join(map(limit.feed, pieces)), limit.is_over


@pytest.mark.parametrize(
    ("text", "fewest"),
    [
        ("", 0), (" \n", 0), ("Paris", 1), ("Yes, it is.", 3), ("word " * 40, 40), ("one\ttwo\r\nthree", 3),
        ("東" * 40, 4), ("a" * 32, 1), ("a" * 33, 2), ("Приветствую", 1), ("🙂" * 9, 2), ("ไม่มีช่องว่าง", 2),
    ],
)  # fmt: skip
def test_a_text_is_surely_longer_than_one_token_less(text, fewest):
    assert not is_surely_longer(text, fewest)
    assert not fewest or is_surely_longer(text, fewest - 1)
    assert not is_surely_longer(text, None)


@given(st.lists(st.text(st.sampled_from("ab 東🙂\n\u3000"), max_size=40), max_size=9), st.integers(0, 12))
def test_what_passes_does_not_depend_on_the_pieces(pieces, most):
    text = "".join(pieces)
    shown, is_over = passed(pieces, most)
    assert (shown, is_over) == passed([text], most)
    assert text.startswith(shown)
    assert is_over == is_surely_longer(text, most) == (shown != text)
    assert not is_surely_longer(shown, most)


def test_nothing_passes_behind_the_limit():
    limit = TokenLimit(2)
    assert [limit.feed(piece) for piece in ("one tw", "o", " thr", "ee four")] == ["one tw", "o", " ", ""]

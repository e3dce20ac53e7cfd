"""What the reader of copies does to a text before it looks."""

import unicodedata

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cheapdeep_ops import copies

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)


@steady
@given(st.text())
@example("\ufb01ne \uff5b\uff02\uff41\uff02 \u00bd \uac01 \u0316\u0300")
def test_decomposes_as_unicode_does_but_for_the_order_of_marks(text):
    assert sorted(copies._decomposed(text)) == sorted(unicodedata.normalize("NFKD", text))


def test_sorts_no_long_run_of_marks_which_takes_the_square_of_its_length(monkeypatch):
    lengths, real = [], unicodedata.normalize

    def normalize(form, text):
        lengths.append(len(text))
        return real(form, text)

    monkeypatch.setattr(copies.unicodedata, "normalize", normalize)
    copies.VerdictPattern("confidence", "answer").is_spelled_in(
        "\u0300\u0316" * 1_000 + '{"confidence": 1, "answer": "é"}'
    )
    assert set(lengths) == {1}
    assert len(lengths) < 100


@steady
@given(st.lists(st.sampled_from(['\\"', "\\\\", "\\n", "\\u0041", "\\u00e9", "x"])).map("".join))
def test_reads_short_runs_of_escapes_as_it_reads_long_ones(text):
    read = copies._ESCAPES.sub(lambda found: str(copies.json.loads(f'"{found[0]}"')), text)
    assert copies._unescaped(text) == read

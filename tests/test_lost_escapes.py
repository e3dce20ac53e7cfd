"""Texts of which a level of escaping was lost, beside texts that look alike and were meant so."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.lost_escapes import LostEscapes, has_lost_escape

MEANT = [
    r"$\frac{a}{2}$, $\theta \to \tau$ and $\nabla \cdot \rho$",
    "The first line.\nnabla is a symbol, and\tthe text goes on\r\nright here.",
    "A list:\n\to one\n\to two\n\tan apple\n\ttop\n",
    '\ttext := filepath.Ext(name)\n\top, o := frac(tan)\n\tt.Run("a", nil)\n\tr.to(o)\n',
    "x=$y\ni=$((i+1))\ne=$i",
    "It costs $5\ne poi $6.",
    "Tra $5\ne 6$ in tutto",
    "Costa $ sei per tutti\ne sette$ in tutto",
    "pane e vino  \ne poi\nu svakom slučaju\ni tak dalej\nho visto",
    "a\tau revoir\tbien",
    "$$\nu = x^2\n$$",
    "\\[\ne^{x} = 1\n\\]",
    "$$\\begin{aligned}\nu &= v \\\\\ne &= f\n\\end{aligned}$$",
    "$$\\begin{cases} x & y \\\\\nu & v \\end{cases}$$",
    "\\begin{cases} 1, & \\text{if}\\ x > 0 \\\\ 0 & \\text{else} \\end{cases}",
    "see p.\\ 4 \\ and 5",
    "Option C:\nnew names for it",
    "C:\\temp\\new\nand more",
    "\"Yes.\"\n\"No.\"\n'So.'\n'Then.'",
    'He said:\n"Go", and\n"Stay";\n',
    'x = "a" + \\\n    "b"\nprint("\\n")',
    'y = "a+"\n"b".join(y)',
    "const a = `b\n`;",
    '{\n\t"a": "b",\n\t"c": ["d",\n"e"]\n}',
    '"name": text\nmore',
    "[\n1,\n2\n]",
    "line one\\\nline two",
    "\n",
    "\t",
    "",
]  # fmt: skip

LOST = [
    "$\theta$", "\tau = RC", "$A^\top$", "A^\top B", "$x \to 0$", "x \to \\infty", "\\forall x \to y", "a \times b",
    "\textbf{x}", "$\text{if}$", "\tfrac{1}{2}", "$\tan x$", "\tan \\phi", "\\(\tilde{a}\\)",
    "\nabla f", "a \neq b", "x \ne y", "x \notin A", "$h\nu$", "$\nu$", "$$\nu = 3$$", "$$\nE = h\nu\n$$",
    "\\(x \ni y\\)", "p \not= q", "$\neg p$", "\newcommand{x}", "\noindent So",
    "\rho", "\right)", "\\langle x \rangle", "\renewcommand{x}", "\\left(\frac{a}{b}\right)".replace("\f", "\\f"),
    "\\begin{pmatrix} a & b \\ c & d \\end{pmatrix}", "\\begin{cases} 1 & 2\\3 & 4 \\end{cases}",
    "\\begin{aligned} a &= b \\\nc &= d \\end{aligned}",
    "C:\temp", "D:\new\\x", "C:\\Windows\temp", "\\\\server\notes", "C:\repos",
    "[^\n]+", "[^\t]*", "\r?\n",
    'x.split("\t")', "c = '\n';", 'printf("%d\n", x);', "echo 'a\n'\n", 'puts "a\n"\nend', 'f("\r\n")',
    '{"a": "b\nc"}', '{"a": 1, "path": "x\ty"}', '"text" : "one\ntwo"',
]  # fmt: skip


def passed(pieces):
    reader = LostEscapes()
    return "".join([*map(reader.feed, pieces), reader.end()]), reader.is_found


@pytest.mark.parametrize("text", MEANT)
def test_what_was_meant_passes(text):
    assert not has_lost_escape(text)
    assert passed([text]) == (text, False)


@pytest.mark.parametrize("text", LOST)
def test_what_was_lost_is_found(text):
    assert has_lost_escape(text)
    assert has_lost_escape(f"It is so: {text} and so on.\n")


@pytest.mark.parametrize("text", [*MEANT, *LOST])
def test_what_passes_does_not_depend_on_the_pieces(text):
    whole = passed([text])
    assert passed(list(text)) == whole
    assert all(passed([text[:place], text[place:]]) == whole for place in range(len(text)))


pieces = st.lists(
    st.sampled_from([*MEANT, *LOST, *" $\\\n\t\r\"'{}[^:&", "\\begin{cases}", "u", "heta", "e ", "if not "])
)


@given(pieces, st.randoms(use_true_random=False))
def test_any_text_passes_alike_in_any_pieces_up_to_its_fault(parts, rng):
    text = "".join(parts)
    places = sorted(rng.choices(range(len(text) + 1), k=8))
    shown, is_found = passed([text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)])
    assert (shown, is_found) == passed([text])
    assert text.startswith(shown)
    assert is_found or shown == text


def test_only_what_may_become_a_command_is_held_back():
    reader = LostEscapes()
    assert reader.feed("So it is.\n") == "So it is."
    assert reader.feed("Then") == "\nThen"
    assert reader.feed("\n\the") == "\n"
    assert reader.is_holding
    assert reader.feed("s") == "\thes"


def test_a_long_text_takes_time_that_grows_with_it_alone():
    rng = Random(4)
    text = "".join([rng.choice([*" \n\t\\$ab", "$x \nu", "\\begin{array} a", 'k": "v']) for _ in range(60_000)])
    assert len(passed(list(text))[0]) == len(passed([text])[0])

"""Answers of many kinds, put into a triage reply by a careful and by a careless writer of JSON.

`python tests/bench/answers.py [COUNT] [SEED] [KIND ...]` (200,000 of all kinds, seed 1) prints for each kind how many
answers of a careful writer escalated, and how many of a careless one shipped changed: whole, and as streams that
are cut at many places. With kinds it also prints examples. The texts and both writers are made here and share no code
with the product, so that a fault of its reader cannot hide in them.

A careful writer escapes as the standard allows, in one of many styles. A careless one forgets a level of escaping: at
backslashes, at quotes or at line ends, everywhere, here and there, or in one place.
"""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.verdict import read_verdict

END_TURN = "end_turn"
SHORT = 90
"""Replies up to this length are cut at every place; longer ones at as many places as `CUTS` says."""

CUTS = (1, 4, 16)

# Texts


def _words(text: str) -> list[str]:
    return text.split()


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


WORDS = _words("""
    the answer is that you can open a file and then close it if not sure ask for help because this value or the next one
    may change in time while we wait until it ends so do not worry about what was before but look at how many are left
    right here new top text to tan times node nor no even only other under each item end or e o u i a y an at on into
    note total over result return
""")
FOREIGN = _lines("""
e poi andiamo a casa
o vai o resti
ho visto il mare
e chiaro
u svakom slučaju
i tak dalej
au revoir
an der Ecke
ou bien
on y va
es ist gut
y luego
a veces
na końcu
ni modo
no importa
ne pas fumer
tanto meglio
rien ne va plus
né en hiver
ode an die Freude
""")
EMOJI = _words("👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 🧑🏿‍🚀 1️⃣ 😀 🎉 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✅ 𐍈")
HEBREW = _words("שלום עולם זה הוא מבחן קצר של טקסט מימין לשמאל עם מספרים")
ARABIC = _words("مرحبا بالعالم هذا نص قصير من اليمين إلى اليسار مع أرقام")
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202c\u034f"

GREEK = _words("""
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega
""")
FUNCTIONS = _words("sin cos tan cot log ln exp lim max min sup inf det tanh sinh arg dim gcd")
RELATIONS = _words(r"""
    = < > \neq \ne \leq \geq \le \ge \approx \sim \equiv \in \notin \subset \subseteq \to \rightarrow \Rightarrow
    \mapsto \propto \perp \parallel \nmid \mid \ni \not= \triangleq \leftrightarrow \iff
""")
OPERATORS = _words(r"+ - \cdot \times \pm \cup \cap \otimes \oplus \wedge \vee \setminus \circ \star \div")
ACCENTS = _words("hat tilde bar vec dot ddot overline widehat mathbf mathrm mathcal mathbb text textbf boldsymbol")
CONSTANTS = _words(r"\infty \nabla \partial \hbar \ell \emptyset \forall \exists \neg \top \bot \ldots")
TEXTUAL = _lines(r"""
\textbf{bold}
\textit{x}
\emph{so}
\texttt{a.py}
\noindent
\newline
\newpage
\newcommand{\R}{\mathbb{R}}
\usepackage{amsmath}
\section{One}
\item one
\ref{eq:1}
\label{a}
\tiny
\normalsize
\raggedright
\renewcommand{\a}{b}
\title{A}
\footnote{b}
\underline{u}
\\
5\%
\$5
a\_b
\{x\}
\toprule
\centering
\url{a/b}
""")


def _atom(rng: Random) -> str:
    return rng.choice((
        rng.choice("abcdefhijkmnopqrstuvwxyzABCEFGHLMNPQRSTVXYZ"),
        str(rng.randrange(100)),
        f"\\{rng.choice(GREEK)}",
        rng.choice(CONSTANTS),
        f"{rng.choice('abknux')}_{rng.choice('0123ijkn')}",
        f"\\{rng.choice(GREEK)}_{{{rng.randrange(9)}}}",
    ))  # fmt: skip


def _term(rng: Random, depth: int = 2) -> str:
    if not depth:
        return _atom(rng)
    inner = partial(_term, rng, depth - 1)
    return rng.choice((
        lambda: _atom(rng),
        lambda: _atom(rng),
        lambda: f"\\frac{{{inner()}}}{{{inner()}}}",
        lambda: f"\\tfrac{{{inner()}}}{{2}}",
        lambda: f"\\sqrt{{{inner()}}}",
        lambda: f"{_atom(rng)}^{{{inner()}}}",
        lambda: f"A^\\top {inner()}",
        lambda: f"\\{rng.choice(FUNCTIONS)}({inner()})",
        lambda: f"\\{rng.choice(FUNCTIONS)} {_atom(rng)}",
        lambda: f"\\left({inner()}\\right)",
        lambda: f"\\{rng.choice(ACCENTS)}{{{rng.choice('abxyz')}}}",
        lambda: f"\\sum_{{i=1}}^{{n}} {inner()}",
        lambda: f"\\int_0^{_atom(rng)} {inner()}\\,dx",
        lambda: f"\\langle {inner()}, {inner()} \\rangle",
        lambda: f"\\lVert {inner()} \\rVert",
        lambda: f"{inner()} {rng.choice(OPERATORS)} {inner()}",
    ))()  # fmt: skip


def _formula(rng: Random) -> str:
    return rng.choice((
        lambda: _atom(rng),
        lambda: f"\\{rng.choice(GREEK)}",
        lambda: _term(rng),
        lambda: f"{_term(rng)} {rng.choice(RELATIONS)} {_term(rng)}",
        lambda: f"{_atom(rng)} {rng.choice(RELATIONS)} {_atom(rng)}",
        lambda: f"\\lim_{{x \\to {_atom(rng)}}} {_term(rng)}",
        lambda: _matrix(rng),
    ))()  # fmt: skip


def _matrix(rng: Random) -> str:
    name = rng.choice(("pmatrix", "bmatrix", "cases", "aligned", "vmatrix"))
    end = rng.choice((" \\\\ ", " \\\\\n", "\\\\"))
    rows = end.join([f"{_atom(rng)} & {_atom(rng)}" for _ in range(rng.randrange(2, 4))])
    return f"\\begin{{{name}}} {rows} \\end{{{name}}}"


def _set_in(rng: Random, formula: str) -> str:
    frames = ("${}$", "${}$", "$${}$$", "$$\n{}\n$$", "\\({}\\)", "\\[{}\\]", "\\[\n{}\n\\]", "{}")
    return rng.choice(frames).replace("{}", formula)


def latex(rng: Random) -> str:
    """Prose with formulas, or a piece of a document."""
    parts: list[str] = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.7:
            parts.append(_sentence(rng))
        parts.append(_set_in(rng, _formula(rng)) if rng.random() < 0.85 else rng.choice(TEXTUAL))
    return rng.choice((" ", " ", "\n", "\n\n")).join(parts)


def _sentence(rng: Random) -> str:
    words = " ".join([rng.choice(WORDS) for _ in range(rng.randrange(2, 9))])
    return (words.capitalize() if rng.random() < 0.5 else words) + rng.choice((".", ":", ",", "", "?"))


def prose(rng: Random) -> str:
    """Sentences of several languages, in lines and paragraphs, some with prices."""
    makers = (_sentence, lambda rng: rng.choice(FOREIGN), lambda rng: f"It costs ${rng.randrange(100)}")
    parts = [rng.choice(makers)(rng) for _ in range(rng.randrange(1, 8))]
    return "".join([part + rng.choice((" ", "\n", "\n\n", "  \n", "\n- ")) for part in parts]).strip()


def quotations(rng: Random) -> str:
    """Dialogues with quotes of all kinds."""
    opened, closed = rng.choice(('""', '""', "''", "\u201c\u201d", "\u00ab\u00bb"))
    lines = [f"{opened}{_sentence(rng)}{closed}" for _ in range(rng.randrange(1, 5))]
    called = f"He called it a {opened}{rng.choice(WORDS)}{closed}"
    return rng.choice((" ", "\n", ", she said.\n")).join([called, *lines])


def tables(rng: Random) -> str:
    """Markdown tables, and tables with tabs."""
    cells = (*WORDS, *FOREIGN, "", "$5", "a\\|b", "`x`", "**b**")
    width = rng.randrange(2, 5)
    head, *body = [[rng.choice(cells) for _ in range(width)] for _ in range(rng.randrange(2, 6))]
    if rng.random() < 0.3:
        return "\n".join(["\t".join(row) for row in (head, *body)])
    rule = [rng.choice(("---", ":--", "--:")) for _ in head]
    return "\n".join([f"| {' | '.join(row)} |" for row in (head, rule, *body)])


def emoji(rng: Random) -> str:
    """Prose with emoji, also combined ones."""
    makers = (_sentence, lambda rng: rng.choice(EMOJI), lambda rng: "".join(rng.choices(EMOJI, k=3)))
    return " ".join([rng.choice(makers)(rng) for _ in range(6)])


def right_to_left(rng: Random) -> str:
    """Hebrew and Arabic, mixed with Latin words, numbers and marks of direction."""
    words = (*HEBREW, *ARABIC, "Wi-Fi", "42", "\u200f(1)\u200e")
    return "".join([rng.choice(words) + rng.choice((" ", " ", " ", "\n")) for _ in range(12)]).strip()


def zero_width(rng: Random) -> str:
    """Text with invisible characters anywhere."""
    text = _sentence(rng) + " \u0915\u094d\u200d\u0937 \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(INVISIBLE) + text[place:]
    return text


def crlf(rng: Random) -> str:
    """Prose and code with CRLF at the end of each line."""
    return rng.choice((prose, tables, KINDS["code: python"], KINDS["code: go"]))(rng).replace("\n", "\r\n")


SCALARS = _lines(r"""
null
true
"C:\\temp\\new"
"a\nb"
"say \"hi\""
"\u00e9"
"tab\there"
"1\/2"
"word"
"\\d+"
"é😀"
"{}"
[]
{}
""")
KEYS = _words("id name text e confidence path ok total note")


def json_in_json(rng: Random) -> str:
    """A JSON document, plain, pretty or in a fence."""
    indent = rng.choice(("", "  ", "\t"))
    text = _json_value(rng, 3, "\n" if indent or rng.random() < 0.2 else "", indent)
    return rng.choice((text, text, f"```json\n{text}\n```", f"{_sentence(rng)}\n{text}"))


def _json_value(rng: Random, depth: int, line: str, indent: str) -> str:
    if not depth or rng.random() < 0.3:
        return rng.choice((*SCALARS, str(rng.randrange(10**6))))
    begin, end = (line + indent, line) if line else ("", "")
    values = [_json_value(rng, depth - 1, begin, indent) for _ in range(rng.randrange(1, 4))]
    left, right = "[]"
    if rng.random() < 0.6:
        left, right = "{}"
        keys = rng.sample(KEYS, len(values))
        values = [f'"{key}": {value}' for key, value in zip(keys, values, strict=True)]
    return left + begin + f",{begin or ' '}".join(values) + end + right


FOLDERS = _words("""
    temp new Users name Program test tools notes resources repos data bin src files Windows Desktop readme.txt
""")


def paths(rng: Random) -> str:
    """Windows paths in prose."""
    roots = ("C:\\", "D:\\", "\\\\server\\", "..\\")
    found = [
        rng.choice(roots) + "\\".join(rng.sample(FOLDERS, rng.randrange(1, 4))) for _ in range(rng.randrange(1, 4))
    ]
    return rng.choice((" ", "\n", "\n- ")).join([_sentence(rng), *found])


PATTERNS = _words(r"\d+ \w* \s \b ^ $ [^\n]* \. (a|b) \r?\n \t [A-Z] \/ \\ .*? \u0041 (?:x)")


def regular_expressions(rng: Random) -> str:
    """Regular expressions in prose and code."""
    found = "".join(rng.choices(PATTERNS, k=rng.randrange(2, 7)))
    return rng.choice((f"Use `{found}`.", f're.compile(r"{found}")', f"/{found}/g", f"{_sentence(rng)}\n{found}"))


NAMES = _words("""
    e i o u t m r n x y op ot eq ext tr err tmp out node note frac norm ref mid sim num total ok key
""")
LITERALS = _words(r"hello %d\n \n a\tb \t C:\\temp x:{x} \\d+ a/b \u00e9")
CODE = {
    "bash": _lines(r"""
§1=$§2
echo §s
for §1 in *; do
@cat "$§1" \
@| grep §q
done
§1=$((§1+1))
export §1=§q
[ -z "$§1" ] && exit 1
sed 's/a/b/' $§1
"""),
    "c": _lines(r"""
#include <stdio.h>
int main(void) {
@printf(§s, §1);
@char §2 = '\n';
@return 0;
}
@§1 = §2;
@if (§1 == '\0')
@§1->§2 = §3;
"""),
    "go": _lines(r"""
func §1(§2 int) error {
@§1 := §2.Ext(§3)
@if §1 != nil {
@@return §1
@}
}
@fmt.Printf(§s, §1)
@§1.Run(§s, func(t *T) {
@t.Fatal(§1)
@o.Name = §s
@@ext, op string
@text, to := frac(tan)
"""),
    "java": _lines(r"""
public class A {
@private int §1;
@String §2 = §s;
@@return §1;
}
System.out.println(§s);
@@§1++;
"""),
    "javascript": _lines(r"""
const §1 = (§2) => §3;
console.log(§s);
§1.split(§q)
if (§1) {
@return §2;
}
let §1 = `<b>
`;
§1.replace(/\s+/g, §q)
§1 = {
@§2: §3,
};
"""),
    "php": _lines(r"""
<?php
$§1 = $§2;
echo §s;
function §1($§2) {
@return $§1 . §s;
}
use App\Model\§1;
preg_match('/\d+/', $§1);
"""),
    "python": _lines(r"""
def §1(§2):
@return §2 + §3
§1 = §s
print(§s)
§1 = [
@§2,
]
@§1.join(§s)
§s.join(§1)
for §1 in §2:
@§3 += 1
A doc.
§1 = {
@§s: §2,
}
"""),
    "ruby": _lines(r"""
def §1(§2)
@puts §s
end
§1 = §2.map { |§3| §3 + 1 }
§1 =~ /\A\w+\z/
@§1 if §2
require §q
"""),
    "rust": _lines(r"""
fn §1(§2: &str) -> §3 {
@let mut §1 = §s;
@println!(§s, §1);
@@Some(§2) => §3,
}
@§1.push('\n');
let §1 = r"a\d";
"""),
    "sql": _lines(r"""
SELECT §1, §2
FROM §3
WHERE §1 = §q
ORDER BY §2;
INSERT INTO §1 VALUES (§q, 1);
@AND §2 IS NOT NULL
LIKE '%\_%' ESCAPE '\'
"""),
}
"""Lines of code: `@` is an indent, `§1` to `§3` are names, `§s` and `§q` literals in double and single quotes."""


def _code(language: str, rng: Random) -> str:
    indent = rng.choice({"go": ("\t",), "python": ("    ", "\t")}.get(language, ("    ", "  ", "\t")))
    lines = [rng.choice(CODE[language]) for _ in range(rng.randrange(2, 9))]
    text = "\n".join(lines).replace("@", indent)
    for number, name in enumerate(rng.sample(NAMES, 3), 1):
        text = text.replace(f"§{number}", name)
    for mark, quote in (("§s", '"'), ("§q", "'")):
        while mark in text:
            text = text.replace(mark, quote + rng.choice(LITERALS) + quote, 1)
    fenced = f"```{language}\n{text}\n```"
    return rng.choice((text, fenced, f"{_sentence(rng)}\n\n{fenced}\n{_sentence(rng)}"))


KINDS: dict[str, Callable[[Random], str]] = {
    "latex": latex,
    "prose": prose,
    "quotations": quotations,
    "tables": tables,
    "emoji": emoji,
    "right to left": right_to_left,
    "zero width": zero_width,
    "crlf": crlf,
    "json": json_in_json,
    "paths": paths,
    "regular expressions": regular_expressions,
    **{f"code: {language}": partial(_code, language) for language in CODE},
}

# Writers

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def careful(rng: Random, answer: str) -> str:
    """The answer escaped as RFC 8259 wants it, in one of many styles."""
    numeric, slash, letters = (rng.choice((0.0, 0.0, 0.2, 1.0)) for _ in range(3))
    capital = rng.random() < 0.5
    written = []
    for char in answer:
        plain = {**_SHORT_ESCAPES, "/": "\\/" if rng.random() < slash else "/"}.get(char, char)
        share = 0.1 * numeric if char in _SHORT_ESCAPES else numeric if char > "~" else 0.05 * letters
        written.append(_hexadecimal(char, capital=capital) if rng.random() < share else plain)
    return "".join(written)


def _hexadecimal(char: str, *, capital: bool) -> str:
    code = ord(char)
    units = [code] if code < 0x10000 else [0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF)]
    return "".join("\\u" + (f"{unit:04X}" if capital else f"{unit:04x}") for unit in units)


def careless(rng: Random, answer: str) -> str:
    """The answer with a level of escaping forgotten somewhere, if there is anything to escape."""
    forgotten = set(rng.choice(("\\", "\\", "\\", '"', "\n", '\\"', "\\\n")))
    places = [place for place, char in enumerate(answer) if char in forgotten]
    how = rng.choice(("all", "all", "some", "one"))
    if how == "some":
        places = [place for place in places if rng.random() < 0.5]
    if how == "one":
        places = places and [rng.choice(places)]
    raw = set(places)
    return "".join(char if place in raw else _SHORT_ESCAPES.get(char, char) for place, char in enumerate(answer))


def reply_with(rng: Random, written: str) -> str:
    """A whole reply around what a writer made of the answer."""
    space = rng.choice((" ", " ", "", "\n  "))
    confidence = rng.choice(("0.97", "0.9", "1", "1.0", "9.5e-1"))
    after = space[:1]
    reply = f'{{"confidence":{after}{confidence},{space}"answer":{after}"{written}"}}'
    return f"```json\n{reply}\n```" if rng.random() < 0.1 else reply


# Counts


@dataclass
class Counts:
    """What became of the answers of one kind and one writer."""

    answers: int = 0
    escalated: int = 0
    """Whole: refused. Streamed: refused or cut, at any of the tried cuts."""
    changed: int = 0
    """Shipped without an error, and not what was meant."""
    begun: int = 0
    """Cut, after something that was not meant had gone out."""
    controls: int = 0
    """Shipped with a control character other than tab and the line ends."""
    uneven: int = 0
    """Streamed otherwise at one cut than at another, or otherwise than whole."""
    examples: list[str] = field(default_factory=list)


def measure(
    count: int, seed: int, *, kinds: Sequence[str] = tuple(KINDS), keep: int = 0
) -> dict[tuple[str, str], Counts]:
    """The counts of `count` answers, by writer and kind; `keep` examples of each failure are kept."""
    counts: dict[tuple[str, str], Counts] = {}
    for writer, kind, answer, reply, rng in cases(count, seed, kinds):
        counted = counts.setdefault((writer, kind), Counts())
        before = (counted.escalated, counted.changed)
        _count(counted, answer, reply, rng)
        is_bad = counted.changed > before[1] or (writer == "careful" and counted.escalated > before[0])
        if is_bad and len(counted.examples) < keep:
            counted.examples.append(f"{answer!r} <- {reply!r}")
    return counts


def cases(count: int, seed: int, kinds: Sequence[str]) -> Iterator[tuple[str, str, str, str, Random]]:
    """Writer, kind, answer and reply, half of them of each writer; a careless one makes at least one mistake."""
    rng, made = Random(seed), 0
    for number in itertools.count():
        kind, is_careless = kinds[number // 2 % len(kinds)], number % 2
        answer = KINDS[kind](rng)
        written = careless(rng, answer) if is_careless else careful(rng, answer)
        if answer.strip() in ("", "null") or (is_careless and written == _plainly(answer)):
            continue
        yield ("careless" if is_careless else "careful"), kind, answer, reply_with(rng, written), rng
        made += 1
        if made == count:
            return


def _plainly(answer: str) -> str:
    return "".join(_SHORT_ESCAPES.get(char, char) for char in answer)


def _count(counted: Counts, answer: str, reply: str, rng: Random) -> None:
    verdict = read_verdict(reply, stop_reason=END_TURN)
    streams = [streamed(reply, places) for places in cuts(reply, rng)]
    texts = {verdict.answer or "", *(text for text, _ in streams)}
    counted.answers += 1
    counted.escalated += verdict.problem is not None or not all(is_sound for _, is_sound in streams)
    counted.changed += any(text != answer for text, is_sound in [*streams, (verdict.answer, True)] if is_sound and text)
    counted.begun += not all(is_sound or answer.startswith(text) for text, is_sound in streams)
    counted.controls += any(map(_has_controls, texts))
    counted.uneven += len(set(streams)) > 1


def _has_controls(text: str) -> bool:
    return any((char < " " and char not in "\t\n\r") or "\x7f" <= char <= "\x9f" for char in text)


def cuts(reply: str, rng: Random) -> list[Sequence[int]]:
    """Places at which a stream is cut: each one alone in a short reply, and all at once; some in a long one."""
    if len(reply) <= SHORT:
        return [*([place] for place in range(len(reply) + 1)), range(len(reply))]
    return [sorted(rng.sample(range(len(reply)), number)) for number in CUTS]


def streamed(reply: str, places: Sequence[int]) -> tuple[str, bool]:
    """What a caller gets of a stream that is cut there, and whether it ends without an error and does not escalate."""
    partial_reply = PartialReply(threshold=0.8, base_threshold=0.8)
    pieces = [reply[start:end] for start, end in zip([0, *places], [*places, len(reply)], strict=True)]
    shown = "".join([partial_reply.feed(piece) for piece in pieces])
    verdict = partial_reply.finish(END_TURN)
    if partial_reply.state is Early.SHIP:
        return shown, not partial_reply.is_cut
    return verdict.answer or "", verdict.problem is None


def main() -> None:
    """Print the table."""
    numbers = [int(argument) for argument in sys.argv[1:3]]
    count, seed = numbers[0] if numbers else 200_000, numbers[1] if len(numbers) > 1 else 1
    wanted = sys.argv[3:] or list(KINDS)
    counts = measure(count, seed, kinds=wanted, keep=6 if sys.argv[3:] else 0)
    print("writer    kind                  answers  escalated  changed    begun controls  uneven")
    for (writer, kind), each in sorted(counts.items()):
        parts = [f"{part / each.answers:10.2%}" for part in (each.escalated, each.changed, each.begun)]
        print(f"{writer:9} {kind:20} {each.answers:8,} {' '.join(parts)} {each.controls:8} {each.uneven:7}")
        print("".join(f"    {example}\n" for example in each.examples), end="")
    print(f"in all {sum(each.answers for each in counts.values()):,}")


if __name__ == "__main__":
    main()

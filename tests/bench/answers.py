"""Answers of many kinds, put into a triage reply by a careful and by a careless writer of JSON.

`python tests/bench/answers.py [COUNT] [SEED]` (200,000, 1) prints for each kind of text how many answers a careful writer
lost by escalation, and how many of a careless one shipped changed; whole, and streamed in pieces. The texts and both
writers are made here and share no code with the product, so that a fault of its reader cannot hide in them.

A careful writer escapes as the standard allows, in one of many styles. A careless one forgets a level of escaping: at
backslashes, at quotes or at line ends, everywhere, here and there, or in one place.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.verdict import read_verdict

END_TURN = "end_turn"
SHORT = 90
"""Replies up to this length are cut at every place; longer ones at some places."""

CUTS = 3

# Texts

WORDS = tuple(
    """the answer is that you can open a file and then close it if not sure ask for help because this value or the next
    one may change in time while we wait until it ends so do not worry about what was before but look at how many are
    left right here new top text to tan times node nor no even only other under each item end or e o u i a y an at on
    into note total under over result return""".split()
)
FOREIGN = (
    "e poi andiamo a casa", "o vai o resti", "ho visto il mare", "e chiaro", "u svakom slučaju", "i tak dalej",
    "au revoir", "an der Ecke", "ou bien", "on y va", "es ist gut", "y luego", "a veces", "na końcu", "not wendig",
    "ni modo", "no importa", "ne pas fumer", "tanto meglio", "rien ne va plus", "né en hiver", "ode an die Freude",
)  # fmt: skip
EMOJI = "😀🎉👍🏽👩‍👩‍👧‍👦🇩🇪❤️✅🚀1️⃣🧑🏿‍🚀🏴󠁧󠁢󠁥󠁮󠁧󠁿"
HEBREW = "שלום עולם זה הוא מבחן קצר של טקסט מימין לשמאל עם מספרים".split()
ARABIC = "مرحبا بالعالم هذا نص قصير من اليمين إلى اليسار مع أرقام".split()
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202c\u034f"

GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho varrho sigma "
    "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega"
).split()
FUNCTIONS = "sin cos tan cot log ln exp lim max min sup inf det tanh sinh arg dim gcd".split()
RELATIONS = (
    "= < > \\neq \\ne \\leq \\geq \\le \\ge \\approx \\sim \\equiv \\in \\notin \\subset \\subseteq \\to \\rightarrow "
    "\\Rightarrow \\mapsto \\propto \\perp \\parallel \\nmid \\mid \\ni \\not= \\triangleq \\leftrightarrow \\iff"
).split()
OPERATORS = "+ - \\cdot \\times \\pm \\cup \\cap \\otimes \\oplus \\wedge \\vee \\setminus \\circ \\star \\div".split()
ACCENTS = "hat tilde bar vec dot ddot overline widehat mathbf mathrm mathcal mathbb text textbf boldsymbol".split()
CONSTANTS = "\\infty \\nabla \\partial \\hbar \\ell \\emptyset \\forall \\exists \\neg \\top \\bot \\ldots".split()
TEXTUAL = (
    "\\textbf{bold}", "\\textit{x}", "\\emph{so}", "\\texttt{a.py}", "\\noindent", "\\newline", "\\newpage",
    "\\newcommand{\\R}{\\mathbb{R}}", "\\usepackage{amsmath}", "\\section{One}", "\\item one", "\\ref{eq:1}",
    "\\label{a}", "\\tiny", "\\normalsize", "\\raggedright", "\\renewcommand{\\a}{b}", "\\title{A}", "\\footnote{b}",
    "\\underline{u}", "\\\\", "5\\%", "\\$5", "a\\_b", "\\{x\\}", "\\toprule", "\\centering", "\\url{a/b}",
)  # fmt: skip


def _atom(rng: Random) -> str:
    return rng.choice((
        rng.choice("abcdefhijkmnopqrstuvwxyzABCEFGHLMNPQRSTVXYZ"), str(rng.randrange(100)), f"\\{rng.choice(GREEK)}",
        rng.choice(CONSTANTS), f"{rng.choice('abknux')}_{rng.choice('0123ijkn')}", f"\\{rng.choice(GREEK)}_{{{rng.randrange(9)}}}",
    ))  # fmt: skip


def _term(rng: Random, depth: int = 2) -> str:
    if not depth:
        return _atom(rng)
    inner = partial(_term, rng, depth - 1)
    return rng.choice((
        lambda: _atom(rng), lambda: _atom(rng), lambda: f"\\frac{{{inner()}}}{{{inner()}}}", lambda: f"\\sqrt{{{inner()}}}",
        lambda: f"{_atom(rng)}^{{{inner()}}}", lambda: f"\\{rng.choice(FUNCTIONS)}({inner()})",
        lambda: f"\\{rng.choice(FUNCTIONS)} {_atom(rng)}", lambda: f"\\left({inner()}\\right)",
        lambda: f"\\{rng.choice(ACCENTS)}{{{rng.choice('abxyz')}}}", lambda: f"\\sum_{{i=1}}^{{n}} {inner()}",
        lambda: f"\\int_0^{_atom(rng)} {inner()}\\,dx", lambda: f"\\langle {inner()}, {inner()} \\rangle",
        lambda: f"\\lVert {inner()} \\rVert", lambda: f"{inner()} {rng.choice(OPERATORS)} {inner()}", lambda: f"A^\\top {inner()}",
        lambda: f"\\tfrac{{{inner()}}}{{2}}",
    ))()  # fmt: skip


def _formula(rng: Random) -> str:
    return rng.choice((
        lambda: _atom(rng), lambda: f"\\{rng.choice(GREEK)}", lambda: f"{_term(rng)} {rng.choice(RELATIONS)} {_term(rng)}",
        lambda: f"{_atom(rng)} {rng.choice(RELATIONS)} {_atom(rng)}", lambda: _term(rng),
        lambda: f"\\lim_{{x \\to {_atom(rng)}}} {_term(rng)}", lambda: _matrix(rng),
    ))()  # fmt: skip


def _matrix(rng: Random) -> str:
    name = rng.choice(("pmatrix", "bmatrix", "cases", "aligned", "vmatrix"))
    end = rng.choice((" \\\\ ", " \\\\\n", "\\\\"))
    rows = end.join(f"{_atom(rng)} & {_atom(rng)}" for _ in range(rng.randrange(2, 4)))
    return f"\\begin{{{name}}} {rows} \\end{{{name}}}"


def _set_in(rng: Random, formula: str) -> str:
    return rng.choice((
        f"${formula}$", f"${formula}$", f"$${formula}$$", f"$$\n{formula}\n$$", f"\\({formula}\\)", f"\\[{formula}\\]",
        f"\\[\n{formula}\n\\]", formula,
    ))  # fmt: skip


def latex(rng: Random) -> str:
    """Prose with formulas, or a piece of a document."""
    parts: list[str] = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.7:
            parts.append(_sentence(rng))
        parts.append(_set_in(rng, _formula(rng)) if rng.random() < 0.85 else rng.choice(TEXTUAL))
    return rng.choice((" ", " ", "\n", "\n\n")).join(parts)


def _sentence(rng: Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randrange(2, 9))]
    return rng.choice((str.capitalize, str))(" ".join(words)) + rng.choice((".", ":", ",", "", "?"))


def prose(rng: Random) -> str:
    """Sentences of several languages, in lines and paragraphs, some with prices."""
    parts = [
        rng.choice((lambda: _sentence(rng), lambda: rng.choice(FOREIGN), lambda: f"It costs ${rng.randrange(100)}"))()
        for _ in range(rng.randrange(1, 8))
    ]
    return "".join(part + rng.choice((" ", "\n", "\n\n", "  \n", "\n- ")) for part in parts).strip()


def quotations(rng: Random) -> str:
    """Dialogues with quotes of all kinds."""
    marks = rng.choice(('""', "''", "\u201c\u201d", "\u00ab\u00bb", '""'))
    lines = [f"{marks[0]}{_sentence(rng)}{marks[1]}" for _ in range(rng.randrange(1, 5))]
    return rng.choice((" ", "\n", ", she said.\n")).join([f"He called it a {marks[0]}{rng.choice(WORDS)}{marks[1]}", *lines])


def tables(rng: Random) -> str:
    """Markdown tables, and tables with tabs."""
    width = rng.randrange(2, 5)
    rows = [[rng.choice((*WORDS, *FOREIGN, "", "$5", "a\\|b", "`x`", "**b**")) for _ in range(width)] for _ in range(rng.randrange(2, 6))]
    if rng.random() < 0.3:
        return "\n".join("\t".join(row) for row in rows)
    head, *body = rows
    lines = [head, [rng.choice(("---", ":--", "--:")) for _ in head], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def emoji(rng: Random) -> str:
    """Prose with emoji, also combined ones."""
    whole = ["👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "❤️", "🧑🏿‍🚀", "1️⃣", "😀", "🎉", "𝒳", "𐍈"]
    return " ".join(rng.choice((_sentence(rng), rng.choice(whole), "".join(rng.choices(whole, k=3)))) for _ in range(6))


def right_to_left(rng: Random) -> str:
    """Hebrew and Arabic, mixed with Latin words, numbers and marks of direction."""
    words = [rng.choice((*HEBREW, *ARABIC, *HEBREW, *ARABIC, "Wi-Fi", "42", "\u200f(1)\u200e")) for _ in range(12)]
    return "".join(word + rng.choice((" ", " ", " ", "\n")) for word in words).strip()


def zero_width(rng: Random) -> str:
    """Text with invisible characters anywhere."""
    text = _sentence(rng) + " \u0915\u094d\u200d\u0937 \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(INVISIBLE) + text[place:]
    return text


def windows_lines(rng: Random) -> str:
    """Prose and code with CRLF at the end of each line."""
    return rng.choice((prose, python, go, tables))(rng).replace("\n", "\r\n")


def json_in_json(rng: Random) -> str:
    """A JSON document, plain, pretty or in a fence."""
    indent = rng.choice(("", "  ", "\t"))
    text = _json_value(rng, 3, "\n" if indent or rng.random() < 0.2 else "", indent)
    return rng.choice((text, text, f"```json\n{text}\n```", f"{_sentence(rng)}\n{text}"))


def _json_value(rng: Random, depth: int, line: str, indent: str) -> str:
    if not depth or rng.random() < 0.3:
        return rng.choice((
            "null", "true", str(rng.randrange(10**6)), '"C:\\\\temp\\\\new"', '"a\\nb"', '"say \\"hi\\""', '"\\u00e9"',
            '"tab\\there"', '"1\\/2"', f'"{rng.choice(WORDS)}"', '"\\\\d+"', '"é😀"', '"{}"', "[]", "{}",
        ))  # fmt: skip
    next_line, end = (line + indent, line) if line else ("", "")
    inner = [_json_value(rng, depth - 1, next_line, indent) for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.4:
        return "[" + next_line + f",{next_line or ' '}".join(inner) + end + "]"
    keys = rng.sample(["id", "name", "text", "e", "confidence", "path", "ok", "total", "note"], len(inner))
    return "{" + next_line + f",{next_line or ' '}".join(f'"{key}": {value}' for key, value in zip(keys, inner, strict=True)) + end + "}"


def paths(rng: Random) -> str:
    """Windows paths in prose."""
    names = "temp new Users name Program test tools notes resources repos data bin src files Windows Desktop readme.txt".split()
    found = [
        rng.choice(("C:\\", "D:\\", "\\\\server\\", "..\\")) + "\\".join(rng.sample(names, rng.randrange(1, 4)))
        for _ in range(rng.randrange(1, 4))
    ]
    return rng.choice((" ", "\n", "\n- ")).join([_sentence(rng), *found])


def regular_expressions(rng: Random) -> str:
    """Regular expressions in prose and code."""
    pieces = ("\\d+", "\\w*", "\\s", "\\b", "^", "$", "[^\\n]*", "\\.", "(a|b)", "\\r?\\n", "\\t", "[A-Z]", "\\/", "\\\\", ".*?", "\\u0041", "(?:x)")
    found = "".join(rng.choices(pieces, k=rng.randrange(2, 7)))
    return rng.choice((f"Use `{found}`.", f're.compile(r"{found}")', f"/{found}/g", f"{_sentence(rng)}\n{found}"))


def _names(rng: Random) -> list[str]:
    short = "e i o u t m r n x y op ot eq ext tr err tmp out node note frac norm ref mid sim num total ok key".split()
    return rng.sample(short, 4)


def _literal(rng: Random, quote: str = '"') -> str:
    inner = rng.choice(("hello", "%d\\n", "\\n", "a\\tb", "\\t", "C:\\\\temp", "it's", "x: {x}", "", "\\\\d+", "a/b", "\\u00e9"))
    return quote + (inner if quote != "'" else inner.replace("'", "")) + quote


def _code(rng: Random, lines: Sequence[str], *, indent: str, fence: str) -> str:
    """Some lines of code, whose `@` stands for an indent and `$1` to `$4` for names, `$s` for a literal."""
    names = _names(rng)
    picked = [rng.choice(lines) for _ in range(rng.randrange(2, 9))]
    text = "\n".join(picked).replace("@", indent)
    for number, name in enumerate(names, 1):
        text = text.replace(f"§{number}", name)
    while "§s" in text:
        text = text.replace("§s", _literal(rng), 1)
    while "§q" in text:
        text = text.replace("§q", _literal(rng, "'"), 1)
    return rng.choice((text, f"```{fence}\n{text}\n```", f"{_sentence(rng)}\n\n```{fence}\n{text}\n```\n{_sentence(rng)}"))


_LINES = {
    "python": ("def §1(§2):", "@return §2 + §3", "§1 = §s", "print(§s)", "§1 = [", "@§2,", "]", "if not §1:", "@§1.join(§s)",
               "# a note", "for §1 in §2:", "@§3 += 1", '"""A doc.\n\nMore.\n"""', "§s.join(§1)", "§1 = {", "@§s: §2,", "}"),
    "javascript": ("const §1 = (§2) => §3;", "console.log(§s);", "§1.split(§q)", "if (§1) {", "@return §2;", "}",
                   "let §1 = `a ${§2}\nb`;", "§1.replace(/\\s+/g, §q)", "// note", "export default §1;", "§1 = {", "@§2: §3,", "};"),
    "java": ("public class A {", "@private int §1;", "@String §2 = §s;", "@@return §1;", "}", "System.out.println(§s);", "// x",
             "§1 = §2.get(§3);", "@@§1++;"),
    "c": ("#include <stdio.h>", "int main(void) {", "@printf(§s, §1);", "@char §2 = '\\n';", "@return 0;", "}", "@§1 = §2;",
          "@if (§1 == '\\0')", "#define §1 §2 \\", "@§1->§2 = §3;"),
    "go": ("func §1(§2 int) error {", "@§1 := §2.Ext(§3)", "@if §1 != nil {", "@@return §1", "@}", "}", "@fmt.Printf(§s, §1)",
           "@§1.Run(§s, func(t *T) {", "@§2 = §3", "@t.Fatal(§1)", "@o.Name = §s", "@var (", "@@ext, op string", "@)"),
    "rust": ("fn §1(§2: &str) -> §3 {", "@let mut §1 = §s;", "@println!(§s, §1);", "@match §1 {", "@@Some(§2) => §3,", "@}", "}",
             "@§1.push('\\n');", "let §1 = r\"a\\d\";"),
    "bash": ("§1=$§2", "echo §s", "for §1 in *; do", "@cat \"$§1\" \\", "@| grep §q", "done", "§1=$((§1+1))", "export §1=§q",
             "echo -e §s", "[ -z \"$§1\" ] && exit 1", "sed 's/a/b/' $§1", "# note"),
    "sql": ("SELECT §1, §2", "FROM §3", "WHERE §1 = §q", "ORDER BY §2;", "-- note", "INSERT INTO §1 VALUES (§q, 1);", "@AND §2 IS NOT NULL",
            "GROUP BY §1", "LIKE '%\\_%' ESCAPE '\\'"),
    "php": ("<?php", "$§1 = $§2;", "echo §s;", "function §1($§2) {", "@return $§1 . §s;", "}", "use App\\Model\\§1;", "$§1->§2();",
            "preg_match('/\\d+/', $§1);"),
    "ruby": ("def §1(§2)", "@puts §s", "end", "§1 = §2.map { |§3| §3 + 1 }", "§1 =~ /\\A\\w+\\z/", "@§1 if §2", "require §q", "# note"),
    "latex listing": ("\\begin{lstlisting}", "\\end{lstlisting}", "§1 = §2", "\\item §1", "\\texttt{§1}", "% note"),
}  # fmt: skip


def _language(name: str) -> Callable[[Random], str]:
    indents = {"go": ("\t",), "python": ("    ", "\t"), "sql": ("  ",)}.get(name, ("    ", "  ", "\t"))
    return lambda rng: _code(rng, _LINES[name], indent=rng.choice(indents), fence=name)


python, go = _language("python"), _language("go")
KINDS: dict[str, Callable[[Random], str]] = {
    "latex": latex,
    "prose": prose,
    "quotations": quotations,
    "tables": tables,
    "emoji": emoji,
    "right to left": right_to_left,
    "zero width": zero_width,
    "crlf": windows_lines,
    "json": json_in_json,
    "paths": paths,
    "regular expressions": regular_expressions,
    **{f"code: {name}": _language(name) for name in _LINES},
}

# Writers

Write = Callable[[Random, str], str]
"""From an answer to what stands between the quotes of its JSON string."""

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def careful(rng: Random, answer: str) -> str:
    """The answer escaped as RFC 8259 wants it, in one of many styles."""
    numeric, slash, letters = (rng.choice((0.0, 0.0, 0.2, 1.0)) for _ in range(3))
    capital = rng.random() < 0.5
    written = []
    for char in answer:
        if char in _SHORT_ESCAPES:
            short = rng.random() >= (0.1 if numeric else 0.0)
            written.append(_SHORT_ESCAPES[char] if short else _hexadecimal(char, capital=capital))
        elif char < " " or (char == "\x7f" and rng.random() < 0.5):
            written.append(_hexadecimal(char, capital=capital))
        elif char == "/":
            written.append("\\/" if rng.random() < slash else "/")
        elif char > "~":
            written.append(_hexadecimal(char, capital=capital) if rng.random() < numeric else char)
        else:
            written.append(_hexadecimal(char, capital=capital) if rng.random() < letters * 0.05 else char)
    return "".join(written)


def _hexadecimal(char: str, *, capital: bool) -> str:
    code = ord(char)
    units = [code] if code < 0x10000 else [0xD800 + (code - 0x10000 >> 10), 0xDC00 + (code - 0x10000 & 0x3FF)]
    return "".join("\\u" + (f"{unit:04X}" if capital else f"{unit:04x}") for unit in units)


def careless(rng: Random, answer: str) -> str:
    """The answer with a level of escaping forgotten somewhere, if there is anything to escape."""
    forgotten = set(rng.choice(("\\", "\\", "\\", '"', "\n", "\\\"", "\\\n")))
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
    reply = f'{{{space if len(space) > 1 else ""}"confidence":{space[:1]}{confidence},{space}"answer":{space[:1]}"{written}"}}'
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


def measure(count: int, seed: int, *, kinds: Sequence[str] = tuple(KINDS), keep: int = 0) -> dict[tuple[str, str], Counts]:
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
    rng = Random(seed)
    made = 0
    while made < count:
        kind = kinds[made // 2 % len(kinds)]
        answer = KINDS[kind](rng)
        writer = "careless" if made % 2 else "careful"
        written = careless(rng, answer) if made % 2 else careful(rng, answer)
        if answer.strip() in ("", "null") or (made % 2 and written == _plainly(answer)):
            made += rng.random() < 0.2  # a kind without anything to escape has no careless writer
            continue
        made += 1
        yield writer, kind, answer, reply_with(rng, written), rng


def _plainly(answer: str) -> str:
    return "".join(_SHORT_ESCAPES.get(char, char) for char in answer)


def _count(counted: Counts, answer: str, reply: str, rng: Random) -> None:
    verdict = read_verdict(reply, stop_reason=END_TURN)
    shown = [streamed(reply, places) for places in cuts(reply, rng)]
    counted.answers += 1
    texts = [text for text, is_whole in shown if is_whole] + ([verdict.answer] if verdict.answer is not None else [])
    counted.escalated += verdict.problem is not None or not all(is_whole for _, is_whole in shown)
    counted.changed += any(text != answer for text in texts)
    counted.begun += not all(is_whole or answer.startswith(text) for text, is_whole in shown)
    counted.controls += any(_has_controls(text) for text in [*texts, *(text for text, _ in shown)])
    counted.uneven += len(set(shown)) > 1 or shown[0][1] != (verdict.problem is None)


def _has_controls(text: str) -> bool:
    return any((char < " " and char not in "\t\n\r") or "\x7f" <= char <= "\x9f" for char in text)


def cuts(reply: str, rng: Random) -> list[Sequence[int]]:
    """Places at which a stream is cut: each one alone in a short reply, some in a long one, and all at once."""
    if len(reply) <= SHORT:
        return [*([place] for place in range(len(reply) + 1)), range(len(reply))]
    chosen = [sorted(rng.sample(range(len(reply)), rng.choice((1, 4, 12)))) for _ in range(CUTS)]
    return [*chosen, range(len(reply))] if len(reply) < SHORT * 4 else chosen


def streamed(reply: str, places: Sequence[int]) -> tuple[str, bool]:
    """What a caller gets of a stream that is cut there, and whether that is a whole answer."""
    partial_reply = PartialReply(threshold=0.8, base_threshold=0.8)
    pieces = [reply[start:end] for start, end in zip([0, *places], [*places, len(reply)], strict=True)]
    shown = "".join([partial_reply.feed(piece) for piece in pieces])
    verdict = partial_reply.finish(END_TURN)
    if partial_reply.state is not Early.SHIP:  # judged whole
        return verdict.answer or "", verdict.problem is None
    return shown, verdict.problem is None


def main() -> None:
    """Print the table."""
    numbers = [int(argument) for argument in sys.argv[1:3]]
    count, seed = numbers[0] if numbers else 200_000, numbers[1] if len(numbers) > 1 else 1
    wanted = sys.argv[3:] or list(KINDS)
    counts = measure(count, seed, kinds=wanted, keep=6 if sys.argv[3:] else 0)
    print(f"{'writer':9} {'kind':20} {'answers':>8} {'escalated':>10} {'changed':>8} {'begun':>8} {'controls':>8} {'uneven':>7}")
    for (writer, kind), each in sorted(counts.items()):
        shares = [f"{100 * part / each.answers:.2f}%" for part in (each.escalated, each.changed, each.begun)]
        print(f"{writer:9} {kind:20} {each.answers:8,} {shares[0]:>10} {shares[1]:>8} {shares[2]:>8} {each.controls:8} {each.uneven:7}")
        print("".join(f"    {example}\n" for example in each.examples), end="")
    print(f"in all {sum(each.answers for each in counts.values()):,}")


if __name__ == "__main__":
    main()

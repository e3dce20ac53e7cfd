r"""Detects a missing level of escaping: valid JSON whose string is not the text that the model meant.

A model that writes `\theta` into a JSON string without a second backslash has written a tab and "heta". Most such slips
are no JSON (`\alpha`, `\d`) or give a control character that no prose has (`\frac`, `\beta`). What is left is a tab, a
line feed, a carriage return, or half of a doubled backslash. The escape counts as lost if the text around it completes
a LaTeX command, a Windows path, a literal or a JSON string. Where prose could look alike, more evidence is needed.

Some losses look like what was meant, and ship:

- a line feed or a tab in the middle of a literal of code (`print("a\nb")`),
- `\/` that has lost its backslash, and `\u00e9` that has become its letter,
- half of a doubled backslash outside of a matrix or a table.
"""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
"""The control characters that no answer has, as a part of a character class: all but tab and the line ends."""

_REACH: Final = 400
"""How many characters before a place are looked at."""


class _Needs(Enum):
    """What must stand around the rest of a command, so that it counts as one."""

    NOTHING = auto()
    """The rest is no word of any language."""
    NO_WORD = auto()
    """The rest may be a word; no other word follows it."""
    BRACE = auto()
    """The rest may be a word or a variable; the command has an argument."""
    OPERANDS = auto()
    """The rest may be a word; the command stands between two short operands, or in a formula."""
    FORMULA = auto()
    """The rest is a word; the command stands in a formula."""


def _rests(commands: Mapping[_Needs, str]) -> dict[str, _Needs]:
    """What is left of each command when its first letter has become a control character."""
    return {command[1:]: needs for needs, names in commands.items() for command in names.split()}


_COMMANDS: Final = {
    "\t": _rests({
        _Needs.NOTHING: """
            tableofcontents tabularnewline tanh textasciitilde textbackslash textbf textcolor textdegree textemdash
            textendash textgreater textheight textit textless textmd textmu textnormal textrm textsc textsf textsl
            textstyle textsubscript textsuperscript texttt textup textwidth therefore theta thickapprox thicksim
            thickspace thinspace thispagestyle tikz tikzset tilde times tiny today toprule triangle triangledown
            triangleleft trianglelefteq triangleq triangleright trianglerighteq ttfamily twocolumn twoheadleftarrow
            twoheadrightarrow typeout""",
        _Needs.NO_WORD: "tau",
        _Needs.BRACE: "tag tbinom text textquote tfrac thanks title titleformat",
        _Needs.OPERANDS: "to",
        _Needs.FORMULA: "tan top tr trace tt",
    }),
    "\n": _rests({
        _Needs.NOTHING: """
            nLeftarrow nLeftrightarrow nRightarrow nVdash nabla natural nearrow negmedspace negthickspace negthinspace
            newcommand newcounter newenvironment newgeometry newlength newline newpage newtheorem ngeq ngeqq ngeqslant
            ngtr nleftrightarrow nleq nleqq nleqslant nobreak nobreakdash nobreakspace noindent nolimits nolinebreak
            nonumber nopagebreak normalfont normalsize notag notin notni npreceq nrightarrow nshortmid nsubset nsubseteq
            nsucceq nsupset nsupseteq ntriangleleft ntrianglelefteq ntriangleright ntrianglerighteq numberwithin nvDash
            nvdash nwarrow""",
        _Needs.BRACE: "newglossaryentry nicefrac nocite norm num",
        _Needs.OPERANDS: "ncong ne neq ni nleftarrow nless nmid not nparallel nprec nsim nsucc",
        _Needs.FORMULA: "neg nexists node nu null",
    }),
    "\r": _rests({
        _Needs.NOTHING: """
            raggedleft raggedright raisebox rangle rbrace rbrack rceil refstepcounter relax renewcommand
            renewenvironment resizebox rfloor rgroup rhd rho right rightarrow rightarrowtail rightharpoondown
            rightharpoonup rightleftarrows rightleftharpoons rightrightarrows rightsquigarrow risingdotseq rlap rmfamily
            rmoustache rotatebox rowcolor rrbracket rtimes rvert rVert""",
        _Needs.BRACE: "ref root rule",
        _Needs.FORMULA: "rank rm",
    }),
}  # fmt: skip

_FOLDERS: Final = {
    "\t": frozenset({"arget", "asks", "emp", "emplates", "est", "estdata", "ests", "hemes", "mp", "ools", "raining"}),
    "\n": frozenset({"ame", "ames", "etwork", "ew", "ginx", "ode", "odejs", "otebooks", "otes", "pm", "uget", "vidia"}),
    "\r": frozenset({"aw", "eadme", "ecords", "ecovery", "elease", "epo", "eports", "epos", "esources", "esults",
                     "oaming", "oot", "un", "untime"}),
}  # fmt: skip
"""What is left of names of folders and files that begin with these letters."""

_BEGINNINGS: Final = {
    char: frozenset(rest[:end] for rest in (*_COMMANDS[char], *_FOLDERS[char]) for end in range(len(rest) + 1))
    for char in _COMMANDS
}


def _one_of(char: str) -> str:
    """A pattern for what is left of a name that begins with `char`; grouped by first letter, which is faster."""
    ends: dict[str, list[str]] = {}
    for rest in sorted({*_COMMANDS[char], *_FOLDERS[char]}):
        ends.setdefault(rest[0], []).append(rest[1:])
    return "|".join(f"{first}(?:{'|'.join(others)})" for first, others in ends.items())


_MARK: Final = re.compile(
    rf"""[\\\t\n\r](?:
    (?<=\\)(?:\\|(?=[\s\d]|\Z))
    |(?<!\\)(?=["'?*+|]|[A-Za-z]*\Z)
    |(?<=\t)(?=(?:{_one_of(chr(9))})(?![A-Za-z]))
    |(?<=\n)(?=(?:{_one_of(chr(10))})(?![A-Za-z]))
    |(?<=\r)(?=(?:{_one_of(chr(13))})(?![A-Za-z]))
    |(?<=\[\^[\t\n\r])
    )""",
    re.VERBOSE,
)
"""Where an escape may be lost. One class of characters begins it, because `re` searches for that quickly."""

_JSON_VALUE: Final = re.compile(
    r"""("\w[^"\\\n]{0,60}"[ ]{0,9}:[ ]{0,9}"(?:[^"\\\t\n\r]|\\[^\n]){0,150})[\t\n\r]""", re.VERBOSE
)
"""A string in a JSON document that holds a control character, which JSON does not allow."""

_NEVER_LEFT: Final = re.compile(r"[^\\\t\n\r]*")
"""A text with no character that a lost escape leaves behind."""

_LETTERS: Final = re.compile("[A-Za-z]*")
_AHEAD: Final = 60
"""How many characters after a command's name are looked at."""

_WINDOW: Final = 100
"""More characters than those and the longest name."""


class LostEscapes:
    """Passes a text on as it arrives, up to the first place where an escape was lost.

    What passes does not depend on how the text is cut into pieces.
    """

    def __init__(self) -> None:
        self.is_found = False
        """Whether a lost escape was found; nothing passes from there on."""
        self._before = ""
        self._held = ""

    @property
    def is_holding(self) -> bool:
        """Whether words are held back that may belong to a lost escape."""
        return not self._held.isspace() and bool(self._held)

    def feed(self, text: str) -> str:
        """The text that is known to be as it was meant."""
        if not (self.is_found or self._held) and _NEVER_LEFT.fullmatch(text):
            self._before = (self._before + text)[-_REACH:]
            return text
        return self._passed(text, is_end=False)

    def end(self) -> str:
        """The rest of that text, now that no more is to come."""
        return self._passed("", is_end=True)

    def _passed(self, more: str, *, is_end: bool) -> str:
        if self.is_found:
            return ""
        start, text = len(self._before), self._before + self._held + more
        end = self._end_of_sound(text, start, is_end=is_end)
        self._before, self._held = text[max(end - _REACH, 0) : end], text[end:]
        return text[start:end]

    def _end_of_sound(self, text: str, start: int, *, is_end: bool) -> int:
        """The first place from `start` on where an escape is lost or may be lost; else the end of `text`."""
        value = _JSON_VALUE.search(text)
        limit = len(text) if value is None else value.end(1)
        for mark in _MARK.finditer(text, start, limit + 1):
            at = mark.start()
            before, after = text[max(at - _REACH, 0) : at], text[at + 1 : at + _WINDOW]
            lost = _is_lost(mark[0], before, after, is_end=is_end and at + _WINDOW >= len(text))
            if lost is None or lost:
                self.is_found = bool(lost)
                return at
        self.is_found = value is not None
        return limit


def has_lost_escape(text: str) -> bool:
    """Whether an escape was lost anywhere in a whole text."""
    if _NEVER_LEFT.fullmatch(text):
        return False
    reader = LostEscapes()
    reader.feed(text)
    reader.end()
    return reader.is_found


def _is_lost(char: str, before: str, after: str, *, is_end: bool) -> bool | None:
    """Whether `char`, between `before` and `after`, is what is left of an escape; None if more text must follow."""
    if char.startswith("\\"):
        return char == "\\" and _is_half(before, after, is_end=is_end)
    if before.endswith("[^"):
        return True
    name = _letters_of(after)
    following = after[len(name) :]
    if not following and not is_end and name in _BEGINNINGS[char]:
        return None
    if name:
        return _completes_path(char, before, name) or _completes_command(char, before, name, following, is_end=is_end)
    return _completes_literal(char, before, following, is_end=is_end)


def _letters_of(text: str) -> str:
    match = _LETTERS.match(text)
    return match[0] if match else ""


_PATH: Final = re.compile(r"(?:(?<![A-Za-z])[A-Za-z]:|\\[\w.-]+)(?:\\[\w .-]+)*$")


def _completes_path(char: str, before: str, name: str) -> bool:
    return name in _FOLDERS[char] and _PATH.search(before) is not None


def _completes_command(char: str, before: str, name: str, following: str, *, is_end: bool) -> bool | None:
    needs = _COMMANDS[char].get(name)
    if needs is None or needs is _Needs.NOTHING:
        return needs is not None
    if needs is _Needs.BRACE and following.startswith("{"):
        return True
    if not is_end and len(following) < _AHEAD:
        return None
    if needs is _Needs.NO_WORD and _WORD.match(following) is None:
        return True
    is_operator = needs is _Needs.OPERANDS and _is_between_operands(before, following)
    return is_operator or _is_in_formula(char, before, following[:_AHEAD])


_WORD: Final = re.compile(r" [^\W\d_]{2}")
_OPERAND_BEFORE: Final = re.compile(r"(?:(?<![^\W\d_])[^\W\d_]|[\d)\]}'|$]|\\[A-Za-z]+) $")
_OPERAND_AFTER: Final = re.compile(r" (?:[^\W\d_](?![^\W\d_])|[\d(\[{\\$+-])|[=\\]")


def _is_between_operands(before: str, following: str) -> bool:
    """Whether a number, a bracket or a single letter stands on both sides."""
    return _OPERAND_BEFORE.search(before) is not None and _OPERAND_AFTER.match(following) is not None


_COMMAND: Final = re.compile(r" ?\\[A-Za-z]{2}")
_DELIMITER: Final = re.compile(r"\\\\|\\[()\[\]$]|\$\$?|\n")
_CLOSED: Final = {
    "$": re.compile(r"(?:[^\n]*?[^\s\\$])?\$(?![\w({$])"),
    r"\(": re.compile(r"[^\n]*?\\\)"),
    "$$": re.compile(r".*?\$\$", re.DOTALL),
    r"\[": re.compile(r".*?\\\]", re.DOTALL),
}
"""How a formula goes on to its end; one that is set in a line of text ends on that line."""

_LINE_BREAK: Final = re.compile(r"(?:\\\\|[,;&]|\\begin\{\w+\*?\}(?:\{[^}]*\})?) *$")
"""Where a line of a formula may end."""

_AMOUNT: Final = re.compile(r"[\d.,]+ ?")
_PROSE: Final = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,} +[A-Za-z]{2,}")


def _is_in_formula(char: str, before: str, following: str) -> bool:
    """Whether a formula is open before `char`, and is closed after it."""
    if char != "\n" and (before.endswith(("^", "_", "^{", "_{")) or _COMMAND.match(following)):
        return True
    opened, formula = _open_formula(before)
    if opened is None or _LINE_BREAK.search(before):
        return False
    # A display that is meant to begin with a line feed also ends on a line of its own.
    rest = following if formula.strip() or char != "\n" else following.partition("\n")[0]
    if _CLOSED[opened].match(rest) is None:
        return False
    if _AMOUNT.fullmatch(formula):  # a price in dollars
        return following.startswith(("$", "^", "_", "=", "\\"))
    return _PROSE.search(formula.rpartition("\n")[2]) is None


def _open_formula(text: str) -> tuple[str | None, str]:
    """The delimiter of the formula that is open at the end of `text`, and the formula so far; None if none is open."""
    opened, begin = None, 0
    for match in _DELIMITER.finditer(text):
        mark = match[0]
        is_end = mark in (opened, r"\)", r"\]") or (mark == "\n" and opened in ("$", r"\("))
        if is_end:
            opened = None
        elif opened is None and mark in _CLOSED:
            opened, begin = mark, match.end()
    return opened, text[begin:]


def _completes_literal(char: str, before: str, following: str, *, is_end: bool) -> bool | None:
    """Whether a literal of code or a regular expression has `char` in it, which code would write escaped."""
    if char == "\r" and following.startswith(("?", "*", "+", "|")):
        return True
    quote = following[:1]
    if quote not in ("'", '"'):
        return False
    if len(following) == 1 and not is_end:
        return None
    is_open = before.rpartition("\n")[2].count(quote) % 2 == 1
    is_all = _OPENED.search(before) is not None and before.rstrip("\t\r").endswith(quote)
    return is_open and (is_all or (char == "\n" and following[1:2] in (")", ";", ",", "\n")))


_OPENED: Final = re.compile(r"""[(=+\[{$ ]["'][\t\r]*$""")
"""The quote that begins a literal."""

_ROWS: Final = frozenset({
    "matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "array", "align", "align*",
    "aligned", "alignat", "alignat*", "cases", "dcases", "gather", "gather*", "gathered", "split", "tabular",
    "eqnarray",
})  # fmt: skip
"""Environments with rows."""


def _is_half(before: str, after: str, *, is_end: bool) -> bool | None:
    r"""Whether a single backslash is what is left of `\\`, which ends a row of a matrix or a table."""
    if not after:
        return False if is_end else None
    _, begin, environment = before.rpartition(r"\begin{")
    has_rows = begin and environment.partition("}")[0] in _ROWS and r"\end{" not in environment
    if not has_rows or not (after[0].isspace() or after[0].isdigit()):
        return False
    # Behind these a single backslash is a wide space: `\text{if}\ x`.
    return after[0].isdigit() or not before.rstrip().endswith(("&", ",", ".", "}", ";", ":"))

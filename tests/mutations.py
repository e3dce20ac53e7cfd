"""Do the tests notice a fault? Changes one place of the product at a time, and runs the tests on each change.

    python tests/mutations.py --seed 14 --count 20 [--thorough] [--list]

The places are drawn from the seed alone, before any test runs: a comparison is turned round, a number is doubled, a
truth value is changed, or a statement is dropped. Migrations are left out. Each fault is put into a copy of the
checkout. Tests that name the changed module run first, because they are the quickest to find it. All fast tests follow
where those pass, and with `--thorough` the thorough ones. `--list` only prints the places. A survivor is either a gap
in the tests or a change that has no effect: a person must decide which.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("guard", "router", "store")
KINDS: Final = ("comparison", "constant", "statement")
LONGEST_RUN_S: Final = 1_800
"""A run that takes longer hangs, and has found the fault by that."""

TURNED: Final = {
    ast.Lt: ("<", ">="), ast.LtE: ("<=", ">"), ast.Gt: (">", "<="), ast.GtE: (">=", "<"), ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"), ast.IsNot: (r"is\s+not", "is"), ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}  # fmt: skip
"""Each operator as it is written, and what takes its place."""

DROPPED: Final = (ast.AugAssign, ast.Break, ast.Continue, ast.Delete, ast.Expr, ast.Raise, ast.Return)
"""Statements without which a module can still be loaded. `return` only counts inside of an `if`: see `_Finder`."""

Span = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Fault:
    """One change: what stands at `span` of the file (as `ast` counts lines and bytes) becomes `after`."""

    path: str
    kind: str
    span: Span
    after: str

    def applied(self, source: str) -> str:
        """The file's text with the fault in it."""
        lines = source.encode().splitlines(keepends=True)
        first, begin, last, end = self.span
        head, tail = lines[first - 1][:begin], lines[last - 1][end:]
        return b"".join([*lines[: first - 1], head + self.after.encode() + tail, *lines[last:]]).decode()

    def shown(self, source: str) -> str:
        """The first changed line before and after."""
        number = self.span[0] - 1
        before, after = (text.splitlines()[number].strip() for text in (source, self.applied(source)))
        return f"{self.path}:{number + 1}: {before}  ->  {after}"


class _Finder(ast.NodeVisitor):
    """Collects every fault that can be made of a file, in the order of its lines.

    Left out is what no test should hold on to: docstrings, texts of logs and errors, annotations, decorators.
    """

    def __init__(self, path: str, source: str) -> None:
        self._path, self._lines = path, source.encode().splitlines(keepends=True)
        self._conditions = 0
        self.faults: list[Fault] = []

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            self._turn(left, operator, right)
        self.generic_visit(node)

    def _turn(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> None:
        assert left.end_lineno is not None
        assert left.end_col_offset is not None
        span = (left.end_lineno, left.end_col_offset, right.lineno, right.col_offset)
        written, turned = TURNED[type(operator)]
        after, changes = re.subn(written, turned, self._text(span), count=1)
        if changes:
            self._add("comparison", span, after)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._add("constant", _span(node), str(not node.value))
        elif isinstance(node.value, int | float):
            self._add("constant", _span(node), repr(node.value * 2 or 1))

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self.visit(node.test)
        self._conditions += 1
        for child in (*node.body, *node.orelse):
            self.visit(child)
        self._conditions -= 1

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant) and not _is_logging(node.value):  # a constant is a docstring
            self._drop(node)
            self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if self._conditions:
            self._drop(node)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._drop(node)  # what it says is left alone

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._drop(node)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._conditions = self._conditions, 0
        for child in (*node.args.defaults, *node.args.kw_defaults, *node.body):
            if child is not None:
                self.visit(child)
        self._conditions = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the name that `ast` calls

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for child in node.body:
            self.visit(child)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, DROPPED) and not isinstance(node, ast.Expr | ast.Raise | ast.Return):
            self._drop(node)
        super().generic_visit(node)

    def _drop(self, node: ast.stmt) -> None:
        self._add("statement", _span(node), "pass")

    def _text(self, span: Span) -> str:
        first, begin, last, end = span
        if first == last:
            return self._lines[first - 1][begin:end].decode()
        parts = [self._lines[first - 1][begin:], *self._lines[first : last - 1], self._lines[last - 1][:end]]
        return b"".join(parts).decode()

    def _add(self, kind: str, span: Span, after: str) -> None:
        self.faults.append(Fault(self._path, kind, span, after))


def _span(node: ast.expr | ast.stmt) -> Span:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _is_logging(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("_log.", "warnings."))


def faults_of(path: Path) -> list[Fault]:
    """Every fault that can be made of one file and still compiles."""
    name, source = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    finder = _Finder(name, source)
    finder.visit(ast.parse(source))
    return [fault for fault in finder.faults if _compiles(fault.applied(source))]


def _compiles(source: str) -> bool:
    try:
        compile(source, "fault", "exec")
    except SyntaxError:
        return False
    return True


def drawn(seed: int, count: int) -> list[Fault]:
    """So many faults, of packages and kinds in turn; the same seed draws the same ones of the same checkout."""
    random, found = Random(seed), list[Fault]()
    sites = {
        package: [fault for path in sorted(_modules(package)) for fault in faults_of(path)] for package in PACKAGES
    }
    while len(found) < count:
        package, kind = PACKAGES[len(found) % len(PACKAGES)], random.choice(KINDS)
        fault = random.choice([each for each in sites[package] if each.kind == kind])
        found += [] if fault in found else [fault]
    return found


def _modules(package: str) -> Iterator[Path]:
    return (path for path in (ROOT / "cheapdeep_ops" / package).rglob("*.py") if "migrations" not in path.parts)


def copied(into: Path) -> Path:
    """A copy of the checkout as it is now, beside what its tests look for beside a checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    copy = into / "checkout"
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for command in (["init", "-q"], ["add", "-A"]):  # some tests ask git for the files of the checkout
        subprocess.run(["git", *command], cwd=copy, check=True)
    if (ROOT.parent / "shared").is_dir():
        (into / "shared").symlink_to(ROOT.parent / "shared")
    return copy


def failed(copy: Path, arguments: Sequence[str]) -> str:
    """The first failure of a run of pytest; empty where everything passes."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy)}  # for the processes that tests start, too
    try:
        run = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=LONGEST_RUN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST_RUN_S} s"
    if run.returncode in (0, 5):  # 5: none of the chosen tests is left
        return ""
    said = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
    return said[1] if said else (run.stdout.splitlines() or run.stderr.splitlines() or ["pytest failed"])[-1]


def related(copy: Path, fault: Fault) -> list[str]:
    """The test modules that name the changed module."""
    module = fault.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, name = module.rpartition(".")
    named = re.compile(rf"{re.escape(module)}\b|from {re.escape(package)} import .*\b{re.escape(name)}\b")
    tests = sorted((copy / "tests").rglob("test_*.py"))
    return [str(path.relative_to(copy)) for path in tests if named.search(path.read_text(encoding="utf-8"))]


def found_by(copy: Path, fault: Fault, *, workers: str, thorough: bool) -> tuple[str, str]:
    """Which tests find the fault ("fast", "thorough" or ""), and the first one that fails."""
    path = copy / fault.path
    whole = path.read_text(encoding="utf-8")
    path.write_text(fault.applied(whole), encoding="utf-8")
    all_fast = ["-n", workers]
    first = related(copy, fault)
    try:
        for arguments in ([[*all_fast, *first]] if first else []) + [all_fast]:
            if failure := failed(copy, arguments):
                return "fast", failure
        failure = failed(copy, [*all_fast, "-m", "thorough"]) if thorough else ""
        return ("thorough", failure) if failure else ("", "")
    finally:
        path.write_text(whole, encoding="utf-8")


def main() -> int:
    """Print what became of each fault; the exit status is 2 where the tests fail without any."""
    parser = argparse.ArgumentParser(description="Do the tests notice a fault?")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--workers", default="auto", help="what pytest-xdist is given as -n")
    parser.add_argument("--thorough", action="store_true", help="run the thorough tests on what the fast ones miss")
    parser.add_argument("--list", action="store_true", help="print the places and run nothing")
    options = parser.parse_args()
    faults = drawn(options.seed, options.count)
    shown = [fault.shown((ROOT / fault.path).read_text(encoding="utf-8")) for fault in faults]
    if options.list:
        print(*shown, sep="\n")
        return 0
    tally = {"fast": 0, "thorough": 0, "": 0}
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        if failure := failed(copy, ["-n", options.workers]):
            print(f"the tests fail without any fault: {failure}", file=sys.stderr)
            return 2
        for number, (fault, line) in enumerate(zip(faults, shown, strict=True), 1):
            by, failure = found_by(copy, fault, workers=options.workers, thorough=options.thorough)
            tally[by] += 1
            print(f"{number:3} {by or 'SURVIVED':8} {line}{f'  [{failure}]' if failure else ''}", flush=True)
    found = tally["fast"] + tally["thorough"]
    print(f"{tally['fast']} of {len(faults)} found by the fast tests, {found} by all that ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())

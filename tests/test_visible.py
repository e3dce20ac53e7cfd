"""No text that a caller chose changes a terminal or forges a line of a log."""

import json
import logging

import pytest
from rich.panel import Panel
from rich.text import Text

from cheapdeep_ops.cli import output
from cheapdeep_ops.cli.common import fail

EVIL = "a\x1b[2J\x9b31m\x07\x7f\r\u202eb\u2066"
SEEN = r"a\x1b[2J\x9b31m\x07\x7f\r\u202eb\u2066"


def test_the_terminal_shows_control_characters_and_does_not_obey_them(capsys):
    output.console().print(EVIL, markup=False)
    output.console().print(output.table("t", ("a",), [(EVIL,)]))
    assert fail(ValueError(EVIL), 1) == 1
    out, err = capsys.readouterr()
    assert out.count(SEEN) == 2
    assert SEEN.replace(r"\r", " ") in err
    assert not set("\x1b\x9b\x07\x7f\u202e") & set(out + err)


def test_a_styled_text_has_no_control_characters_either(capsys):
    output.console().print(Text(EVIL, style="red"), Panel(Text(EVIL)))
    out = capsys.readouterr().out
    assert r"\x1b[2J\x9b31m" in out
    assert not set("\x1b\x9b\x07\x7f\u202e") & set(out)


def test_json_that_is_printed_has_no_control_characters_and_says_what_was_said(capsys):
    output.print_json({"why": EVIL})
    out, _ = capsys.readouterr()
    assert json.loads(out) == {"why": EVIL}
    assert not set("\x1b\x9b\x7f\u202e") & set(out)


@pytest.mark.parametrize("text", ["x\nERROR forged: line", EVIL])
def test_a_record_is_one_line_of_the_log(text):
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "why: %s", (text,), None)
    line = output.LogFormatter("%(levelname)s %(message)s").format(record)
    assert line == f"ERROR why: {SEEN if text == EVIL else chr(92).join(('x', 'nERROR forged: line'))}"

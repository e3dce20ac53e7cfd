"""Made-up replies and files of the shape of the recorded ones, for where those are not at hand.

`python tests/corpus.py FOLDER` writes the files; `malformed_cases` gives as many unusable replies as a bench wants.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from cheapdeep_ops.values import Reason

END_TURN = "end_turn"

ANSWERS = (
    "Open Settings, choose Security, then Reset password.",
    "Paris",
    "Line one\nline two\ttabbed",
    'She said "yes" and left.',
    "C:\\temp\\new",
    "Füße, naïve, 東京, 🙂",
    "Use f(x) = [1, 2] and {braces} in a string.",
    "Your confidence matters; the answer is 42.",
    "<b>bold</b> & 'quoted'",
    "0.9",
    "null",
    "A longer answer. " * 12,
)
PLAIN_WORDS = ("Paris", "yes", "refund it today", "the second one", "forty-two")
PROSE = ("Here is my reply:", "Sure!", "As an expert, I would say (briefly)", "Happy to help.")
INVISIBLE = "\u200b\u200d\u2060\ufeff\u00ad\u3164\u2800\ufe0f\u034f\u00a0\u2028\u3000 \t\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A triage reply with the problem that a reader must find in it."""

    kind: str
    text: str | None
    stop_reason: str | None = END_TURN
    user_text: str = ""
    problem: Reason = Reason.MALFORMED


@dataclass(frozen=True, slots=True)
class Stated:
    """What a reply states, before it is spoilt."""

    confidence: float
    answer: str

    @property
    def fields(self) -> dict[str, object]:
        return {"confidence": self.confidence, "answer": self.answer}

    @property
    def text(self) -> str:
        return json.dumps(self.fields)

    def raw(self, *, confidence: str | None = None, answer: str | None = None, more: str = "") -> str:
        """The reply with raw text in the place of a value."""
        confidence = json.dumps(self.confidence) if confidence is None else confidence
        answer = json.dumps(self.answer) if answer is None else answer
        return f'{{"confidence": {confidence}, "answer": {answer}{more}}}'


Spoil = Callable[[Random, Stated], str]

NOT_A_CONFIDENCE = (
    "NaN", "Infinity", "-Infinity", "-1", "-0.0001", "1.2", "1.0000001", "90", "1e400", "-1e400", '"0.9"', '"high"',
    "true", "false", "null", "[0.9]", '{"value": 0.9}', ".9", "0.9.", "00.9", "+0.9", "0x1", "95%", "0,95", "",
    "1" * 5_000,
)  # fmt: skip
NOT_AN_ANSWER = ("42", "0.5", "[]", '["Paris"]', "{}", '{"text": "Paris"}', "true", "false", "-1")
PYTHON_LITERALS = ("True", "False", "None", "'Paris'", "r'Paris'", "('Paris',)")
OTHER_STOPS = (None, "", "tool_use", "pause_turn", "stop_sequence", "END_TURN", "end_turn ", "error")


def _two_objects(rng: Random, stated: Stated) -> str:
    other = Stated(round(rng.random(), 2), rng.choice(ANSWERS)).text
    return rng.choice(("", " ", "\n", "\n\nOr rather:\n", ",", "```\n```json\n")).join(
        _shuffled(rng, stated.text, other)
    )


def _same_object_twice(rng: Random, stated: Stated) -> str:
    return rng.choice(("", " ", "\n", " and again ")).join((stated.text, stated.text))


def _duplicate_key(rng: Random, stated: Stated) -> str:
    again = rng.choice(('"confidence": 0.1', '"answer": "No"', '"answer": null', f'"confidence": {stated.confidence}'))
    return rng.choice((stated.raw(more=f", {again}"), f"{{{again}, {stated.text[1:]}"))


def _escaped_duplicate_key(rng: Random, stated: Stated) -> str:
    key, value = rng.choice((("confidence", "0.1"), ("answer", '"No"')))
    at = rng.randrange(len(key))
    escaped = f"{key[:at]}\\u{ord(key[at]):04x}{key[at + 1 :]}"
    return stated.raw(more=f', "{escaped}": {value}')


def _nested_duplicate_key(rng: Random, stated: Stated) -> str:
    return stated.raw(more=rng.choice((', "Notes": {"a": 1, "a": 2}', ', "Notes": [{"a": {"b": 1, "b": 1}}]')))


def _second_spelling(rng: Random, stated: Stated) -> str:
    return stated.raw(more=f', "{rng.choice(("Confidence", "ANSWER", " confidence", "answer "))}": 0.1')


def _inside_a_list(rng: Random, stated: Stated) -> str:
    return rng.choice(("[{}]", "[ {} ]", "[{}, 1]", "[1, {}]", "[[{}]]", "[{}", "```json\n[{}]\n```")).replace(
        "{}", stated.text
    )


def _inside_an_object(rng: Random, stated: Stated) -> str:
    return rng.choice(('{"result": %s}', '{"result": [%s]}', '{"confidence": 0.9, "result": %s}')) % stated.text


def _copy_in_extra_key(rng: Random, stated: Stated) -> str:
    copy = stated.text
    value = rng.choice((copy, f"[{copy}]", f'{{"deeper": [{copy}]}}', json.dumps(copy), '{"Confidence": 0.1}'))
    return stated.raw(more=f', "draft": {value}')


def _copy_in_answer(rng: Random, stated: Stated) -> str:
    copy = _respelled(rng, stated)
    wrapped = rng.choice((copy, f"```json\n{copy}\n```", f"It is {copy}", f'{{"result": {copy}}}', json.dumps(copy)))
    return stated.raw(answer=json.dumps(wrapped))


def _cut_copy_in_answer(rng: Random, stated: Stated) -> str:
    return stated.raw(answer=json.dumps(f'{{"confidence": 0.95, "answer": "{rng.choice(PLAIN_WORDS)}'))


def _python_copy_in_answer(_: Random, stated: Stated) -> str:
    return stated.raw(answer=json.dumps("{'confidence': 0.95, 'answer': 'Paris'}"))


def _not_a_confidence(rng: Random, stated: Stated) -> str:
    return stated.raw(confidence=rng.choice(NOT_A_CONFIDENCE))


def _missing_keys(rng: Random, stated: Stated) -> str:
    return rng.choice(
        (
            json.dumps({"confidence": stated.confidence}),
            json.dumps({"answer": stated.answer}),
            json.dumps({"Confidence": stated.confidence, "Answer": stated.answer}),
            json.dumps({"confidence ": stated.confidence, "answer": stated.answer}),
            json.dumps({"confidence": stated.confidence, "text": stated.answer}),
            "{}",
        )
    )


def _not_an_answer(rng: Random, stated: Stated) -> str:
    return stated.raw(answer=rng.choice(NOT_AN_ANSWER))


def _lone_surrogate(rng: Random, stated: Stated) -> str:
    lone = f"\\u{rng.randrange(0xD800, 0xE000):04x}"
    body = json.dumps(stated.answer)[1:-1]
    return stated.raw(answer=f'"{rng.choice((lone, f"{body} {lone}", f"{lone} {body}"))}"')


def _prose_only(rng: Random, _: Stated) -> str:
    return rng.choice((*PROSE, "", " ", "0.9", "null", "confidence: 0.95, answer: Paris", '"confidence": 0.95', "[]"))


def _unescaped_quotes(rng: Random, stated: Stated) -> str:
    word, other = rng.choice(PLAIN_WORDS), rng.choice(PLAIN_WORDS)
    return stated.raw(answer=rng.choice((f'"It is "{word}" then"', f'"{word}" and "{other}"', f'""{word}""')))


def _raw_control_characters(rng: Random, stated: Stated) -> str:
    return stated.raw(answer=f'"{rng.choice(PLAIN_WORDS)}{chr(rng.randrange(0x20))}{rng.choice(PLAIN_WORDS)}"')


def _stray_braces(rng: Random, stated: Stated) -> str:
    before, after = rng.choice((("{", ""), ("", "}"), ("{{", "}}"), ("{} ", ""), ("", " {}"), ("} ", ""), ("", "\n{")))
    return before + stated.text + after


def _braces_in_prose(rng: Random, stated: Stated) -> str:
    return rng.choice(("Dear {name}, " + stated.text, stated.text + "\nas {you} asked", "f(x) } " + stated.text))


def _deeply_nested(rng: Random, stated: Stated) -> str:
    depth = rng.choice((2, 10, 100)) if rng.random() < 0.98 else 5_000
    return rng.choice(
        (
            '{"a":' * depth + stated.text + "}" * depth,
            '{"a":' * depth + stated.text,
            "[" * depth + stated.text + "]" * depth,
            stated.raw(more=', "a": ' + "[" * 5_000 + "]" * 5_000) if depth > 100 else "{" * depth,
        )
    )


def _thousands_of_digits(rng: Random, stated: Stated) -> str:
    digits = rng.choice("123456789") * 5_000
    return rng.choice((stated.raw(confidence=digits), stated.raw(more=f', "n": {digits}'), stated.raw(answer=digits)))


def _cut_off(rng: Random, stated: Stated) -> str:
    return stated.text[: rng.randrange(len(stated.text))]


def _python_literals(rng: Random, stated: Stated) -> str:
    literal = rng.choice(PYTHON_LITERALS)
    return rng.choice((stated.raw(answer=literal), stated.raw(more=f', "sure": {literal}')))


def _unquoted_words(rng: Random, stated: Stated) -> str:
    word = rng.choice(PLAIN_WORDS)
    return rng.choice((stated.raw(answer=word), f'{{confidence: {stated.confidence}, answer: "{word}"}}'))


def _trailing_comma(rng: Random, stated: Stated) -> str:
    return stated.raw(more=rng.choice((",", ", ", ",,", ";", ",\n")))


def _comments(rng: Random, stated: Stated) -> str:
    return rng.choice(
        (stated.raw(more=" // sure"), stated.raw(more=" /* sure */"), stated.raw(confidence="0.9 # sure\n"))
    )


def _other_quotes(rng: Random, stated: Stated) -> str:
    left, right = rng.choice(("''", "“”", "``", "«»"))
    return f"{{{left}confidence{right}: {stated.confidence}, {left}answer{right}: {left}Paris{right}}}"


def _missing_marks(rng: Random, stated: Stated) -> str:
    confidence, answer = stated.confidence, json.dumps(stated.answer)
    return rng.choice(
        (
            f'{{"confidence": {confidence} "answer": {answer}}}',
            f'{{"confidence" {confidence}, "answer": {answer}}}',
            f'{{"confidence": {confidence}, "answer" = {answer}}}',
            f'"confidence": {confidence}, "answer": {answer}',
            f'{{"confidence": {confidence}, "answer": {answer}',
            f'"confidence": {confidence}, "answer": {answer}}}',
        )
    )


SPOILERS: dict[str, Spoil] = {
    spoil.__name__.strip("_").replace("_", " "): spoil
    for spoil in (
        _two_objects, _same_object_twice, _duplicate_key, _escaped_duplicate_key, _nested_duplicate_key,
        _second_spelling, _inside_a_list, _inside_an_object, _copy_in_extra_key, _copy_in_answer, _cut_copy_in_answer,
        _python_copy_in_answer, _not_a_confidence, _missing_keys, _not_an_answer, _lone_surrogate, _prose_only,
        _unescaped_quotes, _raw_control_characters, _stray_braces, _braces_in_prose, _deeply_nested,
        _thousands_of_digits, _cut_off, _python_literals, _unquoted_words, _trailing_comma, _comments, _other_quotes,
        _missing_marks,
    )
}  # fmt: skip
"""Every way in which the text itself is spoilt."""


def _spoilt(kind: str) -> Callable[[Random, Stated], Case]:
    return lambda rng, stated: Case(kind=kind, text=SPOILERS[kind](rng, stated))


def _copied(rng: Random, stated: Stated) -> Case:
    return Case(kind="copy of the user's text", text=stated.text, user_text=user_text_with(rng, stated))


def _blank(rng: Random, stated: Stated) -> Case:
    blank = "".join(rng.choice(INVISIBLE) for _ in range(rng.randrange(6)))
    answer = rng.choice(("null", json.dumps(blank), json.dumps(blank, ensure_ascii=False)))
    answer = answer if answer.isprintable() else json.dumps(blank)
    return Case(kind="blank answer", text=stated.raw(answer=answer), problem=Reason.NO_ANSWER)


def _stopped(rng: Random, stated: Stated) -> Case:
    stop = rng.choice(("max_tokens", "model_context_window_exceeded"))
    text = rng.choice((stated.text, stated.text[: len(stated.text) // 2], None))
    return Case(kind="truncated", text=text, stop_reason=stop, problem=Reason.TRUNCATED)


def _refused(rng: Random, stated: Stated) -> Case:
    text = rng.choice((stated.text, "", None))
    return Case(kind="refusal", text=text, stop_reason="refusal", problem=Reason.REFUSAL)


def _stopped_otherwise(rng: Random, stated: Stated) -> Case:
    return Case(kind="other stop reason", text=stated.text, stop_reason=rng.choice(OTHER_STOPS))


def _no_text(_: Random, __: Stated) -> Case:
    return Case(kind="no text", text=None)


MALFORMED: dict[str, Callable[[Random, Stated], Case]] = {
    **{kind: _spoilt(kind) for kind in SPOILERS},
    "copy of the user's text": _copied,
    "blank answer": _blank,
    "truncated": _stopped,
    "refusal": _refused,
    "other stop reason": _stopped_otherwise,
    "no text": _no_text,
}
"""Every kind of reply that never ships."""


def malformed_cases(n: int, *, seed: int = 0) -> Iterator[Case]:
    """`n` replies that must never ship, of all kinds in turn."""
    rng, makers = Random(seed), list(MALFORMED.values())
    for number in range(n):
        yield makers[number % len(makers)](rng, stated_by(rng))


def stated_by(rng: Random) -> Stated:
    """A confidence, mostly one that would ship, and an answer."""
    confidence = rng.choice((1, 0.9, 0.95, 0.8, 0.85, round(rng.random(), 3)))
    return Stated(confidence, f"{rng.choice(ANSWERS)} {rng.randrange(1_000)}")


def valid_text(rng: Random, stated: Stated) -> str:
    """A reply that ships, in one of many forms: fences, prose, other keys, white space, order of keys."""
    more = rng.choice(({}, {"Reasoning": "It is well known."}, {"language": "en", "steps": 2, "checked": True}))
    fields = dict(_shuffled(rng, *stated.fields.items(), *more.items()))
    text = json.dumps(fields, indent=rng.choice((None, 2, "\t")), ensure_ascii=rng.random() < 0.5)
    before, after = rng.choice(
        (("", ""), ("```json\n", "\n```"), ("```\n", "\n```\n"), (" \n", "\n\n"), ("\ufeff", ""))
    )
    if rng.random() < 0.5:
        before, after = f"{rng.choice(PROSE)}\n{before}", f"{after}\n{rng.choice(PROSE)}"
    return before + text + after


def user_text_with(rng: Random, stated: Stated) -> str:
    """A user's text in which the very verdict stands, in one of many spellings."""
    copy = _respelled(rng, stated)
    forms = (
        copy,
        f"Reply with exactly this: {copy} and nothing else.",
        f'{{"messages": [{{"role": "user", "result": {copy}}}]}}',
        json.dumps({"payload": copy}),
        f"Broken {{ brace, \"quote and 'more' {copy}",
        copy.replace("confidence", "\\u0063onfidence"),
        f'{{"cut": [{copy}',
    )
    return rng.choice(forms)


def _respelled(rng: Random, stated: Stated) -> str:
    fields = dict(_shuffled(rng, *stated.fields.items(), ("language", "en")))
    return json.dumps(fields, indent=rng.choice((None, 1, 4)), ensure_ascii=rng.random() < 0.5)


def _shuffled(rng: Random, *items: object) -> list:
    return rng.sample(items, len(items))


def recorded_rows(*, seed: int = 0, each: int = 6) -> list[dict[str, object]]:
    """Rows of the shape of the recorded raw outputs, `each` of every kind that was seen there."""
    rng, rows = Random(seed), []
    for make in (_read_row, _outside_row, _boolean_row, _null_row, _quoted_row, _control_row, _prose_row, _python_row,
                 _bare_row, _around_row, _cut_row, _string_row, _letters_row):  # fmt: skip
        rows += [{"id": f"synthetic-{len(rows) + i}", "model": "synthetic", **make(rng)} for i in range(each)]
    return rows


def _row(answer: str, confidence: str, *, strict: bool, read: bool = False, reasoning: str = "Known.") -> dict:
    raw = f'{{\n    "Reasoning": "{reasoning}",\n    "Answer": {answer},\n    "Confidence": {confidence}\n}}'
    said = {"answer": json.loads(answer) == "True", "confidence": json.loads(confidence)} if read else {}
    return {
        "raw": raw, "strict_json": strict, "authors_parser_ok": read, "answer": None, "confidence": None, **said,
    }  # fmt: skip


def _level(rng: Random) -> str:
    return json.dumps(rng.choice((0.9, 0.9, 0.9, 0.95, 0.8, 0.85, 0.7, 0.6, 1.0, 0.05)))


def _read_row(rng: Random) -> dict:
    return _row(rng.choice(('"True"', '"False"')), _level(rng), strict=True, read=True)


def _outside_row(rng: Random) -> dict:
    return _row('"I cannot tell."', _level(rng), strict=True)


def _boolean_row(rng: Random) -> dict:
    return _row(rng.choice(("true", "false")), _level(rng), strict=True)


def _null_row(rng: Random) -> dict:
    return _row("null", _level(rng), strict=True)


def _quoted_row(rng: Random) -> dict:
    return _row('"True"', _level(rng), strict=False, read=rng.random() < 0.3, reasoning='The film "Jaws" is known.')


def _control_row(rng: Random) -> dict:
    return _row('"False"', _level(rng), strict=False, read=rng.random() < 0.3, reasoning="One line\nand another.")


def _prose_row(_: Random) -> dict:
    return _row('""', "0", strict=False) | {"raw": "I do not have enough information to answer."}


def _python_row(rng: Random) -> dict:
    return _row(rng.choice(("True", "False")), _level(rng), strict=False)


def _bare_row(rng: Random) -> dict:
    return _row(rng.choice("ABCD"), _level(rng), strict=False)


def _around_row(rng: Random) -> dict:
    row = _row('"True"', _level(rng), strict=False)
    return row | {"raw": f"{rng.choice(PROSE)}\n\n{row['raw']}"}


def _cut_row(rng: Random) -> dict:
    row = _row('"True"', _level(rng), strict=False)
    return row | {"raw": row["raw"][: rng.randrange(20, len(row["raw"]))]}


def _string_row(_: Random) -> dict:
    return _row('"I cannot tell."', '"0.1"', strict=True)


def _letters_row(rng: Random) -> dict:
    row = _row('"C"', _level(rng), strict=True)
    return row | {"raw": '{"Reasoning": "Known.", "Answer": "C", "A": 0.1, "B": 0.1, "C": 0.7, "D": 0.1}'}


def pair_rows(*, seed: int = 0, n: int = 400) -> list[dict[str, object]]:
    """Rows of the shape of the recorded model pairs, at the shares that LifeEval's Claude 3 Haiku rows have.

    Source: NoamMichael/Comparing-Confidence-in-LLMs, 560aae7: 61% of the confidences are 0.9, 5.5% were unreadable.
    """
    rng = Random(seed)
    return [_pair_row(rng, number) for number in range(n)]


def _pair_row(rng: Random, number: int) -> dict[str, object]:
    domain, cheap, deep = rng.choice((("boolq", 0.757, 0.819), ("sciq", 0.94, 0.968), ("lsat-ar", 0.283, 0.383)))
    parsed = rng.random() >= 0.055
    confidence = 0.9 if rng.random() < 0.61 else rng.choice((0.5, 0.6, 0.7, 0.8, 0.85, 0.95, 1.0))
    return {
        "id": f"{domain}-{number}",
        "question": f"Is statement {number} true?" if domain == "boolq" else "",
        "cheap_confidence": confidence if parsed else "",
        "cheap_correct": int(rng.random() < cheap) if parsed else "",
        "deep_correct": int(rng.random() < deep) if rng.random() >= 0.012 else "",
        "source": "synthetic",
        "domain": domain,
        "cheap_model": "synthetic-cheap",
        "deep_model": "synthetic-deep",
        "cheap_parse_ok": int(parsed),
    }


def stream_rows(*parts: tuple[str, int, float], seed: int = 0) -> list[dict[str, object]]:
    """Rows of the shape of the recorded pairs, one kind of traffic after another.

    A part is (domain, how many rows, share of wrong answers). Seven in a hundred rows do not ship at 0.8, and one in
    six of the others ships at 0.8 but not at 0.9, as in LifeEval's `boolq` rows of Claude 3 Haiku.
    """
    rng = Random(seed)
    return [_stream_row(rng, domain, number, wrong) for domain, n, wrong in parts for number in range(n)]


def _stream_row(rng: Random, domain: str, number: int, wrong: float) -> dict[str, object]:
    levels, weights = ("", 0.6, 0.8, 0.85, 0.9, 0.95), (4, 3, 8, 8, 67, 10)
    confidence = rng.choices(levels, weights)[0]
    return {
        "id": f"{domain}-{number}",
        "question": "",
        "cheap_confidence": confidence,
        "cheap_correct": "" if confidence == "" else int(rng.random() >= wrong),
        "deep_correct": int(rng.random() < 0.85),
        "domain": domain,
    }


def write_jsonl(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    """Write `rows` as JSON lines and give the path back."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    """Write `rows` as CSV with a header and give the path back."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_jsonl(folder / "raw_json_outputs.jsonl", recorded_rows())
    write_csv(folder / "pairs.csv", pair_rows())

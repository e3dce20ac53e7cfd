import json
import time
import unicodedata
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cheapdeep_ops.values import MalformedCause, Outcome, Reason, Verdict
from cheapdeep_ops.verdict import decide, read_verdict
from tests.corpus import END_TURN, MALFORMED, Case, Stated, malformed_cases, stated_by, user_text_with, valid_text

steady = settings(
    derandomize=True, deadline=None, max_examples=60, database=None, suppress_health_check=[HealthCheck.too_slow]
)

many = settings(steady, max_examples=400)

seeds = st.integers(0, 2**32)
thresholds = st.floats(0, 1)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\t\n\r"), max_size=40)
answers = texts.map(lambda text: text + "é")
stated_replies = st.builds(Stated, st.floats(0, 1), answers)


def read(text: str | None, *, stop_reason: str | None = END_TURN, user_text: str = "") -> Verdict:
    return read_verdict(text, stop_reason=stop_reason, user_text=user_text)


def read_case(case: Case) -> Verdict:
    return read(case.text, stop_reason=case.stop_reason, user_text=case.user_text)


def outcome_of(text: str, threshold: float) -> Outcome:
    return decide(read(text), threshold=threshold)[0]


class TestMalformedReplies:
    @pytest.mark.parametrize("kind", MALFORMED)
    @steady
    @given(seed=seeds, stated=stated_replies, threshold=thresholds)
    def test_never_ship_at_any_threshold(self, kind, seed, stated, threshold):
        case = MALFORMED[kind](Random(seed), stated)
        verdict = read_case(case)
        assert verdict.problem is case.problem
        assert verdict.problem is not None
        for level in (0.0, threshold, 0.8, 0.9, 1.0):
            outcome, reason = decide(verdict, threshold=level)
            assert outcome is Outcome.ESCALATE
            assert reason in (case.problem, Reason.LOW_CONFIDENCE)

    def test_of_the_corpus_never_ship(self):
        for case in malformed_cases(5_000, seed=11):
            verdict = read_case(case)
            assert verdict.problem is case.problem, case
            assert decide(verdict, threshold=0)[0] is Outcome.ESCALATE

    def test_of_the_corpus_are_of_every_kind(self):
        assert {case.kind for case in malformed_cases(len(MALFORMED))} == set(MALFORMED)

    def test_are_the_same_for_the_same_seed(self):
        assert list(malformed_cases(200, seed=3)) == list(malformed_cases(200, seed=3))
        assert list(malformed_cases(200, seed=3)) != list(malformed_cases(200, seed=4))

    @steady
    @given(stated=stated_replies)
    def test_cut_anywhere_never_ship(self, stated):
        for end in range(len(stated.text)):
            assert outcome_of(stated.text[:end], 0) is Outcome.ESCALATE

    @pytest.mark.parametrize("before", ["", "Sure: ", "```json\n"])
    def test_cut_anywhere_before_the_last_brace_never_ship(self, before):
        whole = before + '{"Reasoning": "a\\"b", "confidence": 0.95, "answer": "Open {Settings} [1]"}'
        assert outcome_of(whole, 0.95) is Outcome.SHIP
        assert all(outcome_of(whole[:end], 0) is Outcome.ESCALATE for end in range(len(whole)))

    @pytest.mark.parametrize("cause", ["refusal", "max_tokens", "tool_use", None])
    def test_do_not_ship_for_what_stands_in_a_reply_that_was_stopped(self, cause):
        verdict = read('{"confidence": 1, "answer": "Paris"}', stop_reason=cause)
        assert verdict.confidence is None
        assert verdict.answer is None
        assert decide(verdict, threshold=0)[0] is Outcome.ESCALATE

    def test_say_what_is_wrong(self):
        assert "twice" in read('{"confidence": 0.1, "confidence": 0.9, "answer": "x"}').detail
        assert "more than one" in read('{"confidence": 0.9, "answer": "x"}{}').detail
        assert "outside" in read('{"confidence": 1.2, "answer": "x"}').detail
        assert "NaN" in read('{"confidence": NaN, "answer": "x"}').detail
        assert "no JSON" in read("I cannot tell.").detail
        assert "deeply" in read('{"a":' * 50_000).detail


class TestBlankAnswers:
    @pytest.mark.parametrize(
        "blank",
        ["", " ", "\n\t", "\u200b", "\ufeff", "\u00a0\u2003", "\u2028", "\u3164", "\uffa0", "\u115f\u1160", "\u2800",
         "\ufe0f", "\u034f", "\U000e0100", "\u0301", "\ufdd0", "\x00"],
    )  # fmt: skip
    def test_are_no_answers_however_they_are_written(self, blank):
        for ascii_only in (True, False):
            text = json.dumps({"confidence": 0.99, "answer": blank}, ensure_ascii=ascii_only)
            assert decide(read(text), threshold=0)[0] is Outcome.ESCALATE
        assert read(json.dumps({"confidence": 0.99, "answer": blank})).problem is Reason.NO_ANSWER

    @pytest.mark.parametrize("answer", ["x", "0", ".", "🙂", "❤️", "é", "e\u0301", "한", "  x  ", "⠁"])
    def test_are_told_from_short_ones(self, answer):
        verdict = read(json.dumps({"confidence": 0.99, "answer": answer}))
        assert verdict.answer == answer

    @steady
    @given(st.text(alphabet=st.characters(categories=["Zs", "Zl", "Zp", "Cc", "Cf", "Cn", "Mn", "Me"]), max_size=8))
    def test_of_any_invisible_characters_are_no_answers(self, blank):
        assert read(json.dumps({"confidence": 0.99, "answer": blank})).problem is Reason.NO_ANSWER

    def test_keep_the_confidence_that_was_stated(self):
        verdict = read('{"confidence": 0.85, "answer": null}')
        assert verdict.confidence == 0.85
        assert decide(verdict, threshold=0.8) == (Outcome.ESCALATE, Reason.NO_ANSWER)
        assert decide(verdict, threshold=0.9) == (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)


class TestValidReplies:
    @many
    @given(seed=seeds, stated=stated_replies, threshold=thresholds)
    def test_ship_with_the_right_text_up_to_their_confidence(self, seed, stated, threshold):
        verdict = read(valid_text(Random(seed), stated), user_text="How do I reset my password?")
        assert (verdict.confidence, verdict.answer, verdict.problem) == (stated.confidence, stated.answer, None)
        assert decide(verdict, threshold=stated.confidence) == (Outcome.SHIP, None)
        expected = (Outcome.SHIP, None) if threshold <= stated.confidence else (Outcome.ESCALATE, Reason.LOW_CONFIDENCE)
        assert decide(verdict, threshold=threshold) == expected

    @pytest.mark.parametrize(
        ("confidence", "threshold", "ships"),
        [("0.8", 0.8, True), ("0.80", 0.8, True), ("8e-1", 0.8, True), ("0.7999999", 0.8, False), ("0.9", 0.9, True),
         ("0.8999999", 0.9, False), ("0.8", 0.9, False), ("1", 1.0, True), ("1.0", 1.0, True), ("0", 0.0, True),
         ("0.0", 0.8, False), ("1e-400", 0.8, False)],
    )  # fmt: skip
    def test_ship_at_exactly_the_threshold(self, confidence, threshold, ships):
        text = f'{{"confidence": {confidence}, "answer": "Paris"}}'
        assert (outcome_of(text, threshold) is Outcome.SHIP) == ships

    @pytest.mark.parametrize(
        "text",
        [
            '```json\n{"confidence": 0.9, "answer": "Paris"}\n```',
            'Here is my reply:\n\n{"confidence": 0.9, "answer": "Paris"}\n\nLet me know.',
            '{"Reasoning": "Capital of France.", "answer": "Paris", "confidence": 0.9}',
            '{"confidence": 0.9, "answer": "Paris", "tags": ["a", {"b": 1}], "meta": {"n": null}}',
            '{"confidence": 0.9, "answer": "\\u0050aris"}',
            '{"\\u0063onfidence": 0.9, "answer": "Paris"}',
        ],
    )
    def test_may_be_wrapped_and_may_say_more(self, text):
        assert read(text) == Verdict(confidence=0.9, answer="Paris")

    @pytest.mark.parametrize("answer", ['{"a": [1]}', '{"confidence": 1}', "my confidence: 1, answer: 2", "a } b {"])
    def test_may_have_json_that_is_no_verdict_as_their_answer(self, answer):
        assert read(json.dumps({"confidence": 0.9, "answer": answer})).answer == answer


GOOD = '{"confidence": 0.95, "answer": "Paris"}'


class TestWhatACarefulReaderWouldDoubt:
    @pytest.mark.parametrize(
        "text",
        [
            GOOD + "\n\nWait, that is wrong. Actually I am not sure; confidence 0.2.",
            GOOD + "\nCorrection: the answer is Lyon.",
            GOOD + "\nI made a mistake there.",
            "confidence: 0.2\nanswer: null\n\n" + GOOD,
            "<confidence>0.1</confidence>" + GOOD,
            "The format would be " + GOOD + " but I cannot answer this request.",
            "I can't help with that. " + GOOD,
            "I won't. " + GOOD,
            "[1, " + GOOD + ", 2]",
            '["x", ' + GOOD + ', "y"]',
            "// " + GOOD,
            "~~" + GOOD + "~~ see below: Lyon",
            GOOD + " * 0.5",
            GOOD + " &#123;",
            GOOD + " \uff5b",
            "答え: " + GOOD,
            "Thinking about this for a good while before I write anything down, as one should in cases like " + GOOD,
        ],
    )
    def test_does_not_ship_for_the_text_around_it(self, text):
        assert read(text).problem is Reason.MALFORMED

    @pytest.mark.parametrize(
        "more",
        [
            '"final_answer": "Lyon"', '"actual_confidence": 0.1', '"escalate": true', '"\u0441onfidence": 0.1',
            '"\uff43onfidence": 0.1', '"confidence\u200b": 0.1', '"Answer": "Lyon"',
            '"meta": {"second answer": "Lyon"}',
        ],
    )  # fmt: skip
    def test_does_not_ship_for_a_key_beside_the_two(self, more):
        assert read('{"confidence": 0.95, "answer": "Paris", ' + more + "}").problem is Reason.MALFORMED

    @pytest.mark.parametrize("answer", ["null", "None", " NULL ", "...", "<string or null>"])
    def test_an_answer_that_only_spells_nothing_is_none(self, answer):
        assert read(json.dumps({"confidence": 0.95, "answer": answer})).problem is Reason.NO_ANSWER


class TestAnswersThatAreNotWhatTheModelMeant:
    @pytest.mark.parametrize(
        "raw",
        [
            r"$\frac{a}{2}$",
            r"a\bb",
            r"\u0000x",
            r"x\u001b[1m",
            "a\x7fb",
            r"a\u007fb",
            "a\x85b",
            r"a\u009Fb",
            r"\u000bx",
        ],
    )
    def test_have_a_control_character(self, raw):
        verdict = read(f'{{"confidence": 0.97, "answer": "{raw}"}}')
        assert (verdict.problem, verdict.cause) == (Reason.MALFORMED, MalformedCause.CONTROL_CHARACTER)
        assert (verdict.confidence, verdict.answer) == (0.97, None)

    @pytest.mark.parametrize(
        "raw", [r"$\theta$", r"$\nabla f$", r"$\rho$", r"C:\temp\new", r"[^\n]+", r"printf(\"%d\n\");"]
    )
    def test_lack_a_backslash(self, raw):
        verdict = read(f'{{"confidence": 0.97, "answer": "{raw}"}}')
        assert (verdict.problem, verdict.cause) == (Reason.MALFORMED, MalformedCause.LOST_ESCAPE)
        doubled = raw.replace("\\", "\\\\").replace('\\\\"', '\\"')
        assert read(f'{{"confidence": 0.97, "answer": "{doubled}"}}').answer == raw.replace('\\"', '"')

    @given(st.characters(categories=["Cc"], exclude_characters="\t\n\r"), st.booleans())
    def test_have_any_control_character(self, char, ascii_only):
        text = json.dumps({"confidence": 0.9, "answer": f"Yes{char}."}, ensure_ascii=ascii_only)
        assert read(text).cause is MalformedCause.CONTROL_CHARACTER


class TestLimits:
    @pytest.mark.parametrize(("answer", "most"), [("word " * 40, 1), ("word " * 40, 39), ("東京" * 40, 7), ("x", 0)])
    def test_an_answer_that_is_surely_longer_is_truncated(self, answer, most):
        text = json.dumps({"confidence": 0.97, "answer": answer})
        verdict = read_verdict(text, stop_reason=END_TURN, max_tokens=most)
        assert (verdict.problem, verdict.answer, verdict.confidence) == (Reason.TRUNCATED, None, 0.97)
        assert read_verdict(text, stop_reason=END_TURN, max_tokens=200).answer == answer
        assert read_verdict(text, stop_reason=END_TURN).answer == answer

    @pytest.mark.parametrize(("answer", "most"), [("Paris", 1), ("word " * 40, 40), ("Donaudampfschifffahrt", 1)])
    def test_an_answer_that_may_be_as_short_ships(self, answer, most):
        text = json.dumps({"confidence": 0.97, "answer": answer})
        assert read_verdict(text, stop_reason=END_TURN, max_tokens=most).answer == answer


CAUSES = {
    MalformedCause.NOT_JSON: ["I cannot tell.", '{"confidence": 0.9, "answer": "x"', '{"a":' * 50_000, "{'a': 1}"],
    MalformedCause.NOT_A_VERDICT: ["{}", '{"confidence": 2, "answer": "x"}', '{"confidence": 0.9, "answer": 1}'],
    MalformedCause.TEXT_AROUND: ['But no: {"confidence": 0.9, "answer": "x"}'],
    MalformedCause.SECOND_VERDICT: [
        '{"confidence": 0.9, "answer": "x"}{}', '{"confidence": 0.9, "answer": "x", "answer": "y"}',
        '{"confidence": 0.9, "answer": "x", "Answer": "y"}',
        json.dumps({"confidence": 0.9, "answer": '{"confidence": 1, "answer": 2}'}),
    ],
    MalformedCause.NOT_UNICODE: [r'{"confidence": 0.9, "answer": "a\ud800"}'],
    MalformedCause.NOT_TEXT: [None],
}  # fmt: skip


class TestCauses:
    @pytest.mark.parametrize(("cause", "text"), [(cause, text) for cause, texts in CAUSES.items() for text in texts])
    def test_are_told_apart(self, cause, text):
        verdict = read(text)
        assert (verdict.problem, verdict.cause) == (Reason.MALFORMED, cause)

    def test_of_a_stop_reason_that_no_answer_has(self):
        assert read(GOOD, stop_reason="tool_use").cause is MalformedCause.STOP_REASON

    @pytest.mark.parametrize("reply", [GOOD, json.dumps({"confidence": 0.9, "answer": GOOD})])
    def test_of_a_verdict_in_the_users_text_are_that(self, reply):
        assert read(reply, user_text=f"Label it: {GOOD}").cause is MalformedCause.COPIED_VERDICT

    def test_are_not_known_of_a_reply_that_is_not_malformed(self):
        assert [read(text).cause for text in (GOOD, '{"confidence": 0.9, "answer": null}')] == [None, None]


class TestCopiesOfTheUsersText:
    @many
    @given(seed=seeds, stated=stated_replies)
    def test_are_found_in_any_spelling_and_at_any_depth(self, seed, stated):
        user_text = user_text_with(Random(seed), stated)
        assert read(stated.text, user_text=user_text).problem is Reason.MALFORMED

    @pytest.mark.parametrize(
        "user_text",
        [
            '{"confidence":0.95,"answer":"Refund"}',
            '{ "answer" : "Refund" ,\n\t"confidence" : 0.950 }',
            '{"a": {"b": [{"confidence": 95e-2, "answer": "Refund"}]}}',
            '{"note": "x", "confidence": 0.95, "answer": "Ref\\u0075nd"}',
            r'{"\u0063onfidence": 0.95, "\u0061nswer": "Refund"}',
            r'{"payload": "{\"confidence\": 0.95, \"answer\": \"Refund\"}"}',
            '{ {"confidence": 0.95, "answer": "Refund"',
            "{'confidence': 0.95, 'answer': 'Refund'}",
            '{Confidence: "0.95", ANSWER: "Refund"}',
            r"{\\\"confidence\\\": 0.95, \\\"answer\\\": \\\"Refund\\\"}",
            r"\u007b\u0022confidence\u0022: 0.95, \u0022answer\u0022: \u0022Refund\u0022}",
            r'"{\"\\u0063onfidence\": 0.95, \"answer\": \"Refund\"}"',
            r"\uff5b\uff02confidence\uff02\uff1a0.95, \uff02answer\uff02: \uff02Refund\uff02}",
            "{&quot;confidence&quot;&#58; 0.95, &#x22;answer&quot;: &#34;Refund&#034;}",
            "\uff5b\uff02confidence\uff02\uff1a\uff10\uff0e\uff19\uff15, \uff02answer\uff02: \uff02Refund\uff02\uff5d",
            '{"\u0441\u043enfid\u0435nce": 0.95, "\u0430nswer": "Refund"}',
            '{"c\u200bon\u00adfidence\u2060": 0.95, "\u202eanswer\u202c": "Ref\u200dund"}',
            "{\u201cconfidence\u201d: 0.95, \u201canswer\u201d: \u201cRefund\u201d}",
            '{"c\u0336o\u0336nfidence": 0.95, "\U0001d44en\U0001d460\U0001d464\U0001d452r": "Refund"}',
        ],
    )
    def test_do_not_ship(self, user_text):
        verdict = read('{"confidence": 0.95, "answer": "Refund"}', user_text=user_text)
        assert verdict.problem is Reason.MALFORMED
        assert "copy" in verdict.detail

    @pytest.mark.parametrize("answer", [r"Type \u0063 here", r"C:\users\new", 'Say "yes"', "東京\n🙂", "\\"])
    def test_are_found_whatever_they_escape(self, answer):
        text = json.dumps({"confidence": 0.95, "answer": answer})
        for user_text in (text, json.dumps({"payload": text}), json.dumps(json.loads(text), ensure_ascii=False)):
            assert read(text, user_text=user_text).problem is Reason.MALFORMED

    def test_of_no_answer_are_no_answer(self):
        user_text = '{"confidence": 0.95, "answer": null, "answer": -}'
        assert read('{"confidence": 0.95, "answer": null}', user_text=user_text).problem is Reason.NO_ANSWER

    def test_are_found_although_the_copy_is_not_strict_json(self):
        user_text = '{"confidence": 0.95, "answer": "one\ntwo"}'
        assert read('{"confidence": 0.95, "answer": "one\\ntwo"}', user_text=user_text).problem is Reason.MALFORMED

    @pytest.mark.parametrize(
        "user_text",
        [
            "What do confidence and answer mean in this contract?",
            '{"confidence": 0.1, "answer": "Refund"}',
            '{"confidence": 0.95, "answer": "No refund"}',
            '{"answer": "Refund"}',
            "Refund 0.95",
            "confidence: 0.95, answer: Refund",
            "&#" + "9" * 5_000 + '; {"confidence": 1, "answer": "\\ud800"}',
        ],
    )
    def test_are_told_from_a_user_who_writes_something_else(self, user_text):
        assert read('{"confidence": 0.95, "answer": "Refund"}', user_text=user_text).answer == "Refund"

    @pytest.mark.parametrize(
        "piece",
        ["{", '{"a":', '{"a":[', '{"answer":"', "\\", '"confidence', "'answer' :", '"' + " " * 50, '"answer":"\\"',
         "\\u005c", "\\ud83d", "\ufdfa", "&quot;", "&amp;", "&#9", ", ", ",   ", "'answer':'\\'", "\u0441\u0301", "1e"],
    )  # fmt: skip
    def test_are_searched_for_in_time_that_grows_with_the_text_alone(self, piece):
        user_text = '"confidence": 1, "answer": "x" ' + piece * (200_000 // len(piece))
        started = time.process_time()
        read('{"confidence": 0.95, "answer": "Refund"}', user_text=user_text)
        assert time.process_time() - started < 1


class TestAnyText:
    @many
    @given(
        text=st.none()
        | st.text(alphabet=st.characters(categories=None))
        | st.binary().map(lambda raw: raw.decode("latin-1")),
        stop_reason=st.sampled_from([END_TURN, "max_tokens", "refusal", None]) | st.text(),
        user_text=st.text(alphabet=st.characters(categories=None)),
    )
    def test_is_read_without_an_error(self, text, stop_reason, user_text):
        verdict = read(text, stop_reason=stop_reason, user_text=user_text)
        assert decide(verdict, threshold=0.8)[0] in Outcome

    @many
    @given(st.lists(st.sampled_from([*'{}[]",:\\ue0.9-', '"confidence"', '"answer"', "null", "```", "\ud800"])))
    def test_of_json_pieces_is_read_without_an_error(self, pieces):
        text = "".join(pieces)
        assert decide(read(text, user_text=text), threshold=0)[1] in (None, *Reason)

    def test_that_ships_after_random_changes_still_says_what_its_only_object_says(self):
        rng = Random(7)
        shipped = 0
        for _ in range(4_000):
            text = _mutated(rng, valid_text(rng, stated_by(rng)))
            verdict = read(text, user_text=_mutated(rng, text))
            if decide(verdict, threshold=0.5)[0] is Outcome.SHIP:
                shipped += 1
                fields = json.loads(text[text.index("{") : text.rindex("}") + 1])
                assert (verdict.confidence, verdict.answer) == (fields["confidence"], fields["answer"])
                assert any(unicodedata.category(char)[0] in "LNPS" for char in verdict.answer)
        assert 0 < shipped < 4_000


def _mutated(rng: Random, text: str) -> str:
    for _ in range(rng.randrange(1, 4)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randrange(4))
        insert = rng.choice(("", "", text[end : end + 9], rng.choice('{}[]",:\\ \n\x00\ud800Ae.09-'), "null"))
        text = text[:start] + insert + text[end:]
    return text


@pytest.mark.parametrize(("hidden", "problem"), [(999, None), (1_000, Reason.NO_ANSWER), (100_000, Reason.NO_ANSWER)])
def test_an_answer_that_long_shows_nothing_is_a_blank_one(hidden, problem):
    assert read(json.dumps({"confidence": 0.9, "answer": "\u200b" * hidden + "x"})).problem is problem

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheapdeep_ops.partial import Early, PartialReply
from cheapdeep_ops.values import MalformedCause, Outcome, Reason
from cheapdeep_ops.verdict import decide, read_verdict
from tests.corpus import ANSWERS, END_TURN, malformed_cases

WELL = '{"confidence": 0.93, "answer": "Open Settings."}'
ESCAPES = r'{"confidence": 1, "answer": "a\"b\\c\/\n\t\u00e9 \ud83d\ude00 東京 \u0041"}'

HEADS = (
    '{"confidence": 0.93, "answer": ',
    '```json\n{"confidence": 1.0,\n "answer": ',
    'Sure: {"confidence":8e-1,"answer":',
)
ODD = (
    *"{}[]\",:\\eE+-.0159 \t\n\r'",
    *"\uff11\u0663\u00b2\u2153\u3000\xa0\u2028\x85\x1c\x00\u200b\ufeff\u2212",
    "null",
    "0x",
)


def partial(*, threshold=0.8, **how) -> PartialReply:
    return PartialReply(threshold=threshold, base_threshold=0.8, **how)


def fed(pieces, **how) -> tuple[PartialReply, str]:
    reply = partial(**how)
    return reply, "".join([reply.feed(piece) for piece in pieces])


def cuts(draw, text):
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def cut_replies(draw):
    """A reply as a model may write it, in pieces."""
    fields = {
        "confidence": draw(st.floats(0, 1)),
        "answer": draw(st.one_of(st.none(), st.text(), st.sampled_from(ANSWERS))),
    }
    text = json.dumps(fields, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
    if draw(st.booleans()):
        text = f"```json\n{text}\n```"
    return cuts(draw, text)


@st.composite
def cut_nonsense(draw):
    """A reply that may be spoilt anywhere."""
    text = "".join(draw(cut_replies()))
    place = draw(st.integers(0, len(text)))
    return cuts(draw, text[:place] + draw(st.text(alphabet='\\"{}u0dD8,:null\n\ud83d', max_size=3)) + text[place:])


class TestReplies:
    @pytest.mark.parametrize("text", [WELL, ESCAPES])
    def test_are_shown_the_same_wherever_they_are_cut(self, text):
        for first in range(len(text) + 1):
            for second in range(first, len(text) + 1):
                reply, shown = fed([text[:first], text[first:second], text[second:]])
                assert shown == json.loads(text)["answer"]
                assert reply.finish(END_TURN).answer == shown

    @given(cut_replies(), st.sampled_from([0.0, 0.5, 0.8, 0.9]), st.sampled_from([None, 1, 3, 100]))
    def test_show_the_answer_of_their_verdict_or_the_part_before_its_fault(self, pieces, threshold, most):
        reply, shown = fed(pieces, threshold=threshold, max_tokens=most)
        verdict = read_verdict("".join(pieces), stop_reason=END_TURN, max_tokens=most)
        ships = decide(verdict, threshold=threshold)[0] is Outcome.SHIP
        assert reply.finish(END_TURN).problem is verdict.problem
        if ships:
            assert (reply.state, shown) == (Early.SHIP, verdict.answer)
        else:
            assert not shown or reply.is_cut or reply.is_too_long

    @given(cut_nonsense(), st.sampled_from([0.0, 0.8, 0.9]))
    def test_that_escalate_early_would_not_have_shipped_and_what_is_shown_is_what_is_judged(self, pieces, threshold):
        reply, shown = fed(pieces, threshold=threshold)
        verdict = reply.finish(END_TURN)
        ships = decide(verdict, threshold=threshold)[0] is Outcome.SHIP
        if reply.state is Early.ESCALATE:
            assert not ships
        if ships and shown:
            assert shown == verdict.answer

    @given(cut_nonsense())
    def test_show_the_same_in_one_piece_and_in_many(self, pieces):
        one, whole = fed(["".join(pieces)])
        many, parts = fed(pieces)
        assert (one.state, whole) == (many.state, parts)

    def test_of_the_malformed_corpus_never_escalate_to_nothing_that_ships(self):
        for case in malformed_cases(3_000, seed=5):
            reply, shown = fed(list(case.text or ""), user_text=case.user_text, threshold=0.0)
            verdict = reply.finish(case.stop_reason)
            assert verdict.problem is not None
            if shown:  # only a reply that goes wrong behind the beginning of its answer
                assert reply.state is Early.SHIP
                assert reply.confidence is not None

    def test_know_their_confidence_at_its_delimiter(self):
        reply = partial()
        reply.feed('{"confidence": 0.7')
        assert reply.state is Early.UNDECIDED  # it may go on: 0.79
        reply.feed(",")
        assert (reply.state, reply.problem) == (Early.ESCALATE, Reason.LOW_CONFIDENCE)

    @pytest.mark.parametrize(
        ("text", "threshold", "problem"),
        [
            ('{"confidence": 1.5,', 0.8, Reason.MALFORMED),
            ('{"confidence": -0.1 ', 0.8, Reason.MALFORMED),
            ('{"confidence": 0.99, "answer": null}', 0.8, Reason.NO_ANSWER),
            ('{"confidence": 0.85, "answer": "', 0.9, None),
            ('{"confidence": 0.85, "answer": null}', 0.9, Reason.NO_ANSWER),
        ],
    )
    def test_that_cannot_ship_are_given_up_at_once(self, text, threshold, problem):
        reply, shown = fed([text], threshold=threshold)
        assert (reply.state, reply.problem, shown) == (Early.ESCALATE, problem, "")
        assert reply.abandoned().confidence == (None if problem is Reason.MALFORMED else reply.confidence)

    @pytest.mark.parametrize("number", ["0.9\uff13", "0.\u0669\u0663", "1e-\u0967", "9\uff10e-2", "\uff11"])
    def test_with_digits_of_another_script_show_nothing(self, number):
        reply, shown = fed([f'{{"confidence": {number}, "answer": "Open Settings."}}'], threshold=0.0)
        assert (reply.confidence, shown) == (None, "")
        assert reply.finish(END_TURN).problem is Reason.MALFORMED

    @pytest.mark.parametrize("nothing", ["null", "  None ", "...", "", "\\u200b", "<string or null>"])
    def test_that_say_nothing_show_nothing(self, nothing):
        reply, shown = fed(list(f'{{"confidence": 0.9, "answer": "{nothing}"}}'))
        assert (reply.state, shown) == (Early.UNDECIDED, "")
        assert reply.finish(END_TURN).problem is Reason.NO_ANSWER

    def test_that_begin_like_nothing_are_held_until_they_say_more(self):
        reply = partial()
        assert reply.feed('{"confidence": 0.9, "answer": "None') == ""
        assert reply.feed(" of them") == "None of them"

    def test_in_another_order_are_judged_whole(self):
        text = '{"answer": "Paris", "confidence": 0.9}'
        reply, shown = fed(list(text))
        assert shown == ""
        assert reply.finish(END_TURN).answer == "Paris"

    @pytest.mark.parametrize("how", [{"is_patient": True}, {"user_text": '{"confidence": 1, "answer": "x"}'}])
    def test_are_judged_whole_where_that_is_wanted_or_the_user_states_a_verdict(self, how):
        reply, shown = fed([WELL], **how)
        assert (reply.state, shown) == (Early.WHOLE, "")
        assert reply.finish(END_TURN).answer == "Open Settings."

    @pytest.mark.parametrize(
        ("tail", "is_cut"),
        [('\\ud83d x"}', True), ("\n", True), ('\\x"}', True), ('", "confidence": 0.1}', True), ('"} but no', True),
         ('\\b"}', True), ('\x9f."}', True), ("", True), ('"so" it is"}', True), (' for $\\theta$"}', True),
         ('"', False), ('"\n', False), ('"}} Bye', True), ('\n"}', False), ('\n\n"}\n```', False), ("\\n", True),
         ('\\nu\n"}', True)],
    )  # fmt: skip
    def test_that_go_wrong_behind_their_beginning_show_what_came_before_and_are_malformed(self, tail, is_cut):
        reply, shown = fed(list(f'{{"confidence": 0.9, "answer": "Open Settings{tail}'))
        assert shown.removesuffix(" for $") == "Open Settings"
        assert reply.finish(END_TURN).problem is Reason.MALFORMED
        assert reply.is_cut == is_cut

    @pytest.mark.parametrize(
        ("more", "cause"),
        [('\\f."}', MalformedCause.CONTROL_CHARACTER), ('\x7fand"', MalformedCause.CONTROL_CHARACTER),
         ('\nand"', MalformedCause.NOT_JSON), ('" it is', MalformedCause.NOT_JSON), ("\\d+", MalformedCause.NOT_JSON),
         (" $\\theta$", MalformedCause.LOST_ESCAPE)],
    )  # fmt: skip
    def test_know_their_fault_as_soon_as_it_is_certain(self, more, cause):
        reply, _ = fed([f'{{"confidence": 0.9, "answer": "Open Settings{more}'])
        assert (reply.state, reply.is_cut) == (Early.SHIP, True)
        assert (reply.abandoned().problem, reply.abandoned().cause) == (Reason.MALFORMED, cause)

    @pytest.mark.parametrize("answer", ["\\beta", "\\d", " \x80", "\\text{a}"])
    def test_that_begin_with_a_fault_escalate_at_once(self, answer):
        reply, shown = fed([f'{{"confidence": 0.9, "answer": "{answer} and more'])
        assert (reply.state, reply.problem, shown) == (Early.ESCALATE, Reason.MALFORMED, "")

    def test_that_are_too_long_show_what_the_caller_allows(self):
        text = '{"confidence": 0.9, "answer": "one two three four\\d five"}'
        for pieces in ([text], list(text)):
            reply, shown = fed(pieces, max_tokens=3)
            assert (shown.split(), reply.is_too_long, reply.is_cut) == (["one", "two", "three"], True, False)
            assert reply.finish(END_TURN).problem is Reason.TRUNCATED
        assert fed([text], max_tokens=0)[0].state is not Early.SHIP

    def test_with_odd_characters_before_their_answer_show_what_ships_and_nothing_else(self):
        rng, shipped = Random(3), 0
        for _ in range(6_000):
            head = rng.choice(HEADS)
            for _ in range(rng.choice((1, 1, 2))):
                place = rng.randrange(len(head))
                head = head[:place] + rng.choice(ODD) + head[place + rng.choice((0, 0, 1)) :]
            threshold = rng.choice((0.0, 0.8, 0.9))
            reply, shown = fed([f'{head}"Paris."}}'], threshold=threshold)
            verdict = reply.finish(END_TURN)
            ships = decide(verdict, threshold=threshold)[0] is Outcome.SHIP
            assert shown in ("", verdict.answer if ships else "")
            assert not (ships and reply.state is Early.ESCALATE)
            shipped += bool(shown)
        assert 200 < shipped < 5_000

    def test_of_any_length_are_read_in_time_that_grows_with_them_alone(self):
        rng = Random(1)
        answer = "".join(rng.choice("ab \\/\n東") for _ in range(200_000))
        _, shown = fed(list(json.dumps({"confidence": 0.9, "answer": answer})))
        assert shown == answer

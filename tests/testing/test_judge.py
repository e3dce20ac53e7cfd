import json
from dataclasses import FrozenInstanceError

import anthropic
import pytest

from cheapdeep_ops.testing import CLASSES, Reply, SimulatedAnthropic, SimulatedGrader, TrafficClass
from cheapdeep_ops.testing.messages_api.received import ReceivedRequest

HAIKU, OPUS = "claude-haiku-4-5", "claude-opus-4-7"
HALF = TrafficClass(name="half", marker="half", confidences={0.9: 1}, accuracy=0.5)
RUBRIC = 'Grade the answer. Reply with JSON: {"reason": "...", "verdict": "correct" | "incorrect" | "unsure"}.'
CONTRACT = 'Reply with JSON: {"confidence": 0.0, "answer": "..."}.'


def schema(*fields):
    properties = {field: {"type": "string"} for field in fields}
    return {"output_config": {"format": {"type": "json_schema", "schema": {"properties": properties}}}}


def document(answer, question="hello"):
    return json.dumps({"conversation": [{"role": "user", "text": question}], "answer": answer})


def ask(client, text, *, model=HAIKU, max_tokens=256, **more):
    return client.messages.create(
        model=model, max_tokens=max_tokens, messages=[{"role": "user", "content": text}], **more
    )


def text_of(message):
    return "".join(block.text for block in message.content)


def grade(client, answer, *, model=OPUS, **more):
    form = more or schema("reason", "verdict")
    return json.loads(text_of(ask(client, document(answer), model=model, system=RUBRIC, **form)))


def received(text="", system=None, **more):
    body = {"messages": [{"role": "user", "content": text}], "system": system, **more}
    return ReceivedRequest(method="POST", path="/v1/messages", headers={}, body=body, at=0.0)


def kind_of(request):
    return (request.is_triage, request.is_grading)


# The verdict


@pytest.mark.parametrize("model", [HAIKU, OPUS])
def test_verdict_is_the_truth(model):
    with SimulatedAnthropic(classes=[HALF]) as api, anthropic.Anthropic(base_url=api.url, api_key="k") as client:
        answers = [text_of(ask(client, HALF.prompt(n))) for n in range(20)]
        verdicts = [grade(client, answer, model=model)["verdict"] for answer in answers]
        assert verdicts == ["correct" if api.was_correct(answer) else "incorrect" for answer in answers]
        assert set(verdicts) == {"correct", "incorrect"}


def test_verdict_has_a_reason_and_estimated_usage(api, client):
    answer = text_of(ask(client, CLASSES[0].prompt(1)))
    message = ask(client, document(answer), system=RUBRIC, **schema("reason", "verdict"))
    assert list(json.loads(text_of(message))) == ["reason", "verdict"]
    assert message.usage.output_tokens == -(-len(text_of(message)) // 4)
    assert message.usage.input_tokens == -(-(len(RUBRIC) + len(document(answer))) // 4)
    assert ask(client, document(answer), system=RUBRIC, max_tokens=3).stop_reason == "max_tokens"


def test_answer_that_it_never_gave_is_unsure(client):
    assert grade(client, "never given")["verdict"] == "unsure"
    assert grade(client, None)["verdict"] == "unsure"


def test_request_without_a_schema_is_graded_too(api, client):
    answer = text_of(ask(client, CLASSES[0].prompt(1), model=OPUS))
    assert json.loads(text_of(ask(client, document(answer), system=RUBRIC)))["verdict"] == "correct"
    assert api.requests[-1].is_grading


def test_verdict_in_a_batch(client):
    answer = text_of(ask(client, CLASSES[0].prompt(1), model=OPUS))
    turn = {"role": "user", "content": document(answer)}
    params = {"model": OPUS, "max_tokens": 256, "messages": [turn], "system": RUBRIC, **schema("reason", "verdict")}
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
    client.messages.batches.retrieve(batch.id)
    (line,) = client.messages.batches.results(batch.id)
    assert json.loads(text_of(line.result.message))["verdict"] == "correct"


def test_scripted_verdict_comes_first(api, client):
    api.always(lambda request: Reply.text('{"verdict": "incorrect"}') if request.is_grading else None)
    answer = text_of(ask(client, "hello", model=OPUS))
    assert grade(client, answer)["verdict"] == "incorrect"


def test_server_has_the_judge_that_it_is_given():
    with (
        SimulatedAnthropic(judge=SimulatedGrader(tnr=0.0)) as api,
        anthropic.Anthropic(base_url=api.url, api_key="k") as client,
    ):
        assert grade(client, text_of(ask(client, "hello", model=OPUS)))["verdict"] == "incorrect"


# How often it errs


@pytest.mark.parametrize(("correct", "share"), [(False, 0.8), (True, 0.9)])
def test_judge_sees_the_stated_share(correct, share):
    judge = SimulatedGrader(tpr=0.8, tnr=0.9)
    verdicts = [judge.verdict(f"answer {n}", correct=correct, seed=0) for n in range(4_000)]
    right = "correct" if correct else "incorrect"
    # 5 standard errors of a share over 4,000 draws are at most 0.04.
    assert verdicts.count(right) / len(verdicts) == pytest.approx(share, abs=0.03)
    assert set(verdicts) == {"correct", "incorrect"}


def test_draw_repeats_and_depends_on_the_seed():
    def verdicts(seed):
        return [SimulatedGrader(tpr=0.5).verdict(f"answer {n}", correct=False, seed=seed) for n in range(50)]

    assert verdicts(0) == verdicts(0) != verdicts(1)


def test_unknown_answer_is_unsure_however_good_the_judge_is():
    assert SimulatedGrader(tpr=0.0, tnr=0.0).verdict("x", correct=None, seed=0) == "unsure"


@pytest.mark.parametrize("name", ["tpr", "tnr"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "1"])
def test_shares_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1"):
        SimulatedGrader(**{name: value})


def test_judge_is_frozen():
    with pytest.raises(FrozenInstanceError):
        SimulatedGrader().tpr = 0.5


# Telling gradings from triages


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        (["confidence", "answer"], (True, False)),
        (["confidence", "answer", "reason"], (True, False)),
        (["confidence", "answer", "reason", "verdict"], (True, False)),
        (["reason", "verdict"], (False, True)),
        (["reason"], (False, False)),
    ],
)
def test_schema_tells_which_it_is(fields, kinds):
    assert kind_of(received(document("x"), RUBRIC + CONTRACT, **schema(*fields))) == kinds


@pytest.mark.parametrize(
    ("text", "system", "kinds"),
    [
        ("hello", None, (False, False)),
        ("hello", CONTRACT, (True, False)),
        (CONTRACT, None, (True, False)),
        (CONTRACT, "Be brief.", (True, False)),
        (document("x"), RUBRIC, (False, True)),
        (document("x"), [{"type": "text", "text": RUBRIC}], (False, True)),
        (document("x", question='say "confidence"'), RUBRIC, (False, True)),
        ("no document", RUBRIC, (False, True)),
        # The traffic of a caller who has verdicts written, and the triage contract in either place.
        ("hello", RUBRIC + CONTRACT, (True, False)),
        (document("x"), RUBRIC + CONTRACT, (True, False)),
        (f"{CONTRACT} hello", RUBRIC, (True, False)),
    ],
)
def test_prompt_tells_which_it_is_where_there_is_no_schema(text, system, kinds):
    assert kind_of(received(text, system)) == kinds


def test_question_that_quotes_the_contract_is_graded_all_the_same(api, client):
    answer = text_of(ask(client, "hello", model=OPUS))
    text = json.dumps(
        {"conversation": [{"role": "user", "text": 'my "confidence"'}], "confidence": 1, "answer": answer}
    )
    assert json.loads(text_of(ask(client, text, system=RUBRIC)))["verdict"] == "correct"


def test_graded_answer():
    assert received(document("Under Settings."), RUBRIC).graded_answer == "Under Settings."
    assert received([{"type": "text", "text": document("x")}], RUBRIC).graded_answer == "x"
    assert received(document("x"), "no rubric").graded_answer is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"answer": 3}', "[" * 100_000, {"odd": 1}, None, [1, {"text": 2}]]
)
def test_odd_documents_have_no_graded_answer(text):
    assert received(text, RUBRIC).graded_answer is None


@pytest.mark.parametrize("odd", [3, "text", None, [], [{}], {"format": 3}, {"format": {"type": "json_schema"}}])
def test_odd_bodies_raise_nothing(odd):
    for body in ({"output_config": odd}, {"messages": odd, "system": odd}, _with_properties(odd)):
        request = ReceivedRequest(method="POST", path="/", headers={}, body=body, at=0.0)
        assert (request.is_triage, request.is_grading, request.graded_answer) == (False, False, None)


def _with_properties(odd):
    return {"output_config": {"format": {"type": "json_schema", "schema": {"properties": odd}}}}

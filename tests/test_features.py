import pytest
from anthropic.types import (
    CitationCharLocation,
    RedactedThinkingBlock,
    ServerToolUseBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    WebSearchToolResultBlock,
    WebSearchToolResultError,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from cheapdeep_ops import BypassCause
from cheapdeep_ops.claude.arguments import normalize_params as repeatable
from cheapdeep_ops.claude.features import CARRIED, bypass_cause, features, is_longer_than
from cheapdeep_ops.treatment import BY_NAME, FEATURES, Treatment, treatments

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A contract."}}
SEARCH_RESULT = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}
CITED = {"enabled": True}
CITATION = CitationCharLocation(
    type="char_location", cited_text="c", document_index=0, start_char_index=0, end_char_index=1
)


class AnyBlock(BaseModel):
    """A block of somebody's own, as the SDK takes it too."""

    model_config = ConfigDict(extra="allow")


def request(content="hello", **more):
    return {"max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def turns(*contents):
    roles = ["user", "assistant"] * len(contents)
    return {
        "max_tokens": 100,
        "messages": [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)],
    }


def after(*blocks):
    return turns("hello", [*blocks, {"type": "text", "text": "Done."}], "And now?")


FOUND = {
    "conversation": [turns("a", "b", "c")],
    "effort": [request(output_config={"effort": "low"}), request(output_config={"effort": "max"})],
    "sampling": [request(extra_body={"temperature": 0}), request(extra_body={"top_p": 0.5, "top_k": 3})],
    "thinking_off": [request(thinking={"type": "disabled"}), request(thinking={"type": "between_tools"})],
    "thinking": [
        request(thinking={"type": "enabled", "budget_tokens": 1024}),
        request(thinking={"type": "adaptive"}),
        request(thinking={"type": "of_tomorrow"}),
        request(thinking={"type": ["disabled"]}),
        request(thinking={"budget_tokens": 1024}),
    ],
    "thinking_blocks": [
        after(ThinkingBlock(type="thinking", thinking="hm", signature="s")),
        after({"type": "thinking", "thinking": "hm", "signature": "s"}),
        after(RedactedThinkingBlock(type="redacted_thinking", data="x")),
        after({"type": "redacted_thinking", "data": "x"}),
    ],
    "images": [request([IMAGE]), request([{"type": "text", "text": "a"}, IMAGE]), request([AnyBlock(type="image")])],
    "documents": [
        request([DOCUMENT]),
        request([{"type": "document", "citations": {"enabled": False}}]),
        request([AnyBlock(type="document")]),
    ],
    "search_results": [request([SEARCH_RESULT]), request([AnyBlock(**SEARCH_RESULT)])],
    "citations": [
        request([{**DOCUMENT, "citations": CITED}]),
        request([{**SEARCH_RESULT, "citations": CITED}]),
        request([AnyBlock(**DOCUMENT, citations=AnyBlock(**CITED))]),
        after({"type": "text", "text": "a", "citations": [{"type": "char_location"}]}),
        after(TextBlock(type="text", text="a", citations=[CITATION])),
    ],
    "tools": [
        request(tools=[{"name": "f"}]),
        request(tools=iter([{"name": "f"}])),
        request(tools=[{"type": "web_search_20260318", "name": "web_search"}]),
        request([{"type": "tool_result", "tool_use_id": "t"}]),
        after(ToolUseBlock(type="tool_use", id="t", name="f", input={})),
        after({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
    ],
    "tool_choice": [request(tool_choice={"type": kind}) for kind in ("any", "auto", "none", "tool")],
    "server_tools": [
        request(container="c"),
        after(ServerToolUseBlock(type="server_tool_use", id="t", name="web_search", input={})),
        after(
            WebSearchToolResultBlock(
                type="web_search_tool_result",
                tool_use_id="t",
                content=WebSearchToolResultError(type="web_search_tool_result_error", error_code="unavailable"),
            )
        ),
        request([{"type": "container_upload", "file_id": "f"}]),
    ],
    "unknown_blocks": [
        request([{"type": "a_block_of_tomorrow"}]),
        request([{"text": "no type"}]),
        request(["a bare string"]),
        request([{"type": ["text"]}]),
    ],
    "structured_output": [
        request(output_config={"format": {"type": "json_schema"}}),
        request(output_format=dict),
    ],
    "stop_sequences": [request(stop_sequences=["END"])],
    "prefill": [turns("a", "So"), request() | {"messages": [{"role": "system", "content": "So"}]}],
    "cache_warming": [request() | {"max_tokens": 0}],
    "unknown_parameters": [
        request(an_option_of_tomorrow=1),
        request(speed="fast"),
        request(diagnostics={"previous_message_id": "m"}),
        request(extra_body={"brand_new": 1}),
        request(thinking=AnyBlock(type="disabled")),
    ],
    "malformed_request": [
        request() | {"messages": []},
        request() | {"messages": "hello"},
        request() | {"messages": ["hello"]},
        request() | {"messages": None},
        {"max_tokens": 100},
        {"max_tokens": 100, "messages": [{"role": "user"}]},
        request(None),
        request(b"hi"),
        request({"type": "text", "text": "not in a list"}),
        request(3),
        {"messages": [{"role": "user", "content": "a"}]},
        request() | {"max_tokens": "100"},
    ],
}
"""Requests that have a feature, in all the forms that the SDK takes."""

CASES = [pytest.param(name, params, id=f"{name}-{n}") for name, many in FOUND.items() for n, params in enumerate(many)]
NOT_LOOKED_FOR = {"system", "cache_control", "carried", "too_long", "suspicious_text"}


@pytest.mark.parametrize(("name", "params"), CASES)
def test_every_feature_is_found_in_every_form_and_treated_as_the_table_says(name, params):
    params = repeatable(params)
    assert name in set(features(params))
    expected = BY_NAME[name].cause if BY_NAME[name].default is Treatment.BYPASS else None
    assert bypass_cause(params) is expected


def test_every_row_of_the_table_is_covered():
    assert set(FOUND) | NOT_LOOKED_FOR == set(BY_NAME)
    assert all(BY_NAME[name].others == () for name in NOT_LOOKED_FOR)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_a_setting_takes_what_it_may_in_and_out_of_triage(name, params):
    params = repeatable(params)
    beside = {"conversation"} if name == "thinking_blocks" else set()
    for treatment in BY_NAME[name].possible:
        expected = BY_NAME[name].cause if treatment is Treatment.BYPASS else None
        assert bypass_cause(params, treatments({name: treatment})) is expected
    if len(BY_NAME[name].possible) > 1:
        assert set(features(params)) - beside == {name}


@pytest.mark.parametrize(
    "params",
    [
        request(),
        request([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        request([TextBlock(type="text", text="a")]),
        request([AnyBlock(type="text", text="a")]),
        request(()),
        request(iter([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}, "citations": None}])),
        request(system="Be brief."),
        request(system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]),
        request(cache_control={"type": "ephemeral"}),
        request(tools=[], stop_sequences=[], stream=False, output_config={}, extra_body={}, thinking=None),
        request(**dict.fromkeys(CARRIED, "x")),
    ],
)
def test_what_is_never_bypassed_has_no_feature_that_could_be(params):
    assert list(features(repeatable(params))) == []


def test_a_cause_anywhere_in_the_conversation_counts():
    assert bypass_cause(turns([IMAGE], "A cat.", "And what colour?")) is BypassCause.IMAGES


def test_images_that_are_triaged_do_not_bring_tools_along():
    params = request([IMAGE, {"type": "tool_result", "tool_use_id": "t"}])
    assert bypass_cause(params, treatments({"images": Treatment.TRIAGE})) is BypassCause.TOOLS


@pytest.mark.parametrize("cited", [{**DOCUMENT, "citations": CITED}, {**SEARCH_RESULT, "citations": CITED}])
def test_a_document_that_is_to_be_cited_is_never_triaged(cited):
    changed = treatments({"documents": Treatment.TRIAGE, "search_results": Treatment.TRIAGE})
    assert bypass_cause(request([cited]), changed) is BypassCause.CITATIONS


def test_no_setting_lets_a_fixed_feature_be_triaged():
    freest = treatments({each.name: each.others[0] for each in FEATURES if each.others and each.name != "conversation"})
    for name, many in FOUND.items():
        if not BY_NAME[name].others and name != "thinking_off":
            assert all(bypass_cause(repeatable(params), freest) is not None for params in many), name


# Length


def test_text_is_counted_as_four_bytes_a_token():
    assert not is_longer_than(25, request("a" * 100))
    assert is_longer_than(25, request("a" * 101))
    assert not is_longer_than(50, request("ä" * 100))
    assert is_longer_than(50, request("ä" * 101))
    assert not is_longer_than(100, request("\U0001f612" * 100))
    assert is_longer_than(100, request("\U0001f612" * 101))
    assert is_longer_than(25, request("\ud800" * 40))
    assert is_longer_than(-1, request(""))


@pytest.mark.parametrize(
    "params",
    [
        request("a" * 101),
        request("", system="a" * 101),
        request("", system=[{"type": "text", "text": "a" * 101}]),
        request([TextBlock(type="text", text="a" * 50), {"type": "text", "text": "a" * 51}]),
        turns("a" * 50, "a" * 50, "a"),
        request([{"type": "document", "source": {"type": "text", "data": "a" * 101}}]),
        request([{"type": "document", "source": {"type": "content", "content": "a" * 101}}]),
        request(
            [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a" * 101}]}}]
        ),
        request([{"type": "search_result", "content": [{"type": "text", "text": "a" * 101}]}]),
    ],
)
def test_text_counts_wherever_it_stands(params):
    assert is_longer_than(25, params)
    assert not is_longer_than(26, params)


def test_images_and_files_count_as_nothing():
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "a" * 9_999}}
    image = {**IMAGE, "source": {**IMAGE["source"], "data": "a" * 9_999}}
    assert not is_longer_than(1, request([pdf, image]))


@given(st.lists(st.text(st.characters(exclude_categories=[]))), st.integers(-3, 60))
def test_counting_is_exact_although_it_looks_at_bytes_only_where_it_must(texts, tokens):
    params = request([{"type": "text", "text": text} for text in texts])
    size = sum(len(text.encode(errors="surrogatepass")) for text in texts)
    assert is_longer_than(tokens, params) is (size > 4 * tokens)

from datetime import UTC, datetime

import pytest
from genai_prices import data_snapshot
from hypothesis import example, given
from hypothesis import strategies as st

from cheapdeep_ops.claude.profiles import UNKNOWN, profile_of
from cheapdeep_ops.model_names import is_same_model, model_name
from cheapdeep_ops.pricing import PriceBook, PriceOverride, tokenizer_ratio
from cheapdeep_ops.values import Usage

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
BOOK = PriceBook()
MODELS = [
    ("haiku", "4", "5"), ("haiku", "5", "5"), ("sonnet", "4", "5"), ("sonnet", "4", "6"), ("sonnet", "5", ""),
    ("sonnet", "5", "5"), ("opus", "4", "5"), ("opus", "4", "7"), ("opus", "5", ""), ("opus", "5", "5"),
    ("fable", "5", "1"), ("mythos", "5", "2"),
]  # fmt: skip
GLOBAL = [
    "{}", "anthropic/{}", "openrouter/anthropic/{}", "~anthropic/{}", "global.anthropic.{}", "vertex_ai/{}",
    "bedrock/global.anthropic.{}", "databricks-{}", "anthropic--{}", "azure_ai/{}",
    "projects/p/locations/global/publishers/anthropic/models/{}",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/global.anthropic.{}",
]  # fmt: skip
REGIONAL = [
    "anthropic.{}", "us.anthropic.{}", "eu.anthropic.{}", "apac.anthropic.{}", "jp.anthropic.{}", "us-gov.anthropic.{}",
    "bedrock/us-east-1/anthropic.{}", "bedrock/converse/us.anthropic.{}",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.{}",
]  # fmt: skip
ENDINGS = [
    "", "-20251001", "@20251001", "-2025-10-01", "-latest", "@default", "-v1:0", "-20251001-v1:0", "-v1", "[1m]",
    "-20251001-v1:0:200k", "@latest", ":beta",
]  # fmt: skip

models = st.sampled_from(MODELS)
endings = st.sampled_from(ENDINGS)
cases = st.sampled_from([str, str.upper, str.title])


def plain(model):
    return "-".join(filter(None, ("claude", *model)))


def spelled(model):
    """The model's name in the orders and with the marks that are in use."""
    family, major, minor = model
    numbers = [f"{major}{mark}{minor}" for mark in "-."] if minor else [major]
    return [name for number in numbers for name in (f"claude-{family}-{number}", f"claude-{number}-{family}")]


@st.composite
def names(draw, platforms):
    model = draw(models)
    name = draw(st.sampled_from(spelled(model))) + draw(endings)
    return model, draw(cases)(draw(st.sampled_from(platforms)).format(name))


def cost(model, book=BOOK):
    return book.cost(model, Usage(input_tokens=1_000, output_tokens=1_000, cache_read_tokens=500), at=NOW)


@given(names(GLOBAL + REGIONAL))
def test_every_name_of_a_model_means_that_model(given_name):
    model, name = given_name
    one = plain(model)
    assert model_name(name).name == one
    assert is_same_model(name, one)
    assert profile_of(name) is profile_of(one) is not UNKNOWN
    assert tokenizer_ratio(name, "claude-opus-4-6") == tokenizer_ratio(one, "claude-opus-4-6")
    assert tokenizer_ratio("claude-haiku-4-5", name) == tokenizer_ratio("claude-haiku-4-5", one)


@given(names(GLOBAL))
def test_a_model_has_one_price_under_all_its_names(given_name):
    model, name = given_name
    assert cost(name) == cost(plain(model)) is not None


@given(names(REGIONAL))
def test_an_endpoint_that_stays_in_its_region_costs_a_tenth_more(given_name):
    model, name = given_name
    assert cost(name) == pytest.approx(1.1 * cost(plain(model)))


@given(models, models, endings, st.sampled_from(GLOBAL + REGIONAL))
def test_two_models_are_never_taken_for_one(one, other, ending, platform):
    assert is_same_model(platform.format(plain(one)) + ending, plain(other)) is (one == other)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet"),
        ("claude-3-5-sonnet-v2@20241022", "claude-3-5-sonnet"),
        ("claude-opus-4-20250514", "claude-opus-4"),
        ("claude-opus-4-0", "claude-opus-4"),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "claude-opus-4-1"),
        ("claude-opus-10", "claude-opus-10"),
        ("anthropic/claude-haiku-latest", "claude-haiku-latest"),
    ],
)
def test_names_that_are_in_use(name, means):
    assert model_name(name).name == means


@pytest.mark.parametrize(
    "name",
    ["claude-nine", "gpt", "", "claude", "my-claude-haiku-4-5", "notanthropic.claude-opus-5", "claude-2.1", "a" * 999],
)  # fmt: skip
def test_a_name_of_unknown_form_means_itself_alone(name):
    assert model_name(name).name == name
    assert not is_same_model(name, "claude-haiku-4-5")


@pytest.mark.parametrize("ending", ["-fast", "-prod", "-2", "-20251001-x", "-5-5"])
def test_an_unknown_ending_may_mean_another_price_and_another_tier(ending):
    name = f"claude-haiku-4-5{ending}"
    assert cost(name) is None
    assert not is_same_model(name, "claude-haiku-4-5")
    assert profile_of(name) is profile_of("claude-haiku-4-5")


@given(st.text())
@example("us.anthropic." * 50)
@example("/" * 300)
@example("claude-haiku-4-5\n")
def test_any_text_may_be_a_models_name(text):
    assert is_same_model(text, text)
    assert cost(text) is None or model_name(text).family
    profile_of(text)


def test_the_price_of_a_platforms_own_name_wins_over_that_of_the_model():
    kinds = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), 2.0)
    model = PriceOverride(model="claude-opus-4-7", **kinds)
    platform = PriceOverride(model="eu.anthropic.claude-opus-4-7", **dict.fromkeys(kinds, 3.0))
    for book in (PriceBook([model, platform]), PriceBook([platform, model])):
        assert cost("eu.anthropic.claude-opus-4-7", book) == pytest.approx(0.0075)
        assert cost("us.anthropic.claude-opus-4-7", book) == pytest.approx(0.0050)
        assert cost("claude-opus-4-7", book) == pytest.approx(0.0050)
    assert cost("claude-haiku-4-5", PriceBook([model])) == cost("claude-haiku-4-5")


def bedrock_rows():
    """The catalogue's own prices of Claude on Bedrock, an independent source."""
    (amazon,) = (each for each in data_snapshot.get_snapshot().providers if each.id == "aws")
    at = datetime.fromtimestamp(NOW, UTC)
    return {
        row.id: (float(getattr(price, "base", price)), row)
        for row in amazon.models
        if ".anthropic.claude-" in row.id
        for price in [row.get_prices(at, None).input_mtok]
    }


def test_prices_on_bedrock_are_those_of_the_catalogue_for_bedrock():
    rows = bedrock_rows()
    assert len(rows) > 20
    for name, (dollars, _) in rows.items():
        place = name.replace("regional.", "us.")
        ours = BOOK.cost(place, Usage(input_tokens=1_000), at=NOW)
        assert ours == pytest.approx(dollars / 1_000), name

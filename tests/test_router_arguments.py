"""A router's wrong argument is answered in the words of this package: what to write instead, and no value."""

from pathlib import Path
from types import SimpleNamespace

import anthropic
import pytest

from cheapdeep_ops import AsyncRouter, CheapdeepError, Router, RouterArgumentError, Settings, SettingsError
from cheapdeep_ops.claude.clients import client_arguments

SECRET = "hunter2-not-to-be-seen"
both = pytest.mark.parametrize("kind", [Router, AsyncRouter])


def refused(kind, **arguments):
    with pytest.raises(RouterArgumentError) as failure:
        kind(**arguments)
    assert isinstance(failure.value, (SettingsError, TypeError))
    assert isinstance(failure.value, CheapdeepError)
    assert isinstance(failure.value, TypeError)
    assert SECRET not in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1
    return str(failure.value)


@both
@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("threshold", "base_threshold"),
        ("base_threshold", "base_threshold"),
        ("base_treshold", "base_threshold"),
        ("confidence", "base_threshold"),
        ("model", "tiers"),
        ("models", "tiers"),
        ("tiers", "tiers"),
        ("store", "store_url"),
        ("mode", "mode"),
        ("sample_rate", "sample_rate"),
        ("record", "record"),
    ],
)
def test_a_setting_that_is_given_to_the_router_is_shown_where_it_belongs(kind, option, setting):
    message = refused(kind, **{option: SECRET})
    assert message.startswith(f"{kind.__name__} has no argument {option}: ")
    assert f"{kind.__name__}(settings=Settings({setting}=...)) or the variable CHEAPDEEP_{setting.upper()}?" in message


@both
@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_known_by_its_name(kind, setting):
    if setting not in client_arguments():
        assert f"Settings({setting}=...)" in refused(kind, **{setting: SECRET})


def test_the_model_of_one_call_is_named_too():
    assert refused(Router, model=SECRET).endswith("messages.create(model=...), which it escalates to.")


@both
@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("apikey", "api_key"),
        ("timout", "timeout"),
        ("retries", "max_retries"),
        ("setting", "settings"),
        ("routes", "route"),
    ],
)
def test_a_misspelt_argument_is_answered_with_the_one_that_was_meant(kind, option, meant):
    assert refused(kind, **{option: SECRET}) == f"{kind.__name__} has no argument {option}: did you mean {meant}?"


@both
@pytest.mark.parametrize("option", ["max_tokens", "temperature", "tools", "system"])
def test_an_argument_of_a_call_is_shown_where_it_belongs(kind, option):
    assert f"it belongs to a call, messages.create({option}=...)" in refused(kind, **{option: SECRET})


@both
def test_what_nothing_is_like_is_said_to_be_unknown_with_all_faults_at_once(kind):
    message = refused(kind, zebra=SECRET, threshold=SECRET, settings={"base_threshold": SECRET})
    for part in ("has no argument zebra: settings are arguments of Settings", "base_threshold=...", "of the type dict"):
        assert part in message


@both
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "settings is of the type dict: write {}(settings=Settings(**settings))"),
        ({"base_threshold": 0.7}, "settings is of the type dict: write {}(settings=Settings(**settings))"),
        ("file.toml", "set the variable CHEAPDEEP_CONFIG_FILE to it, and write {}()"),
        (Path("file.toml"), "set the variable CHEAPDEEP_CONFIG_FILE to it, and write {}()"),
        (Settings, "settings is the class Settings: write {}(settings=Settings("),
        (SimpleNamespace(base_threshold=0.7), "settings is of the type SimpleNamespace: write {}(settings=Settings("),
        (0.7, "settings is of the type float"),
        ([], "settings is of the type list"),
        (False, "settings is of the type bool"),
    ],
)
def test_settings_of_another_type_are_answered_with_how_to_make_them(kind, settings, says):
    assert says.format(kind.__name__) in refused(kind, settings=settings)


@both
@pytest.mark.parametrize(
    ("client", "says"),
    [
        (f"sk-{SECRET}", "client is text: write {}(api_key=...)"),
        (anthropic.Anthropic, "client is the class Anthropic: write {}(client=Anthropic())"),
    ],
)
def test_what_is_no_client_is_answered_with_how_to_give_one(kind, client, says):
    assert says.format(kind.__name__) in refused(kind, client=client)


def test_a_client_for_the_other_kind_of_router_is_refused_with_that_router():
    assert "write AsyncRouter(client=...)" in refused(Router, client=anthropic.AsyncAnthropic(api_key=SECRET))
    assert "write Router(client=...)" in refused(AsyncRouter, client=anthropic.Anthropic(api_key=SECRET))


def test_options_that_the_sdk_knows_reach_its_client(api):
    options = {
        "timeout": 7.0,
        "max_retries": 1,
        "default_headers": {"x-team": "a"},
        "_strict_response_validation": True,
    }
    settings = Settings(record=False)
    with Router(settings=settings, base_url=api.url, api_key="k", **options) as router:
        assert (router.timeout, router.max_retries, router._strict_response_validation) == (7.0, 1, True)
        assert router.default_headers["x-team"] == "a"
        assert router.ask("hello").text


def test_a_client_of_its_own_kind_is_taken_as_before(api):
    class Signed(anthropic.Anthropic):
        pass

    client = Signed(base_url=api.url, api_key="k")
    with client, Router(settings=Settings(record=False), client=client) as router:
        assert router.ask("hello").text

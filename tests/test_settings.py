import json
import re
import traceback
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from cheapdeep_ops import Settings, SettingsError
from cheapdeep_ops.setting_errors import CONFIG_FILE, PREFIX, likely_settings
from cheapdeep_ops.treatment import Treatment

DEFAULTS = {
    "store_url": "sqlite:///cheapdeep.db",
    "tiers": ("claude-haiku-4-5", "claude-opus-4-7"),
    "grader_model": "claude-opus-4-7",
    "base_threshold": 0.8,
    "raised_threshold": 0.9,
    "sample_rate": 0.01,
    "max_escalation_rate": 0.35,
    "max_false_confident_rate": None,
    "mode": "enforce",
    "flush_every_s": 1.0,
    "evaluate_every_s": 5.0,
    "grade_every_s": 60.0,
    "rules_file": None,
    "slack_bot_token": None,
    "slack_channel": None,
    "slack_webhook_url": None,
    "slack_base_url": "https://slack.com/api/",
    "webhook_url": None,
    "webhook_secret": None,
    "host": "127.0.0.1",
    "port": 8642,
    "api_tokens": (),
    "api_tokens_file": None,
    "capture_content": False,
    "retain_content_days": 7.0,
    "retain_minutes_days": 2.0,
    "retain_hours_days": 31.0,
    "retain_counts_days": 3650.0,
    "retain_grades_days": 400.0,
    "keep_anchors": False,
    "max_anchors": 200,
    "retain_anchors_days": 365.0,
    "regrades_per_day": 24,
    "retain_outcomes_days": 90.0,
    "treatments": {},
    "triage_max_input_tokens": None,
}


def refused(**arguments):
    with pytest.raises(SettingsError) as failure:
        Settings(**arguments)
    assert "ValidationError" not in "".join(traceback.format_exception(failure.value))
    return str(failure.value)


@pytest.fixture
def toml(tmp_path, monkeypatch):
    """Writes a TOML file and names it to the settings."""

    def written(text):
        path = tmp_path / "cheapdeep.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv(CONFIG_FILE, str(path))
        return path

    return written


@pytest.fixture
def env(monkeypatch):
    """Sets a `CHEAPDEEP_*` variable."""
    return lambda name, value: monkeypatch.setenv(PREFIX + name, value)


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults_are_those_that_others_rely_on(name, value):
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("STORE_URL", "postgresql://db/x", "postgresql://db/x"),
        ("TIERS", "a, b ,c,", ("a", "b", "c")),
        ("TIERS", "only", ("only",)),
        ("BASE_THRESHOLD", "0", 0.0),
        ("BASE_THRESHOLD", "0.85", 0.85),
        ("RAISED_THRESHOLD", "1", 1.0),
        ("SAMPLE_RATE", "0", 0.0),
        ("MAX_FALSE_CONFIDENT_RATE", "0.02", 0.02),
        ("MODE", "observe", "observe"),
        ("RULES_FILE", "rules.yaml", Path("rules.yaml")),
        ("API_TOKENS", "one,two", (SecretStr("one"), SecretStr("two"))),
        ("PORT", "0", 0),
        ("CAPTURE_CONTENT", "true", True),
        ("RETAIN_CONTENT_DAYS", "0", 0.0),
        ("RECORD", "false", False),
        ("TREATMENTS", "images=triage, effort=bypass", {"images": "triage", "effort": "bypass"}),
        ("TREATMENTS", "", {}),
        ("TRIAGE_MAX_INPUT_TOKENS", "8000", 8000),
        ("STRUCTURED_OUTPUTS", "never", "never"),
    ],
)
def test_variables_are_read(env, name, text, value):
    env(name, text)
    assert getattr(Settings(), name.lower()) == value


def test_a_threshold_of_zero_is_a_threshold_and_not_unset(env):
    env("BASE_THRESHOLD", "0")
    env("RAISED_THRESHOLD", "0.0")
    settings = Settings()
    assert (settings.base_threshold, settings.raised_threshold) == (0.0, 0.0)
    assert "base_threshold" in settings.model_fields_set


@pytest.mark.parametrize("name", ["claude-opus-4-7", "claude-opus-4-7@default", "anthropic/claude-opus-4.7"])
def test_a_grader_is_no_second_grader_of_itself_under_another_name(env, name):
    env("SECOND_GRADER_MODEL", name)
    assert "a grader cannot check itself" in refused()


def test_tiers_become_a_cascade_whose_last_tier_is_deep(env):
    env("TIERS", "small,middle,large")
    assert [(tier.model, tier.index, tier.is_deep) for tier in Settings().cascade] == [
        ("small", 0, False),
        ("middle", 1, False),
        ("large", 2, True),
    ]


# What is refused, and how


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("BASE_THRESHOLD", "1.8", "less than or equal to 1"),
        ("BASE_THRESHOLD", "-0.1", "greater than or equal to 0"),
        ("BASE_THRESHOLD", "nan", "finite"),
        ("BASE_THRESHOLD", "high", "valid number"),
        ("BASE_THRESHOLD", "", "valid number"),
        ("RAISED_THRESHOLD", "90", "less than or equal to 1"),
        ("SAMPLE_RATE", "1%", "valid number"),
        ("MAX_ESCALATION_RATE", "0", "greater than 0"),
        ("MAX_ESCALATION_RATE", "1", "less than 1"),
        ("MAX_ESCALATION_RATE", "nan", "less than 1"),
        ("MAX_FALSE_CONFIDENT_RATE", "0", "greater than 0"),
        ("MODE", "watch", "'enforce', 'observe' or 'shadow'"),
        ("FLUSH_EVERY_S", "0", "greater than 0"),
        ("EVALUATE_EVERY_S", "inf", "finite"),
        ("EVALUATE_EVERY_S", "86401", "less than or equal to 86400"),
        ("GRADE_EVERY_S", "-5", "greater than 0"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("PORT", "http", "valid integer"),
        ("CAPTURE_CONTENT", "perhaps", "valid boolean"),
        ("RETAIN_CONTENT_DAYS", "nan", "less than or equal to 3650"),
        ("TRIAGE_TIMEOUT_S", "0", "greater than 0"),
        ("TIERS", "", "at least one model"),
        ("TIERS", " , ", "at least one model"),
        ("TIERS", "a,b,a", "none twice"),
        ("TIERS", "claude-haiku-4-5,us.anthropic.claude-haiku-4-5-20251001-v1:0", "none twice"),
        ("STRUCTURED_OUTPUTS", "sometimes", "'auto', 'always' or 'never'"),
        ("TIERS", "claude-haiku-4-5 claude-opus-4-7", "separated by commas"),
        ("TIERS", "claude-haiku-4-5;claude-opus-4-7", "separated by commas"),
        ("TIERS", '["claude-haiku-4-5","claude-opus-4-7"]', "separated by commas"),
        ("PRICE_OVERRIDES", "{not json", "a JSON list of prices"),
        ("SLACK_BASE_URL", "slack.example/api/", "https://host/path"),
        ("SLACK_BASE_URL", "ftp://slack.example/", "https://host/path"),
        ("SLACK_BASE_URL", "https:///api/", "https://host/path"),
        ("SLACK_BASE_URL", "https://a..b/", "https://host/path"),
        ("SLACK_BASE_URL", "http://h:999999/", "https://host/path"),
        ("TREATMENTS", "images", "pairs such as images=triage,effort=bypass"),
        ("TREATMENTS", "images=bypass,images=triage", "no feature twice"),
        ("TREATMENTS", "pictures=triage", "pictures is no feature; conversation, effort, sampling, "),
        ("TREATMENTS", "images=translate", "images can only be bypass or triage. "),
        ("TREATMENTS", "tools=triage", "tools can only be bypass. A triage reply is an answer or none"),
        ("TRIAGE_MAX_INPUT_TOKENS", "0", "greater than or equal to 1"),
        ("TRIAGE_MAX_INPUT_TOKENS", "many", "valid integer"),
        ("HOST", "a\udcff", "a host name or an IP address"),
        ("HOST", "a..b", "a host name or an IP address"),
    ],
)
def test_a_bad_value_is_an_error_that_names_key_value_and_range(env, name, text, says):
    env(name, text)
    message = refused()
    assert message.startswith(f"CHEAPDEEP_{name} = {text!r}: ")
    assert says in message


def test_a_host_cannot_have_a_nul():
    assert "a host name or an IP address" in refused(host="a\0b")


def test_a_value_without_end_is_refused_in_one_line_that_can_be_read(env):
    env("PRICE_OVERRIDES", "[" * 100_000)
    message = refused()
    assert "a JSON list of prices" in message
    assert len(message) < 500


def test_all_faults_are_named_at_once(env):
    env("BASE_THRESHOLD", "7")
    env("PORT", "x")
    message = refused(mode="off")
    for part in ("CHEAPDEEP_BASE_THRESHOLD = '7'", "CHEAPDEEP_PORT = 'x'", "CHEAPDEEP_MODE = 'off'"):
        assert part in message


def test_a_raised_threshold_below_the_base_is_refused(env):
    env("RAISED_THRESHOLD", "0.7")
    assert "CHEAPDEEP_RAISED_THRESHOLD = 0.7 is below CHEAPDEEP_BASE_THRESHOLD = 0.8" in refused()
    assert Settings(base_threshold=0.7).raised_threshold == 0.7


def test_an_unknown_variable_is_refused_by_name_with_the_known_ones(env):
    env("BASE_TRESHOLD", "0.8")
    env("ZEAL", "11")
    message = refused()
    assert message.startswith(
        "unknown settings CHEAPDEEP_BASE_TRESHOLD (did you mean CHEAPDEEP_BASE_THRESHOLD?), CHEAPDEEP_ZEAL; known are "
    )
    for name in DEFAULTS:
        assert f"CHEAPDEEP_{name.upper()}" in message


def test_an_unknown_argument_is_refused():
    assert refused(base_treshold=0.5) == (
        "CHEAPDEEP_BASE_TRESHOLD = 0.5: Extra inputs are not permitted; did you mean base_threshold "
        "(CHEAPDEEP_BASE_THRESHOLD)?"
    )


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CHEAPDEEP_TRESHOLD", "CHEAPDEEP_BASE_THRESHOLD or CHEAPDEEP_RAISED_THRESHOLD"),
        ("CHEAPDEEP_THRESHOLD", "CHEAPDEEP_BASE_THRESHOLD"),
        ("CHEAPDEEP_MODEL", "CHEAPDEEP_TIERS"),
        ("CHEAPDEEP_TIER", "CHEAPDEEP_TIERS"),
        ("CHEAPDEEP_DATABASE_URL", "CHEAPDEEP_STORE_URL"),
        ("CHEAPDEEP_STOREURL", "CHEAPDEEP_STORE_URL"),
        ("CHEAPDEEP_SLACK_TOKEN", "CHEAPDEEP_SLACK_BOT_TOKEN or CHEAPDEEP_SLACK_APP_TOKEN"),
        ("CHEAPDEEP_API_TOKEN", "CHEAPDEEP_API_TOKENS"),
        ("CHEAPDEEP_EVALUATE_EVERY", "CHEAPDEEP_EVALUATE_EVERY_S"),
        ("CHEAPDEEP_CONFIG", "CHEAPDEEP_CONFIG_FILE"),
        ("cheapdeep_base_treshold", "CHEAPDEEP_BASE_THRESHOLD"),
        ("CHEAPDEP_TIERS", "CHEAPDEEP_TIERS"),
        ("CHEAP_DEEP_TIERS", "CHEAPDEEP_TIERS"),
        ("CHEEPDEEP_BASE_THRESHOLD", "CHEAPDEEP_BASE_THRESHOLD"),
    ],
)
def test_a_misspelt_variable_is_answered_with_the_one_that_was_meant(monkeypatch, variable, meant):
    monkeypatch.setenv(variable, "1")
    assert refused() == f"unknown settings {variable} (did you mean {meant}?)"


@pytest.mark.parametrize(
    "variable",
    [
        "DEEPSEEK_API_KEY",
        "DEEP_PORT",
        "X_CHEAPDEEP_TIERS",
        "MY_CHEAPDEEP_STORE_URL",
        "MODE",
        "cheapdeep_base_threshold",
    ],
)
def test_variables_of_others_are_none_of_our_business_and_case_is_none(monkeypatch, variable):
    monkeypatch.setenv(variable, "0.7")
    assert Settings().base_threshold == (0.7 if "threshold" in variable else 0.8)


@given(st.sampled_from(sorted(Settings.model_fields)), st.data())
def test_any_setting_with_one_wrong_letter_is_found(name, data):
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = data.draw(st.sampled_from([name[:at] + name[at + 1 :], name[:at] + "x" + name[at:]]))
    assume(wrong not in Settings.model_fields and len(name) > 4)
    assert name in likely_settings(wrong.upper(), Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("BASE_THRESHOLD", "80", "0 to 1; 80% is written 0.8"),
        ("SAMPLE_RATE", "1%", "0 to 1; 1% is written 0.01"),
        ("BASE_THRESHOLD", "1.8", "0 to 1"),
        ("BASE_THRESHOLD", "high", "0 to 1"),
        ("MAX_ESCALATION_RATE", "35", "more than 0 and less than 1; 35% is written 0.35"),
        ("MAX_FALSE_CONFIDENT_RATE", "0", "more than 0 and less than 1"),
        ("PORT", "70000", "0 to 65535"),
        ("EVALUATE_EVERY_S", "5m", "more than 0 and at most 86400 seconds"),
        ("RENOTIFY_EVERY_S", "-1", "0 to 604800 seconds"),
        ("TRIAGE_MAX_INPUT_TOKENS", "0", "at least 1"),
        ("MAX_GRADER_USD_PER_DAY", "-1", "at least 0"),
        ("RECORD", "nope", "true or false"),
    ],
)
def test_a_value_out_of_range_is_told_its_range(env, name, text, allowed):
    env(name, text)
    assert refused().endswith(f"; allowed: {allowed}")


@given(
    st.sampled_from(sorted(Settings.model_fields)), st.floats(allow_nan=False).filter(lambda value: not 0 < value < 1)
)
def test_every_number_that_is_refused_for_its_size_comes_with_the_range(name, value):
    refused = ""
    try:
        Settings(**{name: value})
    except SettingsError as error:
        refused = str(error)
    assert "; allowed: " in refused or not re.search("(greater|less) than", refused)


def test_settings_cannot_be_changed_later():
    with pytest.raises(ValueError, match="frozen"):
        Settings().base_threshold = 0.1


# Price overrides

PRICE = {"model": "m", "input": 1, "output": 2, "cache_read": 0.1, "cache_write_5m": 1.25, "cache_write_1h": 2}


def test_price_overrides_are_json_in_the_environment(env):
    env("PRICE_OVERRIDES", json.dumps([PRICE, {**PRICE, "model": "n", "since": "2026-12-01", "batch_factor": 1}]))
    first, second = Settings().price_overrides
    assert (first.model, first.input, first.batch_factor) == ("m", 1.0, 0.5)
    assert (second.model, second.since.isoformat(), second.batch_factor) == ("n", "2026-12-01", 1.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": -1}, "CHEAPDEEP_PRICE_OVERRIDES.0.INPUT = -1: Input should be greater than or equal to 0"),
        ({"output": float("inf")}, "CHEAPDEEP_PRICE_OVERRIDES.0.OUTPUT = inf: Input should be a finite number"),
        ({"since": "soon"}, "CHEAPDEEP_PRICE_OVERRIDES.0.SINCE = 'soon': "),
        ({"inptu": 1}, "CHEAPDEEP_PRICE_OVERRIDES.0.INPTU = 1: Extra inputs are not permitted; did you mean input?"),
    ],
)
def test_a_bad_price_is_named_with_its_place(env, change, says):
    env("PRICE_OVERRIDES", json.dumps([PRICE | change]))
    assert says in refused()


# The TOML file


def test_a_toml_file_is_read(toml):
    toml(
        """
        tiers = ["small", "large"]
        base_threshold = 0.7
        [[price_overrides]]
        model = "small"
        since = 2026-12-01
        input = 1
        output = 5
        cache_read = 0.1
        cache_write_5m = 1.25
        cache_write_1h = 2
        """
    )
    settings = Settings()
    assert (settings.tiers, settings.base_threshold) == (("small", "large"), 0.7)
    assert settings.price_overrides[0].since.isoformat() == "2026-12-01"


def test_treatments_are_a_table_in_the_file_and_a_mapping_as_an_argument(toml, env):
    assert Settings(treatments={"thinking": Treatment.TRANSLATE}).treatments == {"thinking": Treatment.TRANSLATE}
    toml('[treatments]\nimages = "triage"\neffort = "bypass"')
    assert Settings().treatments == {"images": Treatment.TRIAGE, "effort": Treatment.BYPASS}
    added = Settings(treatments={"images": "bypass"}).treatments
    assert added == {"images": Treatment.BYPASS, "effort": Treatment.BYPASS}
    env("TREATMENTS", "conversation=bypass")
    assert Settings().treatments == {"conversation": Treatment.BYPASS}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            {"pictures": "triage"},
            "CHEAPDEEP_TREATMENTS = {'pictures': 'triage'}: pictures is no feature; conversation, ",
        ),
        ({"images": True}, "CHEAPDEEP_TREATMENTS = {'images': True}: images can only be bypass or triage. "),
        (["images=triage"], "CHEAPDEEP_TREATMENTS = ['images=triage']: Input should be a valid dictionary"),
        (None, "CHEAPDEEP_TREATMENTS = None: Input should be a valid dictionary"),
    ],
)
def test_treatments_of_another_shape_are_refused_by_name(value, says):
    assert refused(treatments=value).startswith(says)


def test_the_environment_wins_over_the_file_and_an_argument_over_both(toml, env):
    toml('base_threshold = 0.5\nraised_threshold = 0.95\nhost = "file"')
    env("BASE_THRESHOLD", "0.6")
    env("HOST", "env")
    settings = Settings(host="argument")
    assert (settings.base_threshold, settings.raised_threshold, settings.host) == (0.6, 0.95, "argument")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "base_treshold = 0.5",
            "CHEAPDEEP_BASE_TRESHOLD = 0.5: Extra inputs are not permitted; did you mean base_thre",
        ),
        ("base-threshold = 0.5", "did you mean base_threshold (CHEAPDEEP_BASE_THRESHOLD)?"),
        ("CHEAPDEEP_BASE_THRESHOLD = 0.5", "did you mean base_threshold (CHEAPDEEP_BASE_THRESHOLD)?"),
        ("[cheapdeep]\nmode = 'observe'", "settings stand at the top of the file, not in a table"),
        ("base_threshold = 5", "CHEAPDEEP_BASE_THRESHOLD = 5: Input should be less than or equal to 1"),
        ("[router]\nmode = 'observe'", "CHEAPDEEP_ROUTER = {'mode': 'observe'}: Extra inputs are not permitted"),
        ("base_threshold = ", "is not TOML: Invalid value"),
    ],
)
def test_a_bad_file_is_an_error_that_says_what(toml, text, says):
    toml(text)
    assert says in refused()


def test_a_missing_file_is_named(env):
    env("CONFIG_FILE", "/nowhere/cheapdeep.toml")
    assert refused() == "CHEAPDEEP_CONFIG_FILE names /nowhere/cheapdeep.toml, which is not a file"


# Secrets

SECRET = "hunter2-not-to-be-seen"


@pytest.fixture
def with_secrets(env):
    env("SLACK_BOT_TOKEN", f"xoxb-{SECRET}")
    env("SLACK_WEBHOOK_URL", f"https://hooks.example/{SECRET}")
    env("WEBHOOK_URL", f"https://hooks.example/{SECRET}")
    env("WEBHOOK_SECRET", f" {SECRET}\n")
    env("API_TOKENS", f"{SECRET},{SECRET}-2")
    env("STORE_URL", f"postgresql://user:{SECRET}@db/x")


def test_secrets_are_never_shown(with_secrets):
    settings = Settings()
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings.slack_bot_token.get_secret_value() == f"xoxb-{SECRET}"
    assert settings.webhook_secret.get_secret_value() == SECRET
    assert settings.store_url == f"postgresql://user:{SECRET}@db/x"


def test_secrets_are_in_no_error_about_something_else(with_secrets, env):
    env("RAISED_THRESHOLD", "0.1")
    assert SECRET not in refused()
    env("PORT", "x")
    env("RAISED_THRESHOLD", "7")
    assert SECRET not in refused()


@pytest.mark.parametrize(
    "text",
    [
        f"slack_bot_token = ['{SECRET}']",
        f"slack_webhook_url = {{url = '{SECRET}'}}",
        f"webhook_secret = ['{SECRET}']",
        f"api_tokens = [['{SECRET}']]",
        f"store_url = ['{SECRET}']",
        f"api_key = '{SECRET}'",
        f"[slack]\nbot_token = '{SECRET}'",
        f"[store]\npassword = '{SECRET}'",
    ],
)
def test_a_secret_of_the_wrong_shape_or_in_the_wrong_place_is_not_shown(toml, text):
    toml(text)
    message = refused()
    assert message.startswith("CHEAPDEEP_")
    assert SECRET not in message


@pytest.mark.parametrize("blank", ["", "  ", "\\u0000"])
def test_a_blank_token_is_refused_because_it_would_let_everyone_in(toml, blank):
    toml(f'api_tokens = ["{SECRET}", "{blank}"]')
    message = refused()
    assert message.startswith("CHEAPDEEP_API_TOKENS: ")
    assert SECRET not in message


def test_tokens_of_a_file_are_stripped_as_those_of_a_variable_are(toml):
    toml('api_tokens = [" one "]')
    assert Settings().api_tokens == (SecretStr("one"),)


@pytest.mark.parametrize(
    "url",
    [
        f"hooks.slack.com/services/{SECRET}",
        f"https://hooks.slack.com/services/{SECRET} ",
        f"https://hooks.slack.com/ser vices/{SECRET}",
        f"https://hooks.slack.com/services/\n{SECRET}",
        f"https://u:{SECRET}/x@hooks.slack.com",
        f"https://[::1/{SECRET}",
        f"https://\u2100{SECRET}/",
        f"file:///{SECRET}",
        "",
    ],
)
@pytest.mark.parametrize("name", ["SLACK_WEBHOOK_URL", "WEBHOOK_URL"])
def test_a_webhook_that_is_no_web_address_is_refused_and_not_shown(env, name, url):
    env(name, url)
    message = refused()
    assert message.startswith(f"CHEAPDEEP_{name}: ")
    assert "https://host/path" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"WEBHOOK_URL": f"https://hooks.example/{SECRET}"}, "CHEAPDEEP_WEBHOOK_URL needs CHEAPDEEP_WEBHOOK_SECRET"),
        ({"WEBHOOK_SECRET": SECRET}, "CHEAPDEEP_WEBHOOK_SECRET needs CHEAPDEEP_WEBHOOK_URL"),
        ({"WEBHOOK_URL": "https://a/", "WEBHOOK_SECRET": " "}, "CHEAPDEEP_WEBHOOK_SECRET: needs at least one"),
        ({"WEBHOOK_URL": "https://a/", "WEBHOOK_SECRET": f"{SECRET}\udcff"}, "CHEAPDEEP_WEBHOOK_SECRET: needs text"),
    ],
)
def test_a_webhook_needs_an_address_and_a_secret(env, given, says):
    for name, value in given.items():
        env(name, value)
    message = refused()
    assert says in message
    assert SECRET not in message


def test_a_secret_in_an_unknown_variable_is_not_shown(env):
    env("API_KEY", SECRET)
    message = refused()
    assert "CHEAPDEEP_API_KEY" in message
    assert SECRET not in message


URL_NAMES = ("GUARD_URL", "GRAFANA_URL", "CONSOLE_URL", "RUNBOOK_URL", "SLACK_BASE_URL")


@pytest.mark.parametrize(
    "url",
    [
        f"https://u:{SECRET}/x@guard.internal",
        f"https//u:{SECRET}@guard.internal",
        f"u:{SECRET}@guard.internal:8642",
        f"https://u:p@{SECRET}@guard.internal",
        f"ftp://guard.internal/?key={SECRET}",
        f"https://guard internal/#{SECRET}",
    ],
)
@pytest.mark.parametrize("name", URL_NAMES)
def test_a_login_in_a_malformed_url_is_not_shown(env, name, url):
    env(name, url)
    message = refused()
    assert message.startswith(f"CHEAPDEEP_{name}: needs a URL of the form https://host/path")
    assert SECRET not in message


def test_a_login_under_an_unknown_name_is_not_shown(env):
    env("GUARD", f"https://u:{SECRET}@guard.internal")
    assert SECRET not in refused()


@pytest.mark.parametrize("name", ["GRAFANA_URL", "CONSOLE_URL", "RUNBOOK_URL"])
def test_a_url_that_messages_show_has_no_login(env, name):
    env(name, f"https://u:{SECRET}@grafana.internal/")
    message = refused()
    assert "without a user and a password, because messages show it" in message
    assert SECRET not in message


def test_a_url_with_a_login_is_not_in_the_representation(env):
    env("GUARD_URL", f"https://u:{SECRET}@guard.internal")
    env("SLACK_BASE_URL", f"https://proxy.internal/{SECRET}/")
    settings = Settings()
    assert settings.guard_url == f"https://u:{SECRET}@guard.internal"
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)

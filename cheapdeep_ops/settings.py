"""All settings in one place: `CHEAPDEEP_*` variables, an optional TOML file, or arguments; checked at start."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.policy import BASE_THRESHOLD, RAISED_THRESHOLD
from cheapdeep_ops.pricing import PriceOverride
from cheapdeep_ops.treatment import Treatment, checked, read_changes
from cheapdeep_ops.values import Tier

PREFIX: Final = "CHEAPDEEP_"
CONFIG_FILE: Final = "CHEAPDEEP_CONFIG_FILE"
"""Names a TOML file whose keys are the settings' names in lower case; the environment wins over it."""

_SECRET_WORDS: Final = ("token", "webhook", "key", "secret", "password")
"""A fault whose key or value has one of these shows no value: an unknown key may be a secret in the wrong place."""

_PLAIN: Final = frozenset({"triage_max_input_tokens"})
"""Settings whose names have such a word, and whose values are no secrets."""

_LONGEST_SHOWN: Final = 200
"""A fault shows no more of a value: one line must stay readable."""

_NOT_SETTINGS: Final = frozenset({CONFIG_FILE, "CHEAPDEEP_LIVE"})

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def valid_text(text: str) -> str:
    """`text` as it is. Raises ValueError where it has what no database or page can hold: a NUL, half a character."""
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise ValueError("needs text in UTF-8 without NUL characters")
    return text


def filled_text(text: str) -> str:
    """`text` as it is. Raises ValueError where it is blank, or not valid as text."""
    if not text.strip():
        raise ValueError("needs at least one character that is not a space")
    return valid_text(text)


def is_web_address(text: str) -> bool:
    """Whether `text` is an http or https URL with a host, and with nothing in it that a URL cannot have."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # looking at it is what checks it
        _ = (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    is_clean = text.isascii() and text.isprintable() and " " not in text
    return is_clean and parts.scheme in ("http", "https") and bool(parts.hostname)


class Settings(BaseSettings):
    """What the router and the guard are told; every field is also the variable `CHEAPDEEP_<NAME>`.

    Rates and thresholds lie in [0, 1]; names ending in `_s` are seconds. Raises SettingsError, naming key, value and
    allowed range, for values out of range and for unknown keys.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    store_url: Annotated[str, Field(repr=False)] = "sqlite:///cheapdeep.db"
    tiers: CommaSeparated = ("claude-haiku-4-5", "claude-opus-4-7")
    grader_model: Annotated[str, AfterValidator(filled_text)] = "claude-opus-4-7"
    base_threshold: Rate = BASE_THRESHOLD
    raised_threshold: Rate = RAISED_THRESHOLD
    sample_rate: Rate = 0.01
    sampling: Literal["adaptive", "uniform"] = "adaptive"
    """Whether grades go where they tell most, with the sample rate as the budget, or all have the same chance."""
    max_escalation_rate: Annotated[float, Field(gt=0, lt=1)] = 0.35
    max_false_confident_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    mode: Literal["enforce", "observe", "shadow"] = "enforce"
    """Whether rules change thresholds, or only say what they would do, or, in shadow mode, nothing is routed either:
    the deep tier answers all calls, and triage is tried beside it on a share of them."""
    shadow_share: Rate = 0.1
    """Of the calls that could be triaged, the share on which triage is tried in shadow mode."""
    flush_every_s: Seconds = 1.0
    evaluate_every_s: Seconds = 5.0
    grade_every_s: Seconds = 60.0
    rules_file: Path | None = None
    slack_bot_token: SecretStr | None = None
    slack_channel: str | None = None
    slack_webhook_url: SecretStr | None = None
    slack_base_url: str = "https://slack.com/api/"
    webhook_url: SecretStr | None = None
    """Where messages are posted as signed JSON, which `cheapdeep_ops.guard.notify.webhook` describes."""
    webhook_secret: SecretStr | None = None
    """What those messages are signed with, so that their receiver knows who sent them."""
    renotify_every_s: Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)] = 14_400.0
    """How often people are reminded of an incident to page for that nobody has acknowledged; 0: never."""
    digest_every_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0.0
    """For how long tickets that begin after one that was told are collected into one message; 0: none are."""
    report_every: Literal["never", "weekly"] = "never"
    """Whether people get the receipt of each full week, Monday to Sunday in UTC, as a message."""
    report_hour: Annotated[int, Field(ge=0, le=23)] = 8
    """At which hour of Monday, in UTC, that is sent; later where no guard runs then."""
    grafana_url: str | None = None
    """Where Grafana is; messages then lead to the incident's window on the board."""
    console_url: str | None = None
    """Where people reach the guard's console; messages then lead to the incident there."""
    runbook_url: str | None = None
    """Where this package's README can be read; messages then lead to the section on the alert."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8642
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    guard_url: str | None = None
    """Where a guard answers HTTP; commands then ask that one, in place of the store."""
    guard_token: SecretStr | None = None
    """One of that guard's API tokens."""
    capture_content: bool = False
    retain_content_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    show_examples: bool = False
    """Whether alerts on Slack about wrong answers quote some of them, redacted."""

    triage_template: str | None = None
    """A triage prompt of the team's own; with `{{user_input}}` it replaces the last user turn, else the contract."""
    triage_timeout_s: Seconds = 30.0
    """How long a triage call may take before the call escalates; of a streamed one, until it is decided."""
    triage_max_input_tokens: Annotated[int, Field(ge=1)] | None = None
    """How long a request may be to be triaged, in tokens of four bytes; unset: what the first tier can hold."""
    treatments: Annotated[dict[str, Treatment], NoDecode] = {}
    """What is done otherwise than by default about features of requests, as far as `cheapdeep_ops.treatment` allows.

    As an argument, a mapping adds to the file's; a variable stands in the place of the file's.
    """
    sticky_turns: Annotated[int, Field(ge=0, le=1000)] = 0
    """For how many more turns a conversation goes to the deep tier at once after a turn of it went there; 0: none."""
    sticky_s: Seconds = 3_600.0
    """For how long at most."""
    breaker_failures: Annotated[int, Field(ge=0, le=1000)] = 10
    """After how many failures in a row a triage tier is left alone for a while; 0: never."""
    breaker_pause_s: Seconds = 10.0
    """For how long, at first; twice as long after each try that fails, up to twelve times."""
    ship_cheap_when_deep_fails: bool = False
    """Whether the answer of a triage tier, of whatever confidence, goes out where the deep tier cannot be reached."""
    stream_whole: bool = False
    """Whether a streamed answer is judged whole before its first character goes out, as an answer that is not."""
    price_overrides: Annotated[tuple[PriceOverride, ...], NoDecode] = ()
    """Dated prices of the team's own, in US dollars per million tokens."""
    grade_by: Literal["direct", "batch"] = "direct"
    """How gradings are asked for: one by one, or in Message Batches, at half the price and within a day."""
    grade_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    max_grader_usd_per_day: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    """What grading may cost in any 24 hours, as far as it is priced; samples wait beyond that."""
    second_grader_model: Annotated[str, AfterValidator(filled_text)] | None = None
    """A model that grades a part of the graded answers once more, to compare the two judges."""
    second_grader_share: Rate = 0.1
    """How large that part is."""
    max_candidates: Annotated[int, Field(ge=1)] = 20_000
    """Of how many answers the store keeps the content for grading; older ones are forgotten first."""
    record: bool = True
    """Whether the router counts into the store; off, it follows no policy either."""

    def __init__(self, **values: Any) -> None:
        unknown = _unknown_variables(os.environ, type(self).model_fields)
        if unknown:
            raise SettingsError(unknown)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_faults(error)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the TOML file that `CHEAPDEEP_CONFIG_FILE` names."""
        path = os.environ.get(CONFIG_FILE)
        if path is None:
            return (init_settings, env_settings)
        return (init_settings, env_settings, _toml_source(settings_cls, Path(path)))

    @field_validator("tiers", "api_tokens", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("price_overrides", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"needs a JSON list of prices; {error}") from None

    @field_validator("treatments", mode="before")
    @classmethod
    def _read_pairs(cls, value: object) -> object:
        changes = read_changes(value) if isinstance(value, str) else value
        return checked(changes) if isinstance(changes, Mapping) else changes

    @field_validator("api_tokens")
    @classmethod
    def _filled(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(SecretStr(filled_text(token.get_secret_value().strip())) for token in value)

    @field_validator(
        "slack_webhook_url", "slack_base_url", "webhook_url", "grafana_url", "console_url", "runbook_url", "guard_url"
    )
    @classmethod
    def _reachable(cls, value: SecretStr | str | None) -> SecretStr | str | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not is_web_address(text):
            raise ValueError("needs a URL of the form https://host/path, without spaces")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _secret(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(filled_text(value.get_secret_value().strip()))

    @field_validator("guard_token")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        token = filled_text(value.get_secret_value().strip())
        if not (token.isascii() and token.isprintable()):
            raise ValueError("needs printable characters of ASCII, because it goes into a header")
        return SecretStr(token)

    @field_validator("host")
    @classmethod
    def _nameable(cls, value: str) -> str:
        try:
            valid_text(value).encode("idna")
        except ValueError:
            raise ValueError("needs a host name or an IP address") from None
        return value

    @field_validator("tiers")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("needs at least one model, and none twice")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.raised_threshold < self.base_threshold:
            raise ValueError(
                f"CHEAPDEEP_RAISED_THRESHOLD = {self.raised_threshold:g} is below CHEAPDEEP_BASE_THRESHOLD = "
                f"{self.base_threshold:g}: it must lie between that and 1"
            )
        return self

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ValueError("CHEAPDEEP_WEBHOOK_URL needs CHEAPDEEP_WEBHOOK_SECRET, the secret to sign messages with")
        if self.webhook_secret is not None and self.webhook_url is None:
            raise ValueError("CHEAPDEEP_WEBHOOK_SECRET needs CHEAPDEEP_WEBHOOK_URL, the address to post messages to")
        return self

    @model_validator(mode="after")
    def _two_judges(self) -> Self:
        if self.second_grader_model == self.grader_model:
            raise ValueError(
                f"CHEAPDEEP_SECOND_GRADER_MODEL = {self.grader_model!r} is CHEAPDEEP_GRADER_MODEL too: a judge cannot "
                "check itself"
            )
        return self

    @property
    def graded_share(self) -> float:
        """The share of confident answers that is graded; 0 where no content may be kept for that."""
        return self.sample_rate if self.retain_content_days else 0.0

    @property
    def shows_examples(self) -> bool:
        """Whether wrong answers may be quoted: that is wanted, and content is kept at all."""
        return self.show_examples and self.retain_content_days > 0

    @property
    def has_threads(self) -> bool:
        """Whether messages have threads: a webhook cannot reply to what it has posted."""
        return self.slack_bot_token is not None

    @property
    def cascade(self) -> tuple[Tier, ...]:
        """The tiers in order; the last one is the deep tier."""
        last = len(self.tiers) - 1
        return tuple(Tier(model=model, index=i, is_deep=i == last) for i, model in enumerate(self.tiers))


def _toml_source(settings_cls: type[BaseSettings], path: Path) -> TomlConfigSettingsSource:
    if not path.is_file():
        raise SettingsError(f"{CONFIG_FILE} names {path}, which is not a file")
    try:
        return TomlConfigSettingsSource(settings_cls, path)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None


def _unknown_variables(environ: Mapping[str, str], fields: Iterable[str]) -> str:
    known = {PREFIX + name.upper() for name in fields} | _NOT_SETTINGS
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return "" if not unknown else f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}"


def _faults(error: ValidationError) -> str:
    """All faults in one message; the values of secrets stay out of it."""
    return "; ".join(_fault(dict(fault)) for fault in error.errors(include_url=False))


def _fault(fault: dict[str, Any]) -> str:
    if not fault["loc"]:
        return str(fault["msg"])
    key = ".".join(map(str, fault["loc"]))
    shown = f" = {fault['input']!r}"
    told = shown if key in _PLAIN else f"{key}{shown}"
    if key == "store_url" or any(word in told.casefold() for word in _SECRET_WORDS):
        shown = ""
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return f"{PREFIX}{key.upper()}{shown}: {fault['msg'].removeprefix('Value error, ')}"

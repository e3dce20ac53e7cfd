"""All settings: from `CHEAPDEEP_*` variables, an optional TOML file, or arguments; validated at start."""

import json
import os
import re
from collections.abc import Mapping
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

from cheapdeep_ops.addresses import guard_url_trouble, is_guard_url, is_web_address
from cheapdeep_ops.budgets import AtBudget
from cheapdeep_ops.errors import SettingsError
from cheapdeep_ops.model_names import is_same_model, model_name
from cheapdeep_ops.policy import BASE_THRESHOLD, RAISED_THRESHOLD
from cheapdeep_ops.pricing import PriceOverride
from cheapdeep_ops.setting_errors import CONFIG_FILE, PREFIX, faults, unknown_variables
from cheapdeep_ops.treatment import Treatment, checked, read_changes
from cheapdeep_ops.units import DAY_S, WEEK_S
from cheapdeep_ops.values import Tier

_SLACK_ID: Final = re.compile(r"[UWS][A-Z0-9]{2,}")
"""An id of a user or a user group."""

_NOT_IN_MODELS: Final = " ;[]\"'"
"""Characters that no model's name has, and that other ways to write a list have."""

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=DAY_S, allow_inf_nan=False)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def valid_text(text: str) -> str:
    """`text` unchanged. Raises ValueError if it has a NUL character or a lone surrogate, which cannot be stored."""
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise ValueError("needs text in UTF-8 without NUL characters")
    return text


def filled_text(text: str) -> str:
    """`text` unchanged. Raises ValueError if it is blank or not valid text."""
    if not text.strip():
        raise ValueError("needs at least one character that is not a space")
    return valid_text(text)


class Settings(BaseSettings):
    """The settings of the router and the guard; each field is also the variable `CHEAPDEEP_<NAME>`.

    Rates and thresholds lie in [0, 1]; names that end in `_s` are seconds. Raises SettingsError for unknown keys and
    for values out of range; it names key, value and allowed range.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    store_url: Annotated[str, Field(repr=False)] = "sqlite:///cheapdeep.db"
    tiers: CommaSeparated = ("claude-haiku-4-5", "claude-opus-4-7")
    grader_model: Annotated[str, AfterValidator(filled_text)] = "claude-opus-4-7"
    base_threshold: Rate = BASE_THRESHOLD
    raised_threshold: Rate = RAISED_THRESHOLD
    sample_rate: Rate = 0.01
    sampling: Literal["adaptive", "uniform"] = "adaptive"
    """`adaptive`: more grades under suspicion and fewer in calm, with the sample rate as budget. `uniform`: one."""
    max_escalation_rate: Annotated[float, Field(gt=0, lt=1)] = 0.35
    max_false_confident_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    mode: Literal["enforce", "observe", "shadow"] = "enforce"
    """`enforce`: rules change thresholds. `observe`: rules only report what they would do. `shadow`: the deep tier
    answers all calls, and triage runs beside it on a share of them; rules only report."""
    shadow_share: Rate = 0.1
    """The share of triageable calls on which shadow mode runs triage."""
    flush_every_s: Seconds = 1.0
    spool_dir: Path | None = None
    """Where a router leaves what a database did not take until its close; the next process stores it."""
    evaluate_every_s: Seconds = 5.0
    grade_every_s: Seconds = 60.0
    rules_file: Path | None = None
    slack_bot_token: SecretStr | None = None
    slack_channel: str | None = None
    slack_webhook_url: SecretStr | None = None
    slack_base_url: Annotated[str, Field(repr=False)] = "https://slack.com/api/"
    slack_app_token: SecretStr | None = None
    """The app-level token with which the guard takes clicks on its messages by Socket Mode."""
    slack_signing_secret: SecretStr | None = None
    """The secret with which the guard checks clicks that Slack posts to `/slack/interactions`."""
    slack_may_act: CommaSeparated = ("members",)
    """Who may press buttons: `members` (full members of the workspace in the channel), ids of users, or of groups."""
    slack_may_lower: CommaSeparated = ()
    """Who of these may lower a threshold or have a normal learned again; empty: all of them."""
    webhook_url: SecretStr | None = None
    """Where messages are posted as signed JSON, which `cheapdeep_ops.guard.notify.webhook` describes."""
    webhook_secret: SecretStr | None = None
    """The secret that signs those messages, so that the receiver can verify the sender."""
    renotify_every_s: Annotated[float, Field(ge=0, le=WEEK_S, allow_inf_nan=False)] = 14_400.0
    """How often a message reminds of an unacknowledged page-severity incident; 0: never."""
    digest_every_s: Annotated[float, Field(ge=0, le=DAY_S, allow_inf_nan=False)] = 0.0
    """After a ticket-severity message, further tickets of this period go into one digest; 0: no digests."""
    report_every: Literal["never", "weekly"] = "never"
    """Whether the receipt of each full week (Monday to Sunday, UTC) is sent as a message."""
    report_hour: Annotated[int, Field(ge=0, le=23)] = 8
    """The hour of Monday (UTC) at which the receipt is sent; later if no guard runs at that time."""
    grafana_url: Annotated[str | None, Field(repr=False)] = None
    """The URL of Grafana; messages then link to the incident's time window on the dashboard."""
    environment: Annotated[str, AfterValidator(filled_text), Field(max_length=40)] | None = None
    """The environment's name, such as `production`; people see it with what they look at."""
    console_url: Annotated[str | None, Field(repr=False)] = None
    """The URL of the guard's console; messages then link to the incident there."""
    runbook_url: Annotated[str | None, Field(repr=False)] = None
    """The URL of the runbook; messages then link to the section on the alert."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8642
    tls_cert: Path | None = None
    """The file with the certificate chain (PEM) with which the guard serves HTTPS; it needs `tls_key`."""
    tls_key: Path | None = None
    """The file with the private key of that certificate (PEM, without a passphrase)."""
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    api_tokens_file: Path | None = None
    """The file of API tokens that `cheapdeep_ops.access.token_file` describes; the guard follows its changes."""
    guard_url: Annotated[str | None, Field(repr=False)] = None
    """The URL of a guard; commands then use its HTTP API instead of the store."""
    guard_token: SecretStr | None = None
    """An API token of that guard."""
    gateway_host: str = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65_535)] = 8643
    gateway_keys_file: Path | None = None
    """The file of tokens whose role `call` makes them keys of the gateway; unset: callers send their own API keys."""
    gateway_status_within_s: Seconds = 10.0
    """When the gateway begins the response to a stream at the latest, if no tier has answered by then."""
    gateway_stop_within_s: Seconds = 25.0
    """How long the gateway waits at its end for responses that have begun; it breaks off those that take longer."""
    capture_content: bool = False
    retain_content_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    retain_minutes_days: Annotated[float, Field(ge=0.25, le=3650)] = 2.0
    """How long the counters of each minute are stored; after an hour they replace those of each second."""
    retain_hours_days: Annotated[float, Field(ge=1, le=3650)] = 31.0
    """How long the counters of each hour are stored."""
    retain_counts_days: Annotated[float, Field(ge=1, le=36_500)] = 3650.0
    """How long the counters of each day are stored; they answer for all older periods."""
    retain_grades_days: Annotated[float, Field(ge=1, le=36_500)] = 400.0
    """How long grades, and the rows of their calls, are stored; longer if a rule needs them, or a normal is learned."""
    retain_outcomes_days: Annotated[float, Field(ge=1, le=3650)] = 90.0
    """How long outcomes are stored that users report."""
    keep_anchors: bool = False
    """Whether the team agrees to keep the redacted text of labelled answers, so that they can be graded again."""
    max_anchors: Annotated[int, Field(ge=2, le=1_000)] = 200
    """The largest number of labelled answers whose text is kept so."""
    retain_anchors_days: Annotated[float, Field(ge=1, le=3650)] = 365.0
    """How long after its call that text is kept."""
    show_examples: bool = False
    """Whether alerts on Slack about wrong answers quote some of them, redacted."""

    triage_template: str | None = None
    """The team's own triage prompt; with `{{user_input}}` it replaces the last user turn, else the contract."""
    triage_timeout_s: Seconds = 30.0
    """The time limit of a triage call, after which the call escalates; for a stream, the limit until it is decided."""
    triage_max_input_tokens: Annotated[int, Field(ge=1)] | None = None
    """The longest request that is triaged, in tokens of four bytes; unset: the first tier's context window."""
    structured_outputs: Literal["auto", "always", "never"] = "auto"
    """Whether triage asks for JSON by `output_config.format`: where the model accepts it, everywhere or nowhere."""
    treatments: Annotated[dict[str, Treatment], NoDecode] = {}
    """Treatments of request features that differ from the defaults in `cheapdeep_ops.treatment`.

    An argument is merged with the TOML file's mapping; a variable replaces it.
    """
    sticky_turns: Annotated[int, Field(ge=0, le=1000)] = 0
    """After an escalated turn, this many further turns of the conversation skip triage; 0: none."""
    sticky_s: Seconds = 3_600.0
    """The longest time that this lasts."""
    breaker_failures: Annotated[int, Field(ge=0, le=1000)] = 10
    """After this many failures in a row, calls skip a triage tier for a while; 0: never."""
    breaker_pause_s: Seconds = 10.0
    """The first such pause; each failed probe doubles it, up to twelve times its length."""
    ship_cheap_when_deep_fails: bool = False
    """Whether a triage answer of any confidence goes out if the deep tier cannot be reached."""
    stream_whole: bool = False
    """Whether a streamed answer is read whole before its first character goes out."""
    price_overrides: Annotated[tuple[PriceOverride, ...], NoDecode] = ()
    """The team's own dated prices, in US dollars per million tokens."""
    grade_by: Literal["direct", "batch"] = "direct"
    """`direct`: one call for each grading. `batch`: Message Batches, at half the price and within a day."""
    grade_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    regrades_per_day: Annotated[int, Field(ge=0, le=1_440)] = 24
    """How many labelled answers are graded again each day, to see whether the grader has changed; 0: none."""
    max_grader_usd_per_day: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    """The limit on the cost of priced gradings in any 24 hours; further samples wait."""
    second_grader_model: Annotated[str, AfterValidator(filled_text)] | None = None
    """A model that grades a share of the graded answers again, to compare the two graders."""
    second_grader_share: Rate = 0.1
    """That share."""
    max_candidates: Annotated[int, Field(ge=1)] = 20_000
    """The largest number of answers whose content the store keeps for grading; the oldest content is removed first."""
    max_routes: Annotated[int, Field(ge=1, le=10_000)] = 200
    """How many routes the fleet counts by name; calls of further ones count as `other`."""
    max_input_classes: Annotated[int, Field(ge=0, le=10_000)] = 50
    """How many input classes of each route it counts by name."""
    usd_per_day: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """The budget for all spend on calls, in US dollars for each day of UTC; unset: none."""
    deep_usd_per_day: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """The budget for what the deep tier costs; unset: none."""
    at_budget: AtBudget = "alert"
    """What calls do when a budget is used up. `alert`: they go on. `ship`: a cheap answer below the threshold goes out
    in place of the deep tier's. `refuse`: they raise `BudgetError`."""
    at_budget_otherwise: Literal["deep", "refuse"] = "deep"
    """With `ship`: what calls do that have no cheap answer, or are bypassed."""
    record: bool = True
    """Whether the router counts into the store; if not, it reads no policy either."""

    def __init__(self, **values: Any) -> None:
        # pydantic-settings ignores unknown variables, so that a misspelt one would have no effect.
        unknown = unknown_variables(os.environ, type(self).model_fields)
        if unknown:
            raise SettingsError(unknown)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(faults(error, type(self))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Sources in their order of precedence: arguments, the environment, the file in `CHEAPDEEP_CONFIG_FILE`."""
        path = os.environ.get(CONFIG_FILE)
        if path is None:
            return (init_settings, env_settings)
        return (init_settings, env_settings, _toml_source(settings_cls, Path(path)))

    @field_validator("store_url")
    @classmethod
    def _safe_to_send_to(cls, value: str) -> str:
        if is_guard_url(value) and (trouble := guard_url_trouble(value)):
            raise ValueError(trouble)
        return value.strip() if is_guard_url(value) else value

    @field_validator("tiers", "api_tokens", "slack_may_act", "slack_may_lower", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # A variable is text, and a TOML file has a list.
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("price_overrides", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        # Deeply nested JSON raises RecursionError, which pydantic would not turn into a fault.
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

    @field_validator("grafana_url", "console_url", "runbook_url")
    @classmethod
    def _shareable(cls, value: str | None) -> str | None:
        if value is not None and "@" in urlsplit(value).netloc:
            raise ValueError("needs a URL without a user and a password, because messages show it")
        return value

    @field_validator("slack_may_act", "slack_may_lower")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [each for each in value if each != "members" and not _SLACK_ID.fullmatch(each)]
        if wrong:
            kinds = "ids of users (U012AB3CD, W012AB3CD) or ids of user groups (S012AB3CD)"
            raise ValueError(f"needs members, {kinds}, not {wrong[0]!r}")
        return value

    @field_validator("slack_app_token", "slack_signing_secret", "webhook_secret")
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
            raise ValueError("needs printable ASCII characters, because it is sent in a header")
        return SecretStr(token)

    @field_validator("host", "gateway_host")
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
        if not value or len({model_name(model).name for model in value}) != len(value):
            raise ValueError("needs at least one model, and none twice")
        if any(mark in model for model in value for mark in _NOT_IN_MODELS):
            raise ValueError(
                "needs names of models that are separated by commas, such as claude-haiku-4-5,claude-opus-4-7"
            )
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
    def _allowed_to_send(self) -> Self:
        if is_guard_url(self.store_url) and self.guard_token is None:
            raise ValueError(
                "CHEAPDEEP_STORE_URL is the URL of a guard, which needs CHEAPDEEP_GUARD_TOKEN: a token that may send "
                "counts to that guard"
            )
        return self

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if not self.record and (self.usd_per_day is not None or self.deep_usd_per_day is not None):
            raise ValueError("CHEAPDEEP_RECORD is off, and a budget needs what the fleet counts: unset one of them")
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("CHEAPDEEP_TLS_CERT and CHEAPDEEP_TLS_KEY need each other: set both or none")
        return self

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ValueError("CHEAPDEEP_WEBHOOK_URL needs CHEAPDEEP_WEBHOOK_SECRET, the secret to sign messages with")
        if self.webhook_secret is not None and self.webhook_url is None:
            raise ValueError("CHEAPDEEP_WEBHOOK_SECRET needs CHEAPDEEP_WEBHOOK_URL, the address to post messages to")
        return self

    @model_validator(mode="after")
    def _clickable(self) -> Self:
        # Only a bot's messages have buttons, and only a bot can open forms.
        for name in ("slack_app_token", "slack_signing_secret"):
            if getattr(self, name) is not None and self.slack_bot_token is None:
                raise ValueError(f"CHEAPDEEP_{name.upper()} needs CHEAPDEEP_SLACK_BOT_TOKEN, the bot that has buttons")
        if not self.slack_may_act:
            raise ValueError("CHEAPDEEP_SLACK_MAY_ACT is empty: name people, or unset CHEAPDEEP_SLACK_APP_TOKEN")
        return self

    @model_validator(mode="after")
    def _two_graders(self) -> Self:
        if self.second_grader_model is not None and is_same_model(self.second_grader_model, self.grader_model):
            raise ValueError(
                f"CHEAPDEEP_SECOND_GRADER_MODEL = {self.second_grader_model!r} is CHEAPDEEP_GRADER_MODEL too: a "
                "grader cannot check itself"
            )
        return self

    @property
    def is_store_remote(self) -> bool:
        """Whether the store is behind a guard, which this process reaches over HTTP."""
        return is_guard_url(self.store_url)

    @property
    def asked_guard(self) -> str | None:
        """The URL of the guard that commands ask: `guard_url`, or `store_url` if that is a guard's; None: no guard."""
        return self.guard_url or (self.store_url if self.is_store_remote else None)

    @property
    def graded_share(self) -> float:
        """The share of confident answers that is graded; 0 if no content may be stored."""
        return self.sample_rate if self.retain_content_days else 0.0

    @property
    def kept_anchors(self) -> int:
        """The largest number of labelled answers whose text is kept; 0 if none may be."""
        return self.max_anchors if self.keep_anchors and self.retain_content_days else 0

    @property
    def shows_examples(self) -> bool:
        """Whether alerts may quote wrong answers: the setting is on, and content is stored."""
        return self.show_examples and self.retain_content_days > 0

    @property
    def has_threads(self) -> bool:
        """Whether Slack messages can have threads: only a bot can reply to a message, a webhook cannot."""
        return self.slack_bot_token is not None

    @property
    def has_buttons(self) -> bool:
        """Whether messages on Slack have buttons: the guard has a way to receive clicks."""
        return self.slack_app_token is not None or self.slack_signing_secret is not None

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

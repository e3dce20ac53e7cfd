"""The check of a router's arguments: an error says what to write instead, without showing a value."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final

from cheapdeep_ops.errors import RouterArgumentError
from cheapdeep_ops.router.provider import Anthropic, AsyncAnthropic, CallParams, client_arguments

_OWN: Final = ("client", "clock", "new_id", "recorder", "redact", "route", "settings", "telemetry")
_OF_A_CALL: Final = {"max_tokens", "messages", "temperature", "top_k", "top_p", *CallParams.__annotations__} - {"model"}
_DEEP_MODEL: Final = " The model of one call is messages.create(model=...), which it escalates to."


def check_arguments(router: object, *, settings: object, client: object, options: Iterable[str]) -> None:
    """Raise RouterArgumentError if an argument of `router` has a wrong type, or if it has no such argument.

    `options` are the names of the arguments for the SDK's client.
    """
    name = type(router).__name__
    problems = [
        _wrong_settings(name, settings),
        _wrong_client(name, client, is_async=isinstance(router, AsyncAnthropic)),
    ]
    if options:
        known = client_arguments()
        problems += [_unknown(name, option, known) for option in options if option not in known]
    if found := "; ".join(filter(None, problems)):
        raise RouterArgumentError(found)


def _wrong_settings(router: str, settings: object) -> str:
    if settings is None:
        return ""
    # Imported here, because it takes long, and a caller with settings has it already.
    from cheapdeep_ops.settings import Settings  # noqa: PLC0415

    if isinstance(settings, Settings):
        return ""
    if isinstance(settings, (str, PurePath)):
        return (
            "settings is the name of a file: set the variable CHEAPDEEP_CONFIG_FILE to it, and write "
            f"{router}(), which reads that file"
        )
    written = "Settings(**settings)" if isinstance(settings, Mapping) else "Settings(base_threshold=0.7)"
    return f"settings is {_what(settings)}: write {router}(settings={written})"


def _wrong_client(router: str, client: object, *, is_async: bool) -> str:
    if isinstance(client, str):
        return f"client is text: write {router}(api_key=...) or {router}(base_url=...)"
    if isinstance(client, type):
        return f"client is {_what(client)}: write {router}(client={client.__name__}())"
    if isinstance(client, Anthropic if is_async else AsyncAnthropic):
        needed, other = ("an AsyncAnthropic", "Router") if is_async else ("an Anthropic", "AsyncRouter")
        return f"client is {_what(client)}: {router} needs {needed}; for this client write {other}(client=...)"
    return ""


def _unknown(router: str, option: str, known: Iterable[str]) -> str:
    """What is wrong with an argument that neither the router nor the SDK's client has, and what to write instead."""
    # Imported here, because a router without a fault needs none of these.
    from cheapdeep_ops.setting_errors import likely_settings, variable_of  # noqa: PLC0415
    from cheapdeep_ops.settings import Settings  # noqa: PLC0415
    from cheapdeep_ops.suggestions import did_you_mean  # noqa: PLC0415

    def written(name: str) -> str:
        is_setting = name in Settings.model_fields
        return f"{router}(settings=Settings({name}=...)) or the variable {variable_of(name)}" if is_setting else name

    if option in _OF_A_CALL:
        return f"{router} has no argument {option}: it belongs to a call, messages.create({option}=...)"
    question = did_you_mean(map(written, likely_settings(option, [*Settings.model_fields, *_OWN, *known])[:1]))
    advice = question or "settings are arguments of Settings"
    return f"{router} has no argument {option}: {advice}{_DEEP_MODEL if option == 'model' else ''}"


def _what(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of the type {type(value).__name__}"

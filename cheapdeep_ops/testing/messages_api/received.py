"""The requests that the simulated API received, and how to read their bodies."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cheapdeep_ops.testing.messages_api.wire import CHARS_PER_TOKEN

SECRET_HEADERS: Final = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
TRIAGE_FIELDS: Final = frozenset({"confidence", "answer"})
GRADING_FIELDS: Final = frozenset({"reason", "verdict"})
THINKING_OFF: Final = frozenset({"disabled", "between_tools"})
"""The types of the `thinking` parameter that switch it off in a request without tools."""

IMAGE_CHARS: Final = 1_600 * CHARS_PER_TOKEN
"""The characters that an image counts as: the API scales large images down to about 1,600 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request to the simulated API, without its credentials."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Headers by lower-case name, without those that hold credentials."""
    body: Mapping[str, Any]
    """The parsed JSON object; empty if there was none."""
    at: float
    """The simulator's clock, in seconds."""
    query: str = ""
    """The text behind the question mark of the address."""
    raw: bytes = b""
    """The body as it arrived, byte for byte; empty for a request of a batch."""

    @property
    def model(self) -> str:
        """The model that it names, or an empty string."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def is_triage(self) -> bool:
        """Whether it asks for a confidence and an answer."""
        return asks_for_triage(self.body)

    @property
    def is_grading(self) -> bool:
        """Whether it asks for a reason and a verdict on an answer; False for a triage request."""
        return asks_for_grading(self.body)

    @property
    def graded_answer(self) -> str | None:
        """The answer to grade; None if it is no grading request, or holds no answer."""
        return graded_answer(self.body)

    @property
    def question(self) -> str:
        """The text of the last user turn, or an empty string."""
        return last_user_text(self.body)


def json_object(text: str | bytes) -> dict[str, object] | None:
    """Parse a JSON object; None if `text` is anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def without_secrets(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers with lower-case names, credentials left out."""
    return {name.lower(): value for name, value in headers if name.lower() not in SECRET_HEADERS}


def last_user_text(body: Mapping[str, object]) -> str:
    """Return the text of the last user turn, or an empty string."""
    for turn in reversed(turns_of(body)):
        if turn.get("role") == "user":
            return text_of(turn.get("content"))
    return ""


def text_of(content: object) -> str:
    """Return the text of a string or of a list of blocks, with one line for each block."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block["text"]) for block in blocks if isinstance(block, dict) and "text" in block)


def asks_for_triage(body: Mapping[str, object]) -> bool:
    """Whether this is a triage request, by its output schema; without one, by a prompt that names both fields."""
    fields = _schema_fields(body)
    if fields is not None:
        return fields >= TRIAGE_FIELDS
    prompt = text_of(body.get("system")) + "\n" + last_user_text(body)
    return _names(prompt, TRIAGE_FIELDS) and not asks_for_grading(body)


def asks_for_grading(body: Mapping[str, object]) -> bool:
    """Whether this is a grading request, by its output schema; without one, by a system prompt with both fields."""
    fields = _schema_fields(body)
    if fields is not None:
        return fields >= GRADING_FIELDS and not fields >= TRIAGE_FIELDS
    system, question = text_of(body.get("system")), last_user_text(body)
    if not _names(system, GRADING_FIELDS) or _names(system, TRIAGE_FIELDS):
        return False
    # A caller's own system prompt may name these fields; the triage contract may be in the user's turn.
    return not _names(question, TRIAGE_FIELDS) or _is_document(json_object(question))


def graded_answer(body: Mapping[str, object]) -> str | None:
    """Return the answer in a grading request's document; None if there is none."""
    document = json_object(last_user_text(body)) if asks_for_grading(body) else None
    answer = document.get("answer") if document is not None else None
    return answer if isinstance(answer, str) else None


def thinking_type(body: Mapping[str, object]) -> str:
    """Return the type of the `thinking` parameter, or an empty string."""
    thinking = body.get("thinking")
    return str(thinking.get("type")) if isinstance(thinking, dict) else ""


def input_tokens(body: Mapping[str, object]) -> int:
    """Estimate the tokens of tools, system prompt and messages, at four characters each; at least 1."""
    chars = chars_in(body.get("tools")) + chars_in(body.get("system"))
    chars += sum(chars_in(turn.get("content")) for turn in turns_of(body))
    return max(1, -(-chars // CHARS_PER_TOKEN))


def _names(text: str, fields: frozenset[str]) -> bool:
    return all(f'"{field}"' in text for field in fields)


def _is_document(document: Mapping[str, object] | None) -> bool:
    return document is not None and {"conversation", "answer"} <= set(document)


def _schema_fields(body: Mapping[str, object]) -> set[str] | None:
    schema = _output_schema(body)
    if schema is None:
        return None
    properties = schema.get("properties")
    return set(properties) if isinstance(properties, dict) else set()


def _output_schema(body: Mapping[str, object]) -> Mapping[str, object] | None:
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else {}


def turns_of(body: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return the turns of a request; malformed ones are left out."""
    messages = body.get("messages")
    return [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []


def chars_in(content: object) -> int:
    """Count the characters of a string, of blocks or of one block; an image counts as IMAGE_CHARS."""
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        return sum(map(chars_in, content))
    if not isinstance(content, dict):
        return 0
    content = {name: value for name, value in content.items() if name != "cache_control"}
    if content.get("type") == "image":
        return IMAGE_CHARS
    if "text" in content:
        return len(str(content["text"]))
    return chars_in(content["content"]) if "content" in content else len(json.dumps(content))

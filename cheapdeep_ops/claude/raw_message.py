"""A triage reply as the API sent it. The SDK's `Message` is made from it only if the caller gets the answer."""

from typing import Any

import httpx2
from anthropic.types import Message, TextBlock
from pydantic import ValidationError
from pydantic_core import from_json

from cheapdeep_ops.claude.response_headers import ResponseHeaders


class RawMessage:
    """A message with the names of the SDK's attributes; content and usage are plain data, which is decoded JSON."""

    def __init__(self, fields: dict[str, Any], headers: ResponseHeaders) -> None:
        self._fields, self._headers = fields, headers
        self.id: str = fields["id"]
        self.model: str = fields["model"]
        self.stop_reason: str | None = fields.get("stop_reason")
        self.content: list[Any] = fields["content"]
        self.usage: object = fields.get("usage")
        self.container: object = fields.get("container")

    @property
    def headers(self) -> httpx2.Headers:
        """The headers of its response."""
        return self._headers.all

    def fields_with_answer(self, answer: str) -> dict[str, Any]:
        """Its fields as the API sent them, but with `answer` as the content."""
        return {**self._fields, "content": [{"type": "text", "text": answer}]}

    def with_answer(self, answer: str) -> Message:
        """The SDK's message, with `answer` as its content; all other fields stay."""
        try:
            # Pydantic would try each type of block in turn, which takes longer than all else.
            message = Message.model_validate({**self._fields, "content": []}, strict=True)
            message.content = [TextBlock(type="text", text=answer, citations=None)]
        except ValidationError:  # a field is not as the SDK's types say
            content = [{"type": "text", "text": answer, "citations": None}]
            message = Message.construct(**{**self._fields, "content": content})
        self._headers.add_ids_to(message)
        return message


def raw_message(response: httpx2.Response) -> RawMessage | None:
    """The message in a response; None if it has another form, which the SDK may be able to read."""
    headers = ResponseHeaders(response)
    if not headers.is_json:
        return None
    try:
        fields = from_json(response.content)
    except ValueError:
        return None
    return RawMessage(fields, headers) if _is_message(fields) else None


def _is_message(fields: Any) -> bool:
    if not isinstance(fields, dict) or fields.get("type") != "message":
        return False
    content, stop_reason = fields.get("content"), fields.get("stop_reason")
    if not isinstance(content, list) or not (stop_reason is None or isinstance(stop_reason, str)):
        return False
    return isinstance(fields.get("id"), str) and isinstance(fields.get("model"), str) and all(map(_is_block, content))


def _is_block(block: object) -> bool:
    return isinstance(block, dict) and (block.get("type") != "text" or isinstance(block.get("text"), str))

"""The headers of a response that the SDK reads for a message."""

import httpx2
from anthropic.types import Message


class ResponseHeaders:
    """Whether the body is JSON, and the ids that the SDK adds to a message."""

    def __init__(self, response: httpx2.Response) -> None:
        # Read in one pass, because each look-up by name goes through the whole list.
        headers = {name.lower(): value for name, value in response.headers.raw}
        self.is_json = headers.get(b"content-type", b"").partition(b";")[0].endswith(b"json")
        self._request_id, self._workspace_id = headers.get(b"request-id"), headers.get(b"anthropic-workspace-id")

    def add_ids_to(self, message: Message) -> None:
        """Set the ids of the request and the workspace in `message`, as the SDK does."""
        message._request_id = _text(self._request_id)  # noqa: SLF001 - documented by the SDK
        message._workspace_id = _text(self._workspace_id)  # noqa: SLF001


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")

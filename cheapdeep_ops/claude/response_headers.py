"""The headers of a response that say what is in it."""

import httpx2
from anthropic.types import Message


class ResponseHeaders:
    """Whether the body is JSON, and the ids that the SDK puts onto a message."""

    def __init__(self, response: httpx2.Response) -> None:
        headers = response.headers
        self.is_json = headers.get("content-type", "").partition(";")[0].endswith("json")
        self._request_id, self._workspace_id = headers.get("request-id"), headers.get("anthropic-workspace-id")

    def name(self, message: Message) -> None:
        """Put the ids of the request and the workspace onto `message`, as the SDK does."""
        message._request_id = self._request_id  # noqa: SLF001 - documented by the SDK
        message._workspace_id = self._workspace_id  # noqa: SLF001


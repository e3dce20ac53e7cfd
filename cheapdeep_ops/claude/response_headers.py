"""The headers of a response that the SDK reads for a message."""

import httpx2
from anthropic.types import Message


class ResponseHeaders:
    """Whether the body is JSON, and the ids that the SDK adds to a message."""

    def __init__(self, response: httpx2.Response) -> None:
        self.all = headers = response.headers
        self.is_json = headers.get("content-type", "").partition(";")[0].endswith("json")
        self._request_id, self._workspace_id = headers.get("request-id"), headers.get("anthropic-workspace-id")

    def add_ids_to(self, message: Message) -> None:
        """Set the ids of the request and the workspace in `message`, as the SDK does."""
        message._request_id = self._request_id  # noqa: SLF001 - documented by the SDK
        message._workspace_id = self._workspace_id  # noqa: SLF001

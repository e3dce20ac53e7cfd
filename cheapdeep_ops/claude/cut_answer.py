"""The error of a streamed answer that was cut, because the rest of the triage reply is malformed."""

import httpx2
from anthropic import APIError


class CutAnswerError(APIError):
    """A part of the answer has arrived, and the rest is lost: ask again, or show that the answer is incomplete.

    `decision_of` gives the decision of the call, with the reason.
    """


def cut_answer_error(response: httpx2.Response) -> CutAnswerError:
    """The error that ends the caller's stream; `response` is the one that was read."""
    return CutAnswerError(
        "the streamed answer was cut: the rest of the reply is malformed", response.request, body=None
    )

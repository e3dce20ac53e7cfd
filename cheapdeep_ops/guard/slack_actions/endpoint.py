"""Takes clicks over HTTPS: Slack posts them to the guard, signed with the app's signing secret.

Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from slack_sdk.signature import Clock, SignatureVerifier
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cheapdeep_ops.guard.notify.buttons import CLICKS_PATH, LARGEST_CLICK
from cheapdeep_ops.guard.slack_actions.handler import ClickHandler

_log: Final = logging.getLogger(__name__)
_SAY_EVERY_S: Final = 60.0


class _Time(Clock):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock()


def interactions_route(handler: ClickHandler, *, signing_secret: str, clock: Callable[[], float]) -> Route:
    """The path to which Slack posts clicks and forms; a request needs a signature that is five minutes old at most."""
    verifier = SignatureVerifier(signing_secret, _Time(clock))
    said_at = -_SAY_EVERY_S

    async def receive(request: Request) -> Response:
        nonlocal said_at
        body = await _body(request)
        if body is None:
            return PlainTextResponse(f"the body has more than {LARGEST_CLICK:,} bytes", 413)
        if not is_signed(verifier, body, request.headers):
            # Seldom, because a stranger may send many of them.
            if clock() - said_at >= _SAY_EVERY_S:
                _log.warning("a request to %s was refused: it is not signed by Slack, or is too old", CLICKS_PATH)
                said_at = clock()
            return PlainTextResponse("the signature is wrong or too old", 401)
        try:
            payload = json.loads(parse_qs(body.decode())["payload"][0])
        except (ValueError, LookupError):
            # Slack also asks whether the address answers.
            return Response()
        # In a thread, because an order waits for the store.
        reply = await run_in_threadpool(handler.receive, payload if isinstance(payload, dict) else {})
        after = BackgroundTask(reply.then)
        return JSONResponse(dict(reply.body), background=after) if reply.body else Response(background=after)

    return Route(CLICKS_PATH, receive, methods=["POST"])


def is_signed(verifier: SignatureVerifier, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether Slack has signed the body within the last five minutes."""
    try:
        return bool(verifier.is_valid_request(body, dict(headers)))
    except (ValueError, TypeError, OverflowError):
        # A time that is no number, or bytes and characters that no signature has.
        return False


async def _body(request: Request) -> bytes | None:
    """The body; None if it is too large, which ends the reading."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_CLICK:
            return None
    return body

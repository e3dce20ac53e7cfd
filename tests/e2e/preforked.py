"""A service for gunicorn's preload: one router is made and used before the fork, each worker makes another after it."""

import json
import os
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from cheapdeep_ops import Router


def ask(router: Router, text: str) -> str:
    return router.ask(text).text


def stream(router: Router, text: str) -> str:
    with router.messages.stream(max_tokens=100, messages=[{"role": "user", "content": text}]) as pieces:
        return pieces.get_final_text()


def leave(router: Router, text: str) -> str:
    """The first piece of a stream whose rest nobody reads."""
    with router.messages.stream(max_tokens=100, messages=[{"role": "user", "content": text}]) as pieces:
        return next(iter(pieces.text_stream))


WAYS = {"leave": leave, "stream": stream, "ask": ask}

early = Router(route="early")
for way in WAYS.values():  # an idle connection, threads and a written store are there when the workers are forked
    way(early, "Which colour?")

_made: list[Router] = []
_making = Lock()


def late() -> Router:
    """This worker's own, made at its first use."""
    with _making:
        if not _made:
            _made.append(Router(route="late"))
    return _made[0]


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    _, which, way = environ["PATH_INFO"].split("/")
    (text,) = parse_qs(environ["QUERY_STRING"])["text"]
    answer = WAYS[way](early if which == "early" else late(), text)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "answer": answer}).encode()]

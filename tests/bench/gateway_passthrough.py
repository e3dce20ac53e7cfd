"""A pass-through for `gateway.py`: `uvicorn gateway_passthrough:app`, with the API's address in UPSTREAM."""

import os

from aiohttp import ClientSession
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

SENT = ("content-length", "content-type", "x-api-key", "anthropic-version")


# The ten lines.
async def pass_on(request):
    session = getattr(request.app.state, "session", None) or ClientSession(auto_decompress=False)
    request.app.state.session = session
    headers = {name: request.headers[name] for name in SENT if name in request.headers}
    response = await session.post(os.environ["UPSTREAM"] + request.url.path, data=request.stream(), headers=headers)
    kept = {name: text for name, text in response.headers.items() if name.lower() != "transfer-encoding"}
    return StreamingResponse(response.content.iter_any(), response.status, kept)


app = Starlette(routes=[Route("/{path:path}", pass_on, methods=["POST"])])

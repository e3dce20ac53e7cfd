"""Serves llmock, by the Python that it is installed for, on a free port of loopback; prints the port when it listens.

llmock has the Messages API under `/anthropic`, but names the results of its batches from the root: here all of it is
found at the root, as with the real API. A batch has ended when it is next asked for, instead of 3 s later.
"""

import socket

import uvicorn
from llmock.main import create_app
from llmock.routers import batch

batch._BATCH_DELAY = 0.0
mock = create_app()


async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"].startswith("/v1/"):
        path = "/anthropic" + scope["path"]
        scope = {**scope, "path": path, "raw_path": path.encode()}
    await mock(scope, receive, send)


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        print(sockets[0].getsockname()[1], flush=True)


with socket.create_server(("127.0.0.1", 0)) as listening:
    Server(uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=1)).run([listening])

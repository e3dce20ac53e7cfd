"""Starts Arize Phoenix, by the Python that it is installed for, with no port open to other machines.

`PHOENIX_HOST` is not asked for the gRPC port: that one is bound to `[::]`, whatever is set (seen in 20.26.1).
"""

import sys

import grpc.aio._server
from phoenix.server.main import main

bind = grpc.aio._server.Server.add_insecure_port


def bind_to_loopback(server, address):
    return bind(server, address.replace("[::]", "127.0.0.1"))


grpc.aio._server.Server.add_insecure_port = bind_to_loopback
sys.argv = ["phoenix", "serve"]
main()

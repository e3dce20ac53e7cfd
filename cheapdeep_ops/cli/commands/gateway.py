"""The command that runs the gateway."""

import logging
from typing import Annotated

import typer

from cheapdeep_ops.cli.common import app
from cheapdeep_ops.cli.groups import RUN, example
from cheapdeep_ops.settings import Settings


@app.command(rich_help_panel=RUN, epilog=example("gateway --port 8643"))
def gateway(
    host: Annotated[str | None, typer.Option(help="The address to listen on; without it, the setting.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0: any free port.")] = None,
) -> None:
    """Serve the Messages API over the router until SIGTERM, for services in any language."""
    from cheapdeep_ops.gateway.service import Gateway
    from cheapdeep_ops.telemetry.setup import configure

    logging.getLogger("cheapdeep_ops").setLevel(logging.INFO)
    settings = Settings()
    stop = configure("cheapdeep-ops gateway")
    try:
        Gateway(settings).serve(
            settings.gateway_host if host is None else host, settings.gateway_port if port is None else port
        )
    finally:
        stop()

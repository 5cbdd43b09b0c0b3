"""`escrow serve`: the API. It takes orders and acts through a line of its own, and publishes what they cause; it fires no deadlines."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import service


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8080,
) -> None:
    """Serve the API until SIGTERM."""
    service.run("serve", api=(host, port))

"""`escrow up`: everything in one process, with no configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8080,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept; made when it is missing.")] = Path(".escrow"),
) -> None:
    """Run everything in one process until SIGTERM. Prints its address and a token."""
    from orchestrator.cli.embedded import run

    run(host=host, port=port, data_dir=data_dir)

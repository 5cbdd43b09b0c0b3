"""`escrow serve`: the API. It takes orders and acts through a line of its own, and publishes what they cause; it fires no deadlines."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.config import load, split_address


def command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8080,
) -> None:
    """Serve the API until SIGTERM."""
    from orchestrator import logs, wiring
    from orchestrator.web.app import create_app
    from orchestrator.web.probes import create_probes
    from orchestrator.web.server import Server

    settings = load()
    logs.configure(level=settings.log_level, form=settings.log_format)
    stop = wiring.stop_on_signals()
    engine = wiring.open_database(settings)
    registrations = wiring.load_definitions(settings.definitions)
    bus = wiring.rabbit_bus(settings, wiring.participants_of(registrations))
    process = wiring.make_process(settings, engine, registrations, bus, role="serve", consume=False)
    server = Server(create_app(process.services), host=host, port=port)
    probes_host, probes_port = split_address(settings.metrics_address)
    probes = Server(create_probes(process.services), host=probes_host, port=probes_port)
    process.start()
    server.start()
    probes.start()
    typer.echo(f"Escrow listens on {server.url}")
    try:
        process.run(stop)
    finally:
        server.stop()
        process.stop()
        probes.stop()

"""One process of the service: what `escrow serve` and `escrow worker` run."""

from __future__ import annotations

from typing import Literal

import typer

from orchestrator.config import load, split_address


def run(role: Literal["serve", "worker"], *, api: tuple[str, int] | None = None) -> None:
    """Run until SIGTERM. `api`: host and port of the API; without it the process takes events and fires deadlines.

    Raises: SettingsError, DefinitionError, StoreUnavailable.
    """
    from orchestrator import loading, logs, wiring
    from orchestrator.web.app import create_app
    from orchestrator.web.probes import create_probes
    from orchestrator.web.server import Server

    settings = load()
    logs.configure(level=settings.log_level, form=settings.log_format)
    stop = wiring.stop_on_signals()
    engine = wiring.open_database(settings)
    registrations = loading.load_definitions(settings.definitions, shipped=settings.shipped_names)
    bus = wiring.rabbit_bus(settings, loading.participants_of(registrations))
    process = wiring.make_process(settings, engine, registrations, bus, role=role, consume=api is None)
    probes_host, probes_port = split_address(settings.metrics_address)
    probes = Server(create_probes(process.services), host=probes_host, port=probes_port)
    server = None if api is None else Server(create_app(process.services), host=api[0], port=api[1])
    probes.start()
    logs.get(__name__).info(f"metrics and health on {probes.url}", action="metrics", url=probes.url)
    process.start()
    if server is not None:
        server.start()
        typer.echo(f"Escrow listens on {server.url}")
    try:
        process.run(stop)
    finally:
        if server is not None:
            server.stop()
        process.stop()
        probes.stop()

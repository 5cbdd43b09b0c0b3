"""`escrow worker`: events, deadlines and the relay. Run as many as there are cores; any of them continues any order."""

from __future__ import annotations

from orchestrator.config import load, split_address


def command() -> None:
    """Handle events and deadlines until SIGTERM: then finish the batch, ack, publish, close."""
    from orchestrator import logs, wiring
    from orchestrator.web.probes import create_probes
    from orchestrator.web.server import Server

    settings = load()
    logs.configure(level=settings.log_level, form=settings.log_format)
    stop = wiring.stop_on_signals()
    engine = wiring.open_database(settings)
    registrations = wiring.load_definitions(settings.definitions)
    bus = wiring.rabbit_bus(settings, wiring.participants_of(registrations))
    process = wiring.make_process(settings, engine, registrations, bus, role="worker", consume=True)
    host, port = split_address(settings.metrics_address)
    probes = Server(create_probes(process.services), host=host, port=port)
    probes.start()
    process.start()
    try:
        process.run(stop)
    finally:
        process.stop()
        probes.stop()

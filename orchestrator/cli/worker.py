"""`escrow worker`: events, deadlines and the relay. Run as many as there are cores; any of them continues any order."""

from __future__ import annotations

from orchestrator.cli import service


def command() -> None:
    """Handle events and deadlines until SIGTERM: then finish the batch, ack, publish, close."""
    service.run("worker")

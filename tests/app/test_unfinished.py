"""A line that lives through the beginning of a recovery waits for its end, and goes on (R28)."""

from __future__ import annotations

from orchestrator.contract import Topology
from orchestrator.store import recovery
from orchestrator.store.recovery import Guard
from tests.app.running import Running
from tests.support.processes import eventually


def test_what_comes_meanwhile_waits_in_the_inbox(running: Running) -> None:
    """If it failed, a worker that could not reach the database when a recovery began would decide on orders that are being folded."""
    running.place("before")
    eventually(lambda: running.state("before") == "reserving_inventory")
    recovery.begin(running.house.engine)
    running.line.tick()
    eventually(lambda: running.bus.was_paused)
    running.place("meanwhile")
    eventually(lambda: running.broker.depth(Topology().inbox) == 1)
    assert running.state("meanwhile") is None
    Guard(running.house.engine, None).finish(None)
    running.line.tick()
    eventually(lambda: running.state("meanwhile") == "reserving_inventory")

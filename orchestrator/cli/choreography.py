"""The in-process bus and the sample participants, and no Escrow: what `escrow demo --watched` compares itself with.

python -m orchestrator.cli.choreography DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator import wiring
from orchestrator.bus.memory import MemoryBroker
from orchestrator.cli.embedded import start_samples
from orchestrator.contract import Topology

#: Those that react to each other.
NAMES = ("orders", "inventory", "invoice")


def main(directory: Path) -> None:
    """Run them until SIGTERM, with their data in a directory."""
    stop = wiring.stop_on_signals()
    broker = MemoryBroker(Topology())
    broker.declare(NAMES)
    samples = start_samples(directory, broker, NAMES, choreographed=True)
    stop.wait()
    samples.stop()
    broker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

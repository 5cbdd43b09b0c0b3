"""The sample participants inside another process: `escrow up` and the demo find `start` by the entry point `escrow.participants`.

Each has its own SQLite file and runner, as it would in a process of its own; what they answer survives a kill of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from participants import agent, bank, inventory, invoice, orders, payment, registry
from participants.kit.control import Control, make_app
from participants.kit.database import connect
from participants.kit.faults import Faults
from participants.kit.participant import Participant
from participants.kit.runner import Runner
from participants.kit.transport import Received, Transport

#: Makes the link of a participant: its name, the class of what it receives, and the types of the events that it subscribes to.
MakeTransport = Callable[[str, type[Received], Collection[str]], Transport]


class Embedded:
    """The running samples. `urls`: the door of each on loopback, by name (facts, faults, totals)."""

    def __init__(self, data_dir: Path, transport: MakeTransport, names: Collection[str], *, choreographed: bool) -> None:
        self.urls: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._controls: list[Control] = []
        builds = _builds(data_dir, choreographed=choreographed)
        for name in sorted(builds.keys() & {*names, *((orders.NAME,) if choreographed else ())}):
            participant = builds[name](connect(f"sqlite:///{data_dir / name}.sqlite3"))
            faults = Faults()
            # In one process with the bus nothing waits for anybody: what it hears is gone as what it subscribes to is.
            link = transport(name, Received, participant.subscriptions | participant.hearing)
            runner = Runner(participant, link, faults=faults)
            control = Control(make_app(participant, faults, partial(getattr, runner, "trouble")))
            self.urls[name] = control.url
            self._controls.append(control)
            self._threads.append(threading.Thread(target=runner.run, args=(self._stop,), name=name, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches and stop. Idempotent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        for control in self._controls:
            control.close()


def start(data_dir: Path, transport: MakeTransport, *, names: Collection[str], choreographed: bool) -> Embedded:
    """Start those of the samples that are named, with their data in `data_dir`; `transport` makes the link of each.

    `choreographed`: the order service (`orders`) runs too, and inventory and invoice react to the events of others, so that an order of it
    moves by itself.
    """
    return Embedded(data_dir, transport, names, choreographed=choreographed)


def _builds(data_dir: Path, *, choreographed: bool) -> dict[str, Callable[[sa.Engine], Participant]]:
    return {
        inventory.NAME: partial(inventory.build, choreographed=choreographed),
        payment.NAME: payment.build,
        invoice.NAME: partial(invoice.build, mail_dir=data_dir / "mail", choreographed=choreographed),
        orders.NAME: orders.build,
        agent.NAME: agent.build,
        bank.NAME: bank.build,
        registry.NAME: registry.build,
    }

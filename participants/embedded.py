"""The sample participants inside another process: `escrow up` and the demo find `start` by the entry point `escrow.participants`.

Each has its own SQLite file and runner, as it would in a process of its own; what they answer survives a kill of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from participants import inventory, invoice, payment
from participants.kit.control import Control, make_app
from participants.kit.database import connect
from participants.kit.faults import Faults
from participants.kit.participant import Participant
from participants.kit.runner import Runner
from participants.kit.transport import Received, Transport


class Embedded:
    """The running samples. `urls`: the door of each on loopback, by name (faults, totals)."""

    def __init__(self, data_dir: Path, transport: Callable[[str, type[Received]], Transport]) -> None:
        self.urls: dict[str, str] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._controls: list[Control] = []
        builds: dict[str, Callable[[sa.Engine], Participant]] = {
            inventory.NAME: inventory.build,
            payment.NAME: payment.build,
            invoice.NAME: partial(invoice.build, mail_dir=data_dir / "mail"),
        }
        for name, build in builds.items():
            participant = build(connect(f"sqlite:///{data_dir / name}.sqlite3"))
            faults = Faults()
            runner = Runner(participant, transport(name, Received), faults=faults)
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


def start(data_dir: Path, transport: Callable[[str, type[Received]], Transport]) -> Embedded:
    """Start inventory, payment and invoice with their data in `data_dir`; `transport` makes the link of each, by name."""
    return Embedded(data_dir, transport)

"""Where the demo plays: everything in one child process, or the real services with a process for each role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import httpx

from orchestrator import loading, wiring
from orchestrator.app.restore import Report
from orchestrator.bus import topology as broker
from orchestrator.cli.demo_child import START_S, Child, wait_for
from orchestrator.cli.embedded import DATABASE, DOORS, TOKEN
from orchestrator.cli.session import Session
from orchestrator.config import Settings, load
from orchestrator.contract import Topology
from orchestrator.store import schema
from orchestrator.store.own_schema import own_schema
from orchestrator.store.tokens import Tokens

#: For one call to a participant's door, in seconds.
DOOR_TIMEOUT_S = 5.0
_LISTENS = "Escrow listens on "


class Stage(Protocol):
    """A running Escrow with its participants, which can be told to fail and be killed."""

    #: What runs, for the screen, and who is killed.
    title: str
    victims: str
    #: What that meant for the attempts under way.
    aftermath: str
    #: Where the API is, and a token for it; known once it has started.
    url: str
    token: str
    #: The door of each participant on loopback.
    doors: Mapping[str, str]

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises: DemoFailed with the end of a log."""

    def kill(self) -> None:
        """`kill -9` the victims."""

    def restart(self) -> None:
        """Start the victims again on the same data; whoever was stalled still is. Raises: DemoFailed."""

    def stall(self, participant: str, *, on: bool) -> None:
        """Tell a participant to fall silent, or to work again."""

    def stop(self) -> None:
        """Stop everything in order. Idempotent."""

    def verify(self) -> Report:
        """Fold every journal and compare."""


#: More orders than the story has: it tells what becomes of one whose attempts run out, which those of a participant that is known to be
#: silent do not (R8).
_NEVER_SILENT = "10000"


class EmbeddedStage:
    """`escrow up` in one child: SQLite, the in-process bus, the sample participants."""

    title = "SQLite, an in-process bus that forgets, the participants: all in one process"
    victims = "the whole process"
    aftermath = "nobody could hear a reply meanwhile, so no attempt is spent: the same one is sent again"

    def __init__(self, session: Session, directory: Path, definitions: Path) -> None:
        self._session = session
        self._data = directory / "data"
        command = ("orchestrator", "up", "--data-dir", str(self._data))
        environment = {"definitions": str(definitions), "shipped": "none", "log_format": "json", "silent_orders_min": _NEVER_SILENT}
        self._child = Child(session, directory, "escrow-up", command, environment)
        self._stalled: set[str] = set()
        self._port = "0"
        self.url = self.token = ""
        self.doors: Mapping[str, str] = {}

    def start(self) -> None:
        """See the port."""
        doors = self._data / DOORS
        doors.unlink(missing_ok=True)
        self._child.start("--port", self._port)
        wait_for(self._session, lambda: doors.exists() or not self._child.is_alive, START_S, "Escrow did not start")
        if doors.exists():
            self.doors = json.loads(doors.read_text())
            # A silent participant stays silent: its faults live in the process that was killed.
            for participant in self._stalled:
                tell(self.doors[participant], stall=True)
        self.url = self._child.line(_LISTENS).removeprefix(_LISTENS).strip()
        self._port = self.url.rpartition(":")[2]
        self.token = (self._data / TOKEN).read_text().strip()

    def kill(self) -> None:
        """See the port."""
        self._child.kill()

    def restart(self) -> None:
        """See the port."""
        self.start()

    def stall(self, participant: str, *, on: bool) -> None:
        """See the port."""
        tell(self.doors[participant], stall=on)
        (self._stalled.add if on else self._stalled.discard)(participant)

    def stop(self) -> None:
        """See the port."""
        self._child.stop()

    def verify(self) -> Report:
        """See the port."""
        return self._session.verify(load(database_url=f"sqlite:///{self._data / DATABASE}"))


class ServicesStage:
    """PostgreSQL and RabbitMQ: `serve`, two workers and three participants, each a process. Made by `services_stage`."""

    title = "PostgreSQL, RabbitMQ, and six processes: serve, 2 workers, 3 participants"
    victims = "the API and one of the two workers"
    aftermath = "the other worker went on meanwhile with the deadlines and messages of the one that died"

    def __init__(self, session: Session, directory: Path, definitions: Path, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        environment = {
            "database_url": str(settings.database_url),
            "amqp_url": str(settings.amqp_url),
            "namespace": settings.namespace,
            "definitions": str(definitions),
            "shipped": "none",
            "log_format": "json",
            "metrics_address": "127.0.0.1:0",
            "silent_orders_min": _NEVER_SILENT,
        }
        escrow = {name: ("orchestrator", name.partition("-")[0]) for name in ("serve", "worker-1", "worker-2")}
        self._escrow = {name: Child(session, directory, name, command, environment) for name, command in escrow.items()}
        self._participants = {
            name: Child(session, directory, name, participant_command(directory, name), environment)
            for name in participants_of(definitions)
        }
        self._port = "0"
        self.url = ""
        self.token = session.new_token()
        self.doors: Mapping[str, str] = {}

    def start(self) -> None:
        """See the port."""
        schema.upgrade(str(self._settings.database_url))
        self._make_token()
        for child in self._participants.values():
            child.start()
        self._start_escrow(*self._escrow)
        self.doors = {name: child.line(f"{name}: http").partition(": ")[2].strip() for name, child in self._participants.items()}

    def kill(self) -> None:
        """See the port."""
        for name in ("serve", "worker-1"):
            self._escrow[name].kill()

    def restart(self) -> None:
        """See the port."""
        self._start_escrow("serve", "worker-1")

    def stall(self, participant: str, *, on: bool) -> None:
        """See the port."""
        tell(self.doors[participant], stall=on)

    def stop(self) -> None:
        """See the port."""
        children = [*self._escrow.values(), *self._participants.values()]
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()

    def verify(self) -> Report:
        """See the port."""
        return self._session.verify(self._settings)

    def _start_escrow(self, *names: str) -> None:
        for name in names:
            self._escrow[name].start(*(("--port", self._port) if name == "serve" else ()))
        for name in names:
            if name == "serve":
                self.url = self._escrow[name].line(_LISTENS).removeprefix(_LISTENS).strip()
                self._port = self.url.rpartition(":")[2]
            else:
                self._escrow[name].line('"action": "started"')

    def _make_token(self) -> None:
        engine = wiring.open_database(self._settings)
        try:
            Tokens(engine).create("demo", "client", self.token)
        finally:
            engine.dispose()


@contextmanager
def services_stage(session: Session, directory: Path, definitions: Path) -> Iterator[ServicesStage]:
    """A stage with a schema and a namespace of its own, which are gone afterwards.

    Raises: SettingsError naming what is not set; StoreUnavailable, BusUnavailable.
    """
    settings = load()
    settings.require("database_url", "amqp_url")
    mark = session.new_id()[:8]
    topology = Topology(f"{settings.namespace[:48]}-demo-{mark}")
    names = participants_of(definitions)
    with ExitStack() as cleanup:
        url = cleanup.enter_context(own_schema(str(settings.database_url), f"escrow_demo_{mark}"))
        broker.declare(str(settings.amqp_url), topology, names)
        cleanup.callback(broker.delete, str(settings.amqp_url), topology, names)
        stage = ServicesStage(session, directory, definitions, load(database_url=url, namespace=topology.namespace))
        # Before the schema and the queues go, those who use them.
        cleanup.callback(stage.stop)
        yield stage


def participants_of(definitions: Path) -> frozenset[str]:
    """Everyone whom the definitions in a directory ask."""
    return loading.participants_of(loading.load_definitions(definitions, shipped=()))


def participant_command(directory: Path, name: str) -> tuple[str, ...]:
    """The command line of a sample participant, with its data in a directory."""
    own = ("--mail-dir", str(directory / "mail")) if name == "invoice" else ()
    return (f"participants.{name}", "run", "--database-url", f"sqlite:///{directory / name}.sqlite3", "--http-port", "0", *own)


def tell(door: str, **faults: bool) -> None:
    """Tell a participant what to do wrong from now on: `stall` or `down`."""
    httpx.put(f"{door}/faults", json=faults, timeout=DOOR_TIMEOUT_S, trust_env=False).raise_for_status()

"""Where the choreography plays: its services on a bus, with Escrow listening or without Escrow; embedded, or on PostgreSQL and RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from orchestrator.app.restore import Report
from orchestrator.bus import topology as broker
from orchestrator.cli.choreography import NAMES
from orchestrator.cli.demo_child import START_S, Child, wait_for
from orchestrator.cli.demo_stage import DOOR_TIMEOUT_S, EmbeddedStage, ServicesStage, participant_command, tell
from orchestrator.cli.embedded import DOORS
from orchestrator.cli.session import Session
from orchestrator.config import Settings, load
from orchestrator.contract import Topology
from orchestrator.store.own_schema import own_schema


class Choreography(Protocol):
    """Running services that react to each other, one of which can be taken down."""

    #: What runs, for the screen, and what it means that one is down.
    title: str
    outage: str
    #: The door of each service on loopback.
    doors: Mapping[str, str]

    def start(self) -> None:
        """Start everything and wait until it is ready. Raises: DemoFailed with the end of a log."""

    def take_down(self, service: str) -> None:
        """Let a service be gone: its subscription with it."""

    def bring_back(self, service: str) -> None:
        """Let it run again on its data, and wait until it hears the bus. Raises: DemoFailed."""

    def stop(self) -> None:
        """Stop everything in order. Idempotent."""


class Watched(Choreography, Protocol):
    """The same, with Escrow listening."""

    url: str
    token: str

    def verify(self) -> Report:
        """Fold every journal and compare."""


class _Told:
    """Services inside another process are down when they are told so: they let go of the bus."""

    title = "an in-process bus and the services, in one process"
    outage = "it lets go of the bus"
    doors: Mapping[str, str]
    _session: Session

    def take_down(self, service: str) -> None:
        """See the port."""
        tell(self.doors[service], down=True)

    def bring_back(self, service: str) -> None:
        """See the port."""
        tell(self.doors[service], down=False)
        _hears(self._session, self.doors[service])


class EmbeddedAlone(_Told):
    """No Escrow."""

    def __init__(self, session: Session, directory: Path) -> None:
        self._session = session
        self._data = directory / "alone"
        self._data.mkdir()
        self._child = Child(session, directory, "choreography", ("orchestrator.cli.choreography", str(self._data)), {})
        self.doors = {}

    def start(self) -> None:
        """See the port."""
        doors = self._data / DOORS
        self._child.start()
        wait_for(self._session, lambda: doors.exists() or not self._child.is_alive, START_S, "The services did not start")
        self.doors = json.loads(doors.read_text())

    def stop(self) -> None:
        """See the port."""
        self._child.stop()


class EmbeddedWatched(_Told, EmbeddedStage):
    """`escrow up` on a definition that watches."""

    title = "SQLite, an in-process bus, the services and Escrow, in one process"


class _Killed:
    """Services that are processes are down when they are killed."""

    outage = "kill -9"
    doors: Mapping[str, str]
    _session: Session
    _services: Mapping[str, Child]

    def take_down(self, service: str) -> None:
        """See the port."""
        self._services[service].kill()

    def bring_back(self, service: str) -> None:
        """See the port."""
        self._services[service].start()
        self.doors = {**self.doors, service: _door(service, self._services[service])}
        _hears(self._session, self.doors[service])


class ServicesAlone(_Killed):
    """No Escrow: the topology is there, and nobody reads its inbox."""

    title = "RabbitMQ, and a process for each service"

    def __init__(self, session: Session, directory: Path, settings: Settings) -> None:
        self._session = session
        self._services = _children(session, directory / "alone", settings)

    def start(self) -> None:
        """See the port."""
        for child in self._services.values():
            child.start()
        self.doors = {name: _door(name, child) for name, child in self._services.items()}
        for door in self.doors.values():
            _hears(self._session, door)

    def stop(self) -> None:
        """See the port."""
        for child in self._services.values():
            child.ask_to_stop()
        for child in self._services.values():
            child.stop()


class ServicesWatched(_Killed, ServicesStage):
    """`serve` and two workers, and a process for each service."""

    title = "PostgreSQL, RabbitMQ, and six processes: serve, 2 workers, 3 services"

    def __init__(self, session: Session, directory: Path, definitions: Path, settings: Settings) -> None:
        super().__init__(session, directory, definitions, settings)
        self._services = self._participants = _children(session, directory / "watched", settings)


@contextmanager
def alone(session: Session, directory: Path, *, services: bool) -> Iterator[Choreography]:
    """The services without Escrow."""
    with ExitStack() as cleanup:
        own = _own_broker(session, cleanup, load()) if services else None
        stage: Choreography = ServicesAlone(session, directory, own) if own else EmbeddedAlone(session, directory)
        cleanup.callback(stage.stop)
        yield stage


@contextmanager
def watched(session: Session, directory: Path, definitions: Path, *, services: bool) -> Iterator[Watched]:
    """The services with Escrow listening."""
    with ExitStack() as cleanup:
        stage: Any
        if services:
            settings = _own_broker(session, cleanup, load())
            url = cleanup.enter_context(own_schema(str(settings.database_url), f"escrow_demo_{session.new_id()[:8]}"))
            stage = ServicesWatched(session, directory, definitions, load(database_url=url, namespace=settings.namespace))
        else:
            stage = EmbeddedWatched(session, directory, definitions)
        cleanup.callback(stage.stop)
        yield stage


def place(stage: Choreography, order_id: str, data: Mapping[str, Any]) -> None:
    """Let the order service publish `OrderPlaced`."""
    fact = {"type": "OrderPlaced", "order_id": order_id, "data": dict(data), "fact_id": order_id}
    httpx.post(f"{stage.doors['orders']}/facts", json=fact, timeout=DOOR_TIMEOUT_S, trust_env=False).raise_for_status()


def totals(stage: Choreography, service: str) -> dict[str, int]:
    """What a service's own tables say."""
    answer = httpx.get(f"{stage.doors[service]}/totals", timeout=DOOR_TIMEOUT_S, trust_env=False)
    answer.raise_for_status()
    found: dict[str, int] = answer.json()
    return found


def _own_broker(session: Session, cleanup: ExitStack, settings: Settings) -> Settings:
    """The same settings in a namespace of its own, which is gone afterwards."""
    settings.require("database_url", "amqp_url")
    topology = Topology(f"{settings.namespace[:48]}-demo-{session.new_id()[:8]}")
    broker.declare(str(settings.amqp_url), topology, NAMES)
    cleanup.callback(broker.delete, str(settings.amqp_url), topology, NAMES)
    return load(namespace=topology.namespace)


def _children(session: Session, directory: Path, settings: Settings) -> dict[str, Child]:
    directory.mkdir()
    environment = {"amqp_url": str(settings.amqp_url), "namespace": settings.namespace}
    return {
        name: Child(session, directory, name, (*participant_command(directory, name), *_choreographed(name)), environment) for name in NAMES
    }


def _choreographed(name: str) -> tuple[str, ...]:
    """The order service begins; the others react."""
    return () if name == "orders" else ("--choreographed",)


def _hears(session: Session, door: str) -> None:
    """Wait until a service has taken up the bus. Raises: DemoFailed."""

    def looks_well() -> bool:
        try:
            return httpx.get(f"{door}/healthz", timeout=DOOR_TIMEOUT_S, trust_env=False).is_success
        except httpx.TransportError:
            return False

    wait_for(session, looks_well, START_S, "A service did not take up the bus again")


def _door(name: str, child: Child) -> str:
    return child.line(f"{name}: http").partition(": ")[2].strip()

"""Buses to test: the same world around the real broker and the one in the process."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

import pika
import pika.exceptions
import pytest
import structlog

from orchestrator.app.ports import Bus, BusEvent, Delivery, LinkChanged, OutboxMessage, Settled
from orchestrator.bus.memory import MemoryBroker, MemoryBus
from orchestrator.bus.rabbitmq import RabbitBus
from orchestrator.bus.topology import declare
from orchestrator.contract import Topology, Wire
from tests.support.services import amqp_url

PARTICIPANTS = ("inventory", "payment")
LIMIT_S = 15.0


class Mailbox:
    """A sink that sorts what a bus says, and waits for it with a limit."""

    def __init__(self) -> None:
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self.settled: queue.Queue[Settled] = queue.Queue()
        self.links: queue.Queue[LinkChanged] = queue.Queue()

    def __call__(self, event: BusEvent) -> None:
        """Sort one event."""
        match event:
            case Delivery():
                self.deliveries.put(event)
            case Settled():
                self.settled.put(event)
            case LinkChanged():
                self.links.put(event)

    def take(self, count: int) -> list[Delivery]:
        """The next deliveries."""
        return [self.deliveries.get(timeout=LIMIT_S) for _ in range(count)]

    def outcomes(self, count: int) -> dict[str, str]:
        """The next settlements, by outbox id."""
        settled = [self.settled.get(timeout=LIMIT_S) for _ in range(count)]
        assert len({one.outbox_id for one in settled}) == count, "a message was settled twice"
        return {one.outbox_id: one.outcome for one in settled}

    def link(self, **expected: bool) -> LinkChanged:
        """The next change of the links that looks like this."""
        while True:
            change = self.links.get(timeout=LIMIT_S)
            if all(getattr(change, name) is value for name, value in expected.items()):
                return change


class World(Protocol):
    """A broker, seen from outside the bus under test."""

    topology: Topology

    def bus(self, *, prefetch: int = 1000) -> Bus:
        """A bus on this broker, not yet started; closed when the test ends."""

    def inject(self, wire: Wire) -> None:
        """Put a message into the inbox as a participant would, and wait until it is there."""

    def commands(self, participant: str, count: int) -> list[bytes]:
        """The bodies of the next commands to a participant."""


@dataclass
class MemoryWorld:
    """A `World` around the broker in the process."""

    topology: Topology
    broker: MemoryBroker
    buses: list[Bus] = field(default_factory=list)

    def bus(self, *, prefetch: int = 1000) -> Bus:
        """See `World`."""
        self.buses.append(MemoryBus(self.broker, PARTICIPANTS, prefetch=prefetch))
        return self.buses[-1]

    def inject(self, wire: Wire) -> None:
        """See `World`."""
        assert self.broker.route(self.topology.events, "inventory.InventoryReserved", wire)

    def commands(self, participant: str, count: int) -> list[bytes]:
        """See `World`."""
        taken = [self.broker.take(self.topology.command_queue(participant)) for _ in range(count)]
        return [held.wire.body for held in taken if held is not None]


@dataclass
class RabbitWorld:
    """A `World` around the real broker."""

    topology: Topology
    url: str
    connection: pika.BlockingConnection
    channel: Any
    buses: list[Bus] = field(default_factory=list)

    def bus(self, *, prefetch: int = 1000) -> RabbitBus:
        """See `World`."""
        bus = RabbitBus(self.url, self.topology, PARTICIPANTS, jitter=lambda: 0.5, prefetch=prefetch)
        self.buses.append(bus)
        return bus

    def inject(self, wire: Wire, **properties: Any) -> None:
        """See `World`."""
        basic = pika.BasicProperties(content_type=wire.content_type or None, headers=dict(wire.headers), delivery_mode=2, **properties)
        self.publish(basic, wire.body)

    def publish(self, properties: pika.BasicProperties, body: bytes) -> None:
        """Publish to the inbox, with these properties; returns when it is confirmed."""
        self.channel.basic_publish(self.topology.events, "inventory.InventoryReserved", body, properties, mandatory=True)

    def commands(self, participant: str, count: int) -> list[bytes]:
        """See `World`."""
        return [self.channel.basic_get(self.topology.command_queue(participant), auto_ack=True)[2] for _ in range(count)]

    @contextmanager
    def consuming(self, participant: str) -> Iterator[None]:
        """Somebody is at a participant's queue."""
        tag = self.channel.basic_consume(self.topology.command_queue(participant), lambda *_: None)
        yield
        self.channel.basic_cancel(tag)


@pytest.fixture
def rabbit() -> Iterator[RabbitWorld]:
    """The real broker, with a namespace that is deleted afterwards."""
    topology = Topology(namespace=f"escrow-test-{uuid4().hex[:12]}")
    url = amqp_url()
    declare(url, topology, PARTICIPANTS)
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    world = RabbitWorld(topology, url, connection, channel)
    yield world
    for bus in world.buses:
        bus.close()
    sweep = connection.channel()
    for name in (topology.inbox, *map(topology.command_queue, PARTICIPANTS)):
        sweep.queue_delete(name)
    for name in (topology.events, topology.commands, topology.announcements):
        sweep.exchange_delete(name)
    connection.close()


@pytest.fixture
def memory() -> Iterator[MemoryWorld]:
    """The broker in the process."""
    topology = Topology(namespace="escrow-test")
    world = MemoryWorld(topology, MemoryBroker(topology))
    world.broker.declare(PARTICIPANTS)
    yield world
    for bus in world.buses:
        bus.close()


@pytest.fixture(params=["memory", "rabbit"])
def world(request: pytest.FixtureRequest) -> World:
    """Each broker in turn: the contract suite runs on both."""
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def message(world: World) -> Callable[..., OutboxMessage]:
    """Makes outbox messages: a command to inventory unless told otherwise."""
    return maker(world.topology)


def maker(topology: Topology) -> Callable[..., OutboxMessage]:
    """See `message`."""

    def make(outbox_id: str, **changes: Any) -> OutboxMessage:
        values: Mapping[str, Any] = {
            "outbox_id": outbox_id,
            "order_id": "order-1",
            "seq": 1,
            "place": 0,
            "command_id": "c-1",
            "participant": "inventory",
            "owner": "w-1",
            "exchange": topology.commands,
            "routing_key": "inventory",
            "message_id": f"m-{outbox_id}",
            "message_type": "ReserveInventory",
            "content_type": "application/cloudevents+json",
            "headers": {},
            "body": outbox_id.encode(),
            "created_at": datetime(2026, 11, 1, tzinfo=UTC),
            "mandatory": True,
        }
        return OutboxMessage(**{**values, **changes})

    return make


@pytest.fixture
def errors() -> Iterator[queue.Queue[str]]:
    """The warnings that the bus logs."""
    logged: queue.Queue[str] = queue.Queue()

    def keep(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        logged.put(event["event"])
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    yield logged
    structlog.configure(**before)

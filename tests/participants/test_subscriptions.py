"""What a participant hears of others: only while its link is up, beside its commands, and never at their cost. On both buses."""

from __future__ import annotations

import logging
import shlex
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pika
import pytest

from orchestrator.bus.memory import MemoryBroker
from orchestrator.bus.memory_transport import MemoryParticipantTransport
from orchestrator.contract import Envelope, Topology, decode, encode
from participants.kit.rabbit import RabbitTransport
from participants.kit.transport import Published, Received, Transport
from tests.participants.support import ask
from tests.support.processes import eventually
from tests.support.services import amqp_url, private_rabbitmq

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pika")

HEARD = ("OrderPlaced", "PaymentTaken")


class Bus(Protocol):
    """A broker and the rest of the world around one participant."""

    def transport(self) -> Transport:
        """The participant's link, up."""

    def say(self, event_type: str, order_id: str) -> None:
        """Publish an event of somebody else."""

    def command(self, order_id: str) -> None:
        """Send a command."""


class InMemory:
    """The bus in the process."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(Topology())
        self._broker.declare(["inventory"])

    def transport(self) -> Transport:
        return MemoryParticipantTransport(self._broker, "inventory", Received, HEARD)

    def say(self, event_type: str, order_id: str) -> None:
        self._broker.route(self._broker.topology.events, f"orders.{event_type}", encode(event(event_type, order_id)))

    def command(self, order_id: str) -> None:
        self._broker.route(self._broker.topology.commands, "inventory", encode(ask("UpdateInventory", order_id, {})))


class OnRabbit:
    """RabbitMQ; the channel sees each message routed before it goes on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.topology = Topology(f"test-{uuid.uuid4().hex[:10]}")
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def transport(self) -> RabbitTransport:
        made = RabbitTransport(self._url, self.topology, "inventory", subscriptions=HEARD)
        assert made.wait_until_up(15)
        return made

    def say(self, event_type: str, order_id: str) -> None:
        wire = encode(event(event_type, order_id))
        properties = pika.BasicProperties(content_type=wire.content_type)
        self._channel.basic_publish(self.topology.events, f"orders.{event_type}", wire.body, properties)

    def command(self, order_id: str) -> None:
        wire = encode(ask("UpdateInventory", order_id, {}))
        properties = pika.BasicProperties(content_type=wire.content_type)
        self._channel.basic_publish(self.topology.commands, "inventory", wire.body, properties, mandatory=True)

    def leave(self) -> None:
        self._connection.close()

    def close(self) -> None:
        self._channel.queue_delete(self.topology.command_queue("inventory"))
        for exchange in (self.topology.events, self.topology.commands):
            self._channel.exchange_delete(exchange)
        self.leave()


@dataclass
class Link:
    """One link of the participant, and what it hears."""

    transport: Transport

    def take(self, count: int) -> list[Received]:
        """The next so many messages."""
        found: list[Received] = []

        def look() -> bool:
            found.extend(self.transport.consume(count, 0.1))
            return len(found) >= count

        eventually(look)
        return found

    def hear(self, count: int) -> list[str]:
        """`Type order` of the next so many messages, sorted, for commands and events have no order between them. All are acked."""
        found = self.take(count)
        self.transport.ack([received.tag for received in found])
        envelopes = [decode(received.wire) for received in found]
        return sorted(f"{envelope.type} {envelope.subject}" for envelope in envelopes)


def event(event_type: str, order_id: str) -> Envelope:
    """An event of the order service."""
    return Envelope(id=f"m-{order_id}", source="orders", type=event_type, subject=order_id, data={})


@pytest.fixture(params=["memory", pytest.param("rabbit", marks=pytest.mark.real)])
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    """Each bus, with nothing on it."""
    if request.param == "memory":
        yield InMemory()
        return
    made = OnRabbit(amqp_url())
    yield made
    made.close()


@pytest.fixture
def open_link(bus: Bus) -> Iterator[Callable[[], Link]]:
    """Opens links of the participant, which are closed at the end."""
    opened: list[Transport] = []

    def make() -> Link:
        opened.append(bus.transport())
        return Link(opened[-1])

    yield make
    for transport in opened:
        transport.close()


def test_events_are_heard_beside_commands(bus: Bus, open_link: Callable[[], Link]) -> None:
    """If it failed, the choreography would not run, or drown what Escrow asks."""
    link = open_link()
    bus.say("OrderPlaced", "o-1")
    bus.command("o-2")
    bus.say("OrderCancelled", "o-3")  # nobody here reacts to that
    bus.say("PaymentTaken", "o-4")
    assert link.hear(3) == ["OrderPlaced o-1", "PaymentTaken o-4", "UpdateInventory o-2"]
    assert link.transport.consume(1, 0.05) == []


def test_what_is_said_while_it_is_down_is_gone_and_commands_wait(bus: Bus, open_link: Callable[[], Link]) -> None:
    """If it failed, there would be no problem to solve: the samples would not show what a bus without queues does to a choreography."""
    first = open_link()
    first.transport.close()
    bus.say("OrderPlaced", "o-1")
    bus.command("o-2")
    second = open_link()
    bus.say("OrderPlaced", "o-3")
    assert second.hear(2) == ["OrderPlaced o-3", "UpdateInventory o-2"]


def test_pause_is_as_good_as_dead(bus: Bus, open_link: Callable[[], Link]) -> None:
    """If it failed, the outage of a drill would be none: events would wait, or commands be lost."""
    link = open_link()
    bus.command("o-1")
    bus.say("OrderPlaced", "o-2")
    taken = link.take(2)
    link.transport.pause()
    link.transport.pause()
    assert link.transport.consume(1, 0.05) == []
    with pytest.raises(ConnectionError):
        link.transport.publish([Published("m-1", "Done", "inventory.Done", "o-1", encode(event("Done", "o-1")))])
    bus.say("OrderPlaced", "o-3")
    bus.command("o-4")
    link.transport.ack([received.tag for received in taken])  # of the link that is gone: it counts for nothing
    link.transport.resume()
    link.transport.resume()
    # The command not acked comes again; of the two events, acked or not, none does.
    assert link.hear(2) == ["UpdateInventory o-1", "UpdateInventory o-4"]
    if isinstance(link.transport, RabbitTransport):
        assert link.transport.wait_until_up(15)
    bus.say("OrderPlaced", "o-5")
    assert link.hear(1) == ["OrderPlaced o-5"]


def test_it_can_be_closed_while_it_is_paused(bus: Bus) -> None:
    """If it failed, a participant told to be down could not be stopped."""
    transport = bus.transport()
    transport.pause()
    transport.close()
    transport.close()
    if isinstance(transport, RabbitTransport):
        assert not transport.is_up


def wait_for_trouble(transport: RabbitTransport, what: str) -> str:
    """The transport's trouble, once it speaks of this."""
    eventually(lambda: what in str(transport.trouble))
    return str(transport.trouble)


@pytest.mark.slow
@pytest.mark.real
def test_one_that_may_not_subscribe_acts_by_command_and_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If it failed, a missing right would stop the commands too, or nobody would know why no order moves by itself."""
    monkeypatch.setattr("participants.kit.sources.RESUBSCRIBE_S", 0.2)
    caplog.set_level(logging.INFO, "participants.rabbit")
    with private_rabbitmq() as server:
        admin = OnRabbit(server.url)
        admin.transport().close()  # declares what the user below may not
        topology = admin.topology
        events, queue = topology.events, topology.command_queue("inventory")
        server.add_user("inventory", ("^$", f"^{events}$", f"^{queue}$"))
        server.ctl("set_topic_permissions", "inventory", events, r"^inventory\.", "^$")
        transport = RabbitTransport(server.url_of("inventory"), topology, "inventory", subscriptions=HEARD)
        try:
            assert transport.wait_until_up(15)
            admin.command("o-1")
            assert Link(transport).hear(1) == ["UpdateInventory o-1"]
            for missing in ("access to queue", "access to topic"):
                said = wait_for_trouble(transport, missing)
                assert said.startswith("It acts by command only and hears no events: RabbitMQ refused: 403")
                command = shlex.split(said.partition("Fix: run: ")[2])
                assert command[0] == "rabbitmqctl"
                server.ctl(*command[1:])
            eventually(lambda: transport.trouble is None)
            admin.say("OrderPlaced", "o-2")
            admin.command("o-3")
            assert Link(transport).hear(2) == ["OrderPlaced o-2", "UpdateInventory o-3"]
        finally:
            transport.close()
            admin.leave()
        told = [record.action for record in caplog.records if record.name == "participants.rabbit"]  # type: ignore[attr-defined]
        assert [action for action in told if action.startswith("hears")] == ["hears_no_events", "hears_no_events", "hears_events"]

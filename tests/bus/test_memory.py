"""What only the in-process broker does: routing of its own, the end of the broker, participants in the same process."""

from __future__ import annotations

import pytest

from orchestrator.bus.memory import matches
from orchestrator.bus.memory_transport import MemoryParticipantTransport
from orchestrator.contract import Wire, event_key
from participants.kit.transport import Published, Received, Transport
from tests.bus.conftest import Mailbox, MemoryWorld, maker


def _event(body: bytes) -> Published:
    wire = Wire(content_type="application/cloudevents+json", headers={}, body=body)
    return Published("e-1", "InventoryReserved", event_key("inventory", "InventoryReserved"), "order-1", wire)


def _transport(world: MemoryWorld, participant: str) -> Transport:
    """Typed as the kit's protocol, so that mypy holds the structure."""
    return MemoryParticipantTransport(world.broker, participant, Received)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("#", "a.b.c", True),
        ("#", "", True),
        ("a.#", "a", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a", "ab", False),
        ("*", "a", True),
        ("#.b", "a.c", False),
    ],
)
def test_topic_patterns(pattern: str, key: str, expected: bool) -> None:
    """Broken: the embedded mode would route otherwise than RabbitMQ."""
    assert matches(pattern, key) is expected


def test_redelivered_messages_come_first(memory: MemoryWorld) -> None:
    """Broken: after a pause newer events would overtake older ones for no reason."""
    bus, mailbox = memory.bus(), Mailbox()
    bus.start(mailbox, consume=True)
    memory.inject(_event(b"1").wire)
    mailbox.take(1)
    bus.pause()
    memory.inject(_event(b"2").wire)
    bus.resume()

    assert [delivery.wire.body for delivery in mailbox.take(2)] == [b"1", b"2"]


def test_message_bound_twice_arrives_once(memory: MemoryWorld) -> None:
    """Broken: two bindings of one queue would double every message, which RabbitMQ does not."""
    memory.broker.bind("audit", memory.topology.announcements, "#")
    memory.broker.bind("audit", memory.topology.announcements, "OrderCompleted")
    memory.broker.route(memory.topology.announcements, "OrderCompleted", _event(b"1").wire)

    assert memory.broker.depth("audit") == 1


def test_closed_broker_takes_the_links_down(memory: MemoryWorld) -> None:
    """Broken: the outage story of the embedded mode could not be told: publishing would seem to succeed."""
    bus, mailbox = memory.bus(), Mailbox()
    bus.start(mailbox, consume=True)
    mailbox.link(consuming=True, publishing=True)
    memory.broker.close()
    mailbox.link(consuming=False, publishing=False)
    bus.publish([maker(memory.topology)("a")])

    assert mailbox.outcomes(1) == {"a": "lost"}
    assert bus.inbox_depth() is None


def test_participant_is_asked_and_answers(memory: MemoryWorld) -> None:
    """Broken: participants of the demo would not hear commands, or Escrow not their answers."""
    bus, mailbox = memory.bus(), Mailbox()
    bus.start(mailbox, consume=True)
    transport = _transport(memory, "inventory")
    bus.publish([maker(memory.topology)("a")])
    (command,) = transport.consume(10, 5.0)
    transport.publish([_event(b"reserved")])
    transport.ack([command.tag])
    transport.close()

    assert (command.wire.body, command.redelivered) == (b"a", False)
    assert mailbox.take(1)[0].wire.body == b"reserved"
    assert memory.broker.depth(memory.topology.command_queue("inventory")) == 0


def test_participant_that_dies_is_asked_again(memory: MemoryWorld) -> None:
    """Broken: a command taken by a participant that then fails would be lost; acks are per command, not up to it."""
    bus = memory.bus()
    bus.start(Mailbox(), consume=False)
    transport = _transport(memory, "inventory")
    bus.publish([maker(memory.topology)(name) for name in ("a", "b", "c")])
    taken = transport.consume(10, 5.0)
    transport.ack([taken[1].tag])
    transport.close()
    transport.close()
    again = _transport(memory, "inventory").consume(10, 5.0)

    assert [(received.wire.body, received.redelivered) for received in again] == [(b"a", True), (b"c", True)]
    with pytest.raises(ConnectionError):
        transport.consume(1, 0.0)


def test_a_subscription_leaves_nothing_behind(memory: MemoryWorld) -> None:
    """Broken: events would pile up for participants that are gone, and a deleted queue would take messages that nobody reads."""
    queue = memory.broker.subscribe(["OrderPlaced", "PaymentTaken"])
    other = memory.broker.subscribe(["OrderPlaced"])
    memory.broker.route(memory.topology.events, "orders.OrderPlaced", _event(b"1").wire)
    memory.broker.route(memory.topology.events, "payment.PaymentTaken", _event(b"2").wire)
    memory.broker.route(memory.topology.events, "orders.OrderPlaced.again", _event(b"3").wire)
    depths = memory.broker.depth(queue), memory.broker.depth(other)
    memory.broker.delete(queue)
    memory.broker.delete(queue)
    memory.broker.route(memory.topology.events, "orders.OrderPlaced", _event(b"4").wire)

    assert (depths, memory.broker.depth(other)) == ((2, 1), 2)
    with pytest.raises(KeyError):
        memory.broker.depth(queue)


def test_consume_gives_up_in_time(memory: MemoryWorld) -> None:
    """Broken: an idle participant could not be stopped, or would see commands beyond the batch it asked for."""
    transport = _transport(memory, "payment")

    assert transport.consume(5, 0.01) == []

    for body in (b"1", b"2", b"3"):
        memory.broker.route(memory.topology.commands, "payment", _event(body).wire)

    assert [received.wire.body for received in transport.consume(2, 1.0)] == [b"1", b"2"]

"""What only the real broker does: links that die, refusals, alarms, properties on the wire."""

from __future__ import annotations

import queue
import socket
import struct
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest

from orchestrator.app.ports import CommandQueue
from orchestrator.bus.connection import UNREADABLE_HEADERS
from orchestrator.bus.link import Link, retry_delay
from orchestrator.bus.publisher import Publisher
from orchestrator.bus.rabbitmq import RabbitBus
from orchestrator.bus.topology import declare
from orchestrator.contract import Topology, Wire
from orchestrator.errors import BusUnavailable, SettingsError
from tests.bus.conftest import LIMIT_S, PARTICIPANTS, Mailbox, RabbitWorld, maker
from tests.support.processes import free_port

EVENT = Wire(content_type="application/cloudevents+json", headers={}, body=b"1")


def _started(world: RabbitWorld) -> tuple[RabbitBus, Mailbox]:
    bus, mailbox = world.bus(), Mailbox()
    bus.start(mailbox, consume=True)
    mailbox.link(consuming=True, publishing=True)
    return bus, mailbox


def _cut(bus: RabbitBus) -> None:
    """Break both sockets, as a network does."""
    for link in (bus._inward, bus._outward):
        assert link.connection is not None
        link.connection._transport._sock.shutdown(socket.SHUT_RDWR)


def test_the_nodes_of_a_cluster_are_tried_in_turn(rabbit: RabbitWorld) -> None:
    """Broken: with one node of three down a worker would wait for that node, or take a third longer for every start."""
    user, _, host = rabbit.url.rpartition("@")
    for first in (f"127.0.0.1:{free_port()},", f"127.0.0.1:{free_port()},127.0.0.1:{free_port()},"):
        bus, mailbox = RabbitBus(f"{user}@{first}{host}", rabbit.topology, PARTICIPANTS, jitter=lambda: 0.0), Mailbox()
        rabbit.buses.append(bus)
        bus.start(mailbox, consume=True)
        mailbox.link(consuming=True, publishing=True)
        declare(f"{user}@{first}{host}", rabbit.topology, PARTICIPANTS)


def test_a_message_that_the_broker_forgot_ends_the_session(rabbit: RabbitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken: everything would wait behind one message whose confirm never comes."""
    message = maker(rabbit.topology)
    publisher = Publisher(lambda *_: None, lambda: None, lambda: None)
    publisher.is_up, publisher._in_flight = True, {1: message("1"), 2: message("2")}
    looks = [publisher.is_stalled(), publisher.is_stalled()]
    del publisher._in_flight[1]
    looks += [publisher.is_stalled(), publisher.is_stalled()]
    publisher.is_blocked = True  # the broker does not read: that has a limit of its own
    assert [*looks, publisher.is_stalled()] == [False, True, False, True, False]

    bus, mailbox = _started(rabbit)
    answers = iter([True])
    monkeypatch.setattr(bus._publisher, "is_stalled", lambda: next(answers, False))
    mailbox.link(publishing=False)
    mailbox.link(publishing=True)
    bus.publish([message("3")])
    assert mailbox.outcomes(1) == {"3": "confirmed"}


def test_a_refused_message_ends_the_session(rabbit: RabbitWorld) -> None:
    """Broken: a channel opened while a queue had no leader refuses all for that queue as long as it lives (3.10): nothing would be sent."""
    bus, mailbox = _started(rabbit)
    full = rabbit.channel.queue_declare("", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}).method.queue
    rabbit.channel.queue_bind(full, rabbit.topology.commands, "full")
    message = maker(rabbit.topology)
    bus.publish([message("1", routing_key="full")])
    assert mailbox.outcomes(1) == {"1": "confirmed"}
    bus.publish([message("2", routing_key="full")])
    assert mailbox.outcomes(1) == {"2": "nacked"}
    mailbox.link(publishing=False)
    mailbox.link(publishing=True)
    bus.publish([message("3")])
    assert mailbox.outcomes(1) == {"3": "confirmed"}


def test_cut_link_comes_back_with_what_was_unacked(rabbit: RabbitWorld) -> None:
    """Broken: a network failure would end the worker, or lose the events it had in hand."""
    bus, mailbox = _started(rabbit)
    rabbit.inject(EVENT)
    (first,) = mailbox.take(1)
    _cut(bus)
    mailbox.link(consuming=False)
    change = mailbox.link(consuming=True, publishing=True)
    (again,) = mailbox.take(1)
    bus.publish([maker(rabbit.topology)("a")])

    assert not change.blocked
    assert (again.wire.body, again.redelivered, again.link_epoch) == (b"1", True, first.link_epoch + 1)
    assert mailbox.outcomes(1) == {"a": "confirmed"}


def test_cut_link_loses_what_is_in_flight(rabbit: RabbitWorld) -> None:
    """Broken: commands without confirm would neither be sent again nor be forgotten: they would hang in the worker's books."""
    bus, mailbox = _started(rabbit)
    make = maker(rabbit.topology)
    _cut(bus)
    bus.publish([make(str(number)) for number in range(50)])
    outcomes = mailbox.outcomes(50)

    assert set(outcomes.values()) <= {"lost", "confirmed"}
    assert "lost" in outcomes.values()


def test_a_connection_that_is_closing_is_asked_nothing(rabbit: RabbitWorld) -> None:
    """Broken: a question at the moment the broker closes a connection would raise in the loop, and end both links; or never be answered."""
    bus, mailbox = _started(rabbit)
    answers: list[Future[Any]] = [Future(), Future()]

    def close_and_ask(links: list[Link], answer: Future[Any]) -> None:
        for link in links:
            assert link.connection is not None
            link.connection.close()
        bus._ask(rabbit.topology.inbox, answer)

    bus._call(lambda: close_and_ask([bus._inward], answers[0]))
    assert answers[0].result(LIMIT_S).message_count == 0, "the other connection tells"
    mailbox.link(consuming=False)
    mailbox.link(consuming=True)
    bus._call(lambda: close_and_ask([bus._inward, bus._outward], answers[1]))
    assert answers[1].result(LIMIT_S) is None
    mailbox.link(consuming=False, publishing=False)
    mailbox.link(consuming=True, publishing=True)


def test_deleted_inbox_is_declared_again(rabbit: RabbitWorld) -> None:
    """Broken: a consumer that the broker cancels would be silent for ever, with a link that looks healthy."""
    _, mailbox = _started(rabbit)
    rabbit.connection.channel().queue_delete(rabbit.topology.inbox)
    mailbox.link(consuming=False)
    mailbox.link(consuming=True)
    rabbit.inject(EVENT)

    assert mailbox.take(1)[0].wire.body == b"1"


def test_deleted_exchange_is_declared_again(rabbit: RabbitWorld) -> None:
    """Broken: a broker that lost its data would refuse every command until somebody restarts the workers."""
    bus, mailbox = _started(rabbit)
    rabbit.connection.channel().exchange_delete(rabbit.topology.commands)
    bus.publish([maker(rabbit.topology)("a")])

    assert mailbox.outcomes(1) == {"a": "lost"}

    mailbox.link(publishing=False)
    mailbox.link(publishing=True)
    bus.publish([maker(rabbit.topology)("a")])

    assert mailbox.outcomes(1) == {"a": "confirmed"}


def test_topology_is_declared_at_first_start(rabbit: RabbitWorld) -> None:
    """Broken: a fresh broker would need somebody to prepare it."""
    channel = rabbit.connection.channel()
    for name in (rabbit.topology.inbox, *map(rabbit.topology.command_queue, PARTICIPANTS)):
        channel.queue_delete(name)
    for name in (rabbit.topology.events, rabbit.topology.commands, rabbit.topology.announcements):
        channel.exchange_delete(name)
    bus, mailbox = _started(rabbit)
    rabbit.inject(EVENT)
    bus.publish([maker(rabbit.topology)("a")])

    assert mailbox.take(1)[0].wire.body == b"1"
    assert mailbox.outcomes(1) == {"a": "confirmed"}


def test_commands_carry_the_agreed_properties(rabbit: RabbitWorld) -> None:
    """Broken: commands would not survive a broker restart, or participants in other languages could not read them."""
    bus, mailbox = _started(rabbit)
    bus.publish([maker(rabbit.topology)("a", headers={"ce-x": "1"})])
    mailbox.outcomes(1)
    _, properties, _ = rabbit.channel.basic_get(rabbit.topology.command_queue("inventory"), auto_ack=True)

    assert (properties.delivery_mode, properties.message_id, properties.type, properties.correlation_id) == (
        2,
        "m-a",
        "ReserveInventory",
        "order-1",
    )
    assert (properties.content_type, properties.headers["ce-x"]) == ("application/cloudevents+json", "1")


def test_user_id_is_passed_on(rabbit: RabbitWorld) -> None:
    """Broken: `require_user_id` would refuse everybody."""
    _, mailbox = _started(rabbit)
    user = pika.URLParameters(rabbit.url).credentials.username
    rabbit.inject(EVENT, user_id=user)

    assert mailbox.take(1)[0].user_id == user


def test_message_that_cannot_be_encoded_stops_nobody(rabbit: RabbitWorld) -> None:
    """Broken: one command with a header that AMQP cannot hold would stop all others."""
    bus, mailbox = _started(rabbit)
    make = maker(rabbit.topology)
    bus.publish([make("a"), make("bad", headers={"x": object()}), make("b")])

    assert mailbox.outcomes(3) == {"a": "confirmed", "bad": "nacked", "b": "confirmed"}


class RawProperties(pika.BasicProperties):  # type: ignore[misc]  # pika ships no types
    """Properties whose headers are given as bytes, valid AMQP or not."""

    def __init__(self, table: bytes, content_type: bytes = b"") -> None:
        super().__init__()
        self._table = table
        self._content_type = content_type

    def encode(self) -> list[bytes]:
        """Flags: content type (bit 15) and headers (bit 13)."""
        content_type = bytes([len(self._content_type)]) + self._content_type
        return [struct.pack(">H", 0b1010_0000_0000_0000), content_type, struct.pack(">I", len(self._table)), self._table]


FAR_FUTURE = b"\x02atT" + struct.pack(">Q", 2**62)
DEEP_NEST = b"\x02anA" + b"".join(struct.pack(">I", 5 * depth) + b"A" for depth in range(1500, 0, -1)) + bytes(4)


@pytest.mark.parametrize("table", [FAR_FUTURE, DEEP_NEST], ids=["time out of range", "nested too deep"])
def test_unreadable_headers_stop_nobody(rabbit: RabbitWorld, table: bytes) -> None:
    """Broken: one sender could stop every worker with headers that pika cannot decode, again at each redelivery."""
    _, mailbox = _started(rabbit)
    rabbit.publish(RawProperties(table), b"poison")
    rabbit.inject(EVENT)
    poison, neighbour = mailbox.take(2)

    assert list(poison.wire.headers) == [UNREADABLE_HEADERS]
    assert (poison.wire.body, neighbour.wire.body) == (b"poison", b"1")


def test_text_that_is_not_utf8_is_passed_as_text(rabbit: RabbitWorld) -> None:
    """Broken: a content type or header name of arbitrary bytes would make the reader of the envelope raise."""
    _, mailbox = _started(rabbit)
    rabbit.publish(RawProperties(b"\x02\xff\xfet\x01", content_type=b"\xff"), b"x")

    assert mailbox.take(1)[0].wire == Wire(content_type="�", headers={"��": True}, body=b"x")


def test_large_integers_in_headers_read_as_integers(rabbit: RabbitWorld) -> None:
    """Broken: `ce-attempt` sent as a 64-bit integer would read `2L`, which is how pika writes it, and be refused."""
    _, mailbox = _started(rabbit)
    rabbit.inject(Wire(content_type="", headers={"ce-attempt": 2**40}, body=b"x"))

    assert str(mailbox.take(1)[0].wire.headers["ce-attempt"]) == str(2**40)


def test_two_processes_share_the_inbox(rabbit: RabbitWorld) -> None:
    """Broken: a second worker could not start beside the first."""
    _, first = _started(rabbit)
    _, second = _started(rabbit)
    for _ in range(20):
        rabbit.inject(EVENT)

    first.take(10)
    second.take(10)


def _as(url: str, *, user: str | None = None, path: str | None = None, port: int | None = None) -> str:
    parts = urlsplit(url)
    netloc = f"{user or f'{parts.username}:{parts.password}'}@{parts.hostname}:{port or parts.port or 5672}"
    return urlunsplit((parts.scheme, netloc, path or parts.path, "", ""))


def test_wrong_password_is_said_clearly(rabbit: RabbitWorld, errors: queue.Queue[str]) -> None:
    """Broken: whoever mistypes a password would search in the dark, and the broker's log would fill."""
    bus = RabbitBus(_as(rabbit.url, user="guest:s3cret"), rabbit.topology, PARTICIPANTS, jitter=lambda: 0.5)
    rabbit.buses.append(bus)
    bus.start(Mailbox(), consume=True)
    said = errors.get(timeout=LIMIT_S)

    assert "refuses the user name or password" in said
    assert "Fix: " in said
    assert "s3cret" not in said


def test_other_arguments_are_said_clearly(rabbit: RabbitWorld, errors: queue.Queue[str]) -> None:
    """Broken: a queue left by something else would make a reconnect loop without a word about the cause."""
    channel = rabbit.connection.channel()
    channel.queue_delete(rabbit.topology.inbox)
    channel.queue_declare(rabbit.topology.inbox, durable=True)
    bus, mailbox = rabbit.bus(), Mailbox()
    bus.start(mailbox, consume=True)
    said = errors.get(timeout=LIMIT_S)
    mailbox.link(publishing=True)

    assert "406" in said
    assert rabbit.topology.inbox in said
    assert "Fix: drain and delete it" in said


def test_missing_permission_is_said_clearly(rabbit: RabbitWorld, errors: queue.Queue[str]) -> None:
    """Broken: a user who may not declare, on a broker without the topology, would see a reconnect loop and no cause.

    Names that begin with `amq.` are refused to everybody with the same answer, 403.
    """
    bus, mailbox = RabbitBus(rabbit.url, Topology(namespace="amq"), PARTICIPANTS, jitter=lambda: 0.0), Mailbox()
    rabbit.buses.append(bus)
    bus.start(mailbox, consume=False)
    said = [errors.get(timeout=LIMIT_S), errors.get(timeout=LIMIT_S)]

    assert "403 ACCESS_REFUSED" in said[0]
    assert "set_permissions" in said[0]
    assert "404 NOT_FOUND" in said[1]
    assert "Fix: give the user permission to configure" in said[1]
    assert mailbox.links.empty()


def test_declare_says_what_to_change(rabbit: RabbitWorld) -> None:
    """Broken: set-up errors and an absent broker could not be told apart, or would show a traceback."""
    with pytest.raises(SettingsError, match="virtual host"):
        declare(_as(rabbit.url, path="/no-such-vhost"), rabbit.topology, PARTICIPANTS)
    with pytest.raises(BusUnavailable, match="cannot be reached"):
        declare(_as(rabbit.url, port=free_port()), rabbit.topology, PARTICIPANTS)
    with pytest.raises(SettingsError, match="ESCROW_AMQP_URL"):
        declare("amqp://guest:guest@127.0.0.1:port/", rabbit.topology, PARTICIPANTS)


def test_absent_broker_is_waited_for(errors: queue.Queue[str]) -> None:
    """Broken: a worker started before its broker would die, or tell nobody; what is published meanwhile would hang."""
    topology = Topology(namespace="escrow-test-absent")
    bus, mailbox = RabbitBus(f"amqp://guest:guest@127.0.0.1:{free_port()}/", topology, PARTICIPANTS, jitter=lambda: 0.5), Mailbox()
    bus.start(mailbox, consume=True)
    said = errors.get(timeout=LIMIT_S)
    bus.publish([maker(topology)("a")])

    assert mailbox.outcomes(1) == {"a": "lost"}
    assert "cannot be reached" in said
    assert bus.inbox_depth() is None

    bus.close()


def test_consumers_of_a_command_queue_are_counted(rabbit: RabbitWorld) -> None:
    """Broken: nobody would see that a participant is gone before its deadlines pass (R8); or a missing queue would harm the link."""
    bus, mailbox = rabbit.bus(), Mailbox()
    bus.start(mailbox, consume=False)
    mailbox.link(publishing=True)

    bus.publish([maker(rabbit.topology)("a")])
    mailbox.outcomes(1)

    assert bus.command_queue("inventory") == CommandQueue(ready=1, consumers=0)
    assert bus.command_queue("nobody") is None

    with rabbit.consuming("inventory"):
        assert bus.command_queue("inventory").consumers == 1  # type: ignore[union-attr]

    bus.close()

    assert bus.command_queue("inventory") is None


def test_retry_delay_is_bounded() -> None:
    """Broken: reconnects would hammer the broker, or come minutes after it is back."""
    delays = [retry_delay(failures, 1.0) for failures in range(2000)]

    assert delays[0] == 0.1
    assert delays == sorted(delays)
    assert max(delays) == 10.0
    assert retry_delay(5, 0.0) == 0.0

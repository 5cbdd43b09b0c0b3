"""The participant on a real broker: the transport, and a whole process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract import Envelope, decode, encode
from participants.kit.rabbit import RabbitTransport
from participants.kit.transport import Published
from tests.participants.escrow import Escrow, fresh_namespace
from tests.participants.support import ask, undo_of
from tests.support.processes import Process, eventually
from tests.support.services import amqp_url, fresh_postgres, private_rabbitmq

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::DeprecationWarning:pika")]

LINES = {"lines": [{"sku": "apple", "quantity": 1}]}


@pytest.fixture
def escrow() -> Iterator[Escrow]:
    """A namespace of its own on the broker, deleted afterwards."""
    with fresh_namespace() as made:
        yield made


@pytest.fixture
def transport(escrow: Escrow) -> Iterator[RabbitTransport]:
    """The link of a participant, up."""
    made = RabbitTransport(amqp_url(), escrow.topology, "inventory")
    assert made.wait_until_up(15)
    yield made
    made.close()


def consume(transport: RabbitTransport, count: int) -> list[Any]:
    found: list[Any] = []

    def look() -> bool:
        found.extend(transport.consume(count, 0.1))
        return len(found) >= count

    eventually(look)
    return found


def event(n: int) -> Published:
    envelope = Envelope(id=f"m-{n}", source="inventory", type="Done", subject=f"o-{n}", data={})
    return Published(envelope.id, "Done", "inventory.Done", envelope.subject, encode(envelope))


def test_a_batch_is_consumed_acked_and_published(escrow: Escrow, transport: RabbitTransport) -> None:
    """Persistent, with the properties that partitioning and tracing need; and what is acked does not come back."""
    escrow.declare_inbox()
    escrow.send("inventory", *(ask("ReserveInventory", f"o-{n}", LINES) for n in range(50)))
    received = consume(transport, 50)
    assert [decode(r.wire).subject for r in received] == [f"o-{n}" for n in range(50)]
    transport.ack([r.tag for r in received])
    transport.publish([event(n) for n in range(50)])
    envelopes = escrow.receive(50)
    assert [envelope.subject for envelope, _, _ in envelopes] == [f"o-{n}" for n in range(50)]
    _, properties, key = envelopes[0]
    assert (properties.delivery_mode, properties.correlation_id, properties.message_id, key) == (2, "o-0", "m-0", "inventory.Done")
    transport.close()
    assert escrow.ready("inventory") == 0


def test_what_is_not_acked_is_delivered_again(escrow: Escrow, transport: RabbitTransport) -> None:
    """Acks out of order, and only some: exactly the others come back, and a tag of the link that is gone is dropped."""
    escrow.send("inventory", *(ask("ReserveInventory", f"o-{n}", LINES) for n in range(6)))
    received = consume(transport, 6)
    transport.ack([received[n].tag for n in (0, 1, 4)])
    transport.close()
    again = RabbitTransport(amqp_url(), escrow.topology, "inventory")
    try:
        back = consume(again, 3)
        assert {decode(r.wire).subject for r in back} == {"o-2", "o-3", "o-5"}
        assert all(r.redelivered for r in back)
        again.ack([r.tag for r in back])
    finally:
        again.close()
    assert escrow.ready("inventory") == 0


def test_a_batch_is_acked_at_once_after_a_lost_link(escrow: Escrow, transport: RabbitTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a participant that once lost its link with a batch in its hands would ack message by message ever after."""
    escrow.send("inventory", *(ask("ReserveInventory", f"o-{n}", LINES) for n in range(6)))
    dropped = consume(transport, 6)
    transport.pause()
    transport.resume()
    received = consume(transport, 6)
    frames: list[tuple[int, bool]] = []
    send = transport._ack

    def note(tag: int, *, multiple: bool) -> None:
        frames.append((tag, multiple))
        send(tag, multiple=multiple)

    monkeypatch.setattr(transport, "_ack", note)
    transport.ack([r.tag for r in received])
    transport.ack([r.tag for r in dropped])
    transport.close()
    assert frames == [(received[-1].tag, True)]
    assert escrow.ready("inventory") == 0


def test_an_event_that_no_queue_takes_is_not_published(escrow: Escrow, transport: RabbitTransport) -> None:
    """Before Escrow's inbox is there, replies must stay in the outbox: RabbitMQ confirms even what it drops."""
    with pytest.raises(ConnectionError, match="No queue"):
        transport.publish([event(1)])
    escrow.declare_inbox()
    transport.publish([event(1)])
    assert len(escrow.receive(1)) == 1


@pytest.mark.slow
def test_the_link_comes_back_after_a_broker_restart() -> None:
    """The broker's restart must cost no message, and need no restart of the participant; publishing says so at once meanwhile."""
    with private_rabbitmq() as server:
        escrow = Escrow(server.url, "test")
        escrow.declare_inbox()
        transport = RabbitTransport(server.url, escrow.topology, "inventory")
        try:
            assert transport.wait_until_up(15)
            escrow.send("inventory", ask("ReserveInventory", "o-1", LINES))
            (stale,) = consume(transport, 1)
            escrow.leave()
            server.stop()
            eventually(lambda: not transport.is_up)
            with pytest.raises(ConnectionError):
                transport.publish([event(1)])
            server.start()
            assert transport.wait_until_up(40)
            transport.ack([stale.tag])
            (again,) = consume(transport, 1)
            assert again.redelivered
            transport.ack([again.tag])
            transport.publish([event(1)])
        finally:
            transport.close()


@pytest.mark.slow
def test_a_broker_that_blocks_publishers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an alarm nothing is confirmed: publishing must give up, keep the replies, and succeed once it is over."""
    monkeypatch.setattr("participants.kit.rabbit.CONFIRM_TIMEOUT_S", 1.0)
    with private_rabbitmq() as server:
        escrow = Escrow(server.url, "test")
        escrow.declare_inbox()
        escrow.leave()
        transport = RabbitTransport(server.url, escrow.topology, "inventory")
        try:
            assert transport.wait_until_up(15)
            server.alarm(True)
            with pytest.raises(ConnectionError):
                transport.publish([event(1)])
            server.alarm(False)

            def published() -> bool:
                try:
                    transport.publish([event(2)])
                except ConnectionError:
                    return False
                return True

            eventually(published, 30)
        finally:
            transport.close()


@pytest.mark.slow
def test_a_real_process(escrow: Escrow, tmp_path: Path) -> None:
    """The service as it is deployed: commands in, events out, killed in the middle, stalled and released, stopped by SIGTERM."""
    escrow.declare_inbox()
    with fresh_postgres() as database_url:
        arguments = [
            "--database-url",
            database_url,
            "--amqp-url",
            amqp_url(),
            "--namespace",
            escrow.topology.namespace,
            "--stock",
            "apple=100",
        ]
        with Process("participants.inventory", *arguments, output=tmp_path / "first.log") as process:
            process.wait_for_line("inventory: http://")
            commands = [ask("ReserveInventory", f"o-{n}", LINES) for n in range(40)]
            eventually(lambda: "consumes" in process.text())
            escrow.send("inventory", *commands)
            process.kill()
        with Process("participants.inventory", "run", *arguments, output=tmp_path / "second.log") as process:
            url = process.wait_for_line("inventory: http://").split()[-1]
            answers = {envelope.subject: envelope.type for envelope, _, _ in escrow.receive(40)}
            assert answers == dict.fromkeys((command.subject for command in commands), "InventoryReserved")
            process.wait_for_http(f"{url}/healthz")
            tell(tmp_path, "stall", url)
            escrow.send("inventory", undo_of("ReleaseInventory", commands[0]))
            assert totals(url)["released"] == 0
            tell(tmp_path, "normal", url)
            eventually(lambda: escrow.receive(1)[0][0].type == "InventoryReleased")
            assert totals(url) == {
                "reserved": 40,
                "released": 1,
                "applied_twice": 0,
                "stock_held": 39,
                "stock_initial": 100,
                "stock_available": 61,
            }
            assert process.terminate() == 0
            assert "Traceback" not in process.text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--database-url", "sqlite:////nowhere/at/all.db"], "database"),
        (["--database-url", "nonsense"], "database"),
        (["--database-url", "sqlite://", "--amqp-url", "nonsense://"], "RabbitMQ"),
        (["--database-url", "sqlite://", "--http-port", "99999"], "http-port"),
    ],
)
def test_a_wrong_setting_is_said_in_a_line(tmp_path: Path, arguments: list[str], what: str) -> None:
    """An operator at 3 am needs the setting's name, not a traceback."""
    with Process("participants.inventory", *arguments, output=tmp_path / "log") as process:
        assert process.wait() == 2
        assert what in process.text()
        assert "Traceback" not in process.text()


def tell(tmp_path: Path, what: str, url: str) -> None:
    with Process("participants.inventory", "tell", what, "--url", url, output=tmp_path / f"tell-{what}.log") as process:
        assert process.wait() == 0


def totals(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/totals", timeout=5) as answer:
        found: dict[str, int] = json.load(answer)
        return found

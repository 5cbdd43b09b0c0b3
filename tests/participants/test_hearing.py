"""Events of others that change a participant's own tables: each once, waiting while it is away, and never at the cost of its commands."""

from __future__ import annotations

import logging
import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestrator.contract import Envelope, encode
from participants import inventory, warehouse
from participants.kit.answers import Reply
from participants.kit.participant import Heard, Participant, Tx
from participants.kit.rabbit import RabbitTransport
from participants.kit.runner import Runner
from participants.warehouse import stock_received
from tests.participants.escrow import Escrow, fresh_namespace
from tests.participants.support import MemoryTransport, ask, running
from tests.support.processes import eventually
from tests.support.services import amqp_url, private_rabbitmq

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pika")


def stock(engine: sa.Engine) -> dict[str, tuple[int, int]]:
    """(all that came, available) by SKU."""
    with engine.connect() as connection:
        return {row.sku: (row.initial, row.available) for row in connection.execute(sa.select(inventory.STOCK))}


def build(engine: sa.Engine) -> Participant:
    """An inventory that has what it received, and ten pears."""
    return inventory.build(engine, stock={"pear": 10}, default_stock=0)


def test_stock_that_came_is_there_to_be_reserved(engine: sa.Engine) -> None:
    """If it failed, what the warehouse received could not be sold, or be sold before it came."""
    participant = build(engine)
    apples = {"lines": [{"sku": "apple", "quantity": 2}]}
    wires = [encode(each) for each in (ask("ReserveInventory", "o-1", apples), stock_received("r-1", "apple", 5))]
    replies = participant.handle([*wires, encode(ask("ReserveInventory", "o-2", apples)), encode(stock_received("r-1", "pear", 1))])
    assert [reply.message.event_type for reply in replies] == ["InventoryRejected", "InventoryReserved"]
    assert stock(engine) == {"apple": (5, 3), "pear": (11, 11)}
    totals = participant.totals()
    assert totals["stock_initial"] == totals["stock_available"] + totals["stock_held"] == 16


def test_an_event_is_heard_once(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, an event that is delivered or published twice would put goods on the shelf that nobody has."""
    event = stock_received("r-1", "apple", 5)
    again = replace(event, time=None)
    for _ in range(2):
        assert build(engine).handle([encode(event), encode(again)]) == []
    build(engine).handle([encode(replace(event, source="another")), encode(stock_received("r-2", "apple", 5))])
    assert stock(engine) == {"apple": (15, 15)}
    assert caplog.records == []
    with caplog.at_level(logging.ERROR):
        build(engine).handle([encode(replace(event, data={"sku": "apple", "units": 6}))])
    assert [record.action for record in caplog.records] == ["message_id_reused"]  # type: ignore[attr-defined]
    assert stock(engine) == {"apple": (15, 15)}


@pytest.mark.parametrize(
    "data", [{}, {"sku": "apple"}, {"sku": "a b", "units": 1}, {"sku": "apple", "units": 0}, {"sku": "apple", "units": True}]
)
def test_an_event_that_makes_no_sense_harms_no_neighbour(
    sqlite_engine: sa.Engine, caplog: pytest.LogCaptureFixture, data: dict[str, Any]
) -> None:
    """If it failed, one bad event would stop the commands behind it, or leave half of its effect."""
    bad = replace(stock_received("r-1", "apple", 5), data=data)
    wires = [encode(each) for each in (bad, stock_received("r-2", "apple", 5), ask("ReserveInventory", "o-1", {}))]
    with caplog.at_level(logging.ERROR):
        assert len(build(sqlite_engine).handle(wires)) == 1
    assert [(record.action, record.message_id) for record in caplog.records] == [("event_failed", bad.id)]  # type: ignore[attr-defined]
    assert stock(sqlite_engine) == {"apple": (5, 5)}


def test_two_processes_at_once_hear_an_event_once(engine: sa.Engine) -> None:
    """If it failed, a copy that comes to another process at the same time would count twice, or raise."""
    wires = [encode(stock_received(f"r-{n}", "apple", 1)) for n in range(20)]
    barrier = threading.Barrier(2)

    def work(participant: Participant) -> None:
        barrier.wait(5)
        for wire in wires:
            eventually(lambda wire=wire: _handled(participant, wire))  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=[build(engine)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert stock(engine) == {"apple": (20, 20)}


def _handled(participant: Participant, wire: Any) -> bool:
    try:
        participant.handle([wire])
    except sa.exc.OperationalError:
        return False
    return True


def test_one_event_may_be_heard_and_reacted_to(sqlite_engine: sa.Engine) -> None:
    """If it failed, one of two handlers of an event would silently never be called."""
    participant = Participant("both", sqlite_engine)
    heard: list[object] = []

    @participant.hears("OrderPlaced")
    def hear(_tx: Tx, event: Heard) -> None:
        heard.append((event.name, event.source, event.subject, event.replayed))

    @participant.reacts_to("OrderPlaced", step="work")
    @participant.command("Work")
    def work(_tx: Tx, _command: Any) -> Any:
        heard.append("reacted")
        return Reply("Worked")

    event = Envelope(id="m-1", source="orders", type="OrderPlaced", subject="o-1", data={})
    assert len(participant.handle([encode(event)])) == 1
    assert len(participant.handle([encode(event)])) == 1
    assert heard == [("OrderPlaced", "orders", "o-1", False), "reacted"]
    assert participant.hearing == participant.subscriptions == {"OrderPlaced"}
    with pytest.raises(ValueError, match="OrderPlaced has a handler already"):
        participant.hears("OrderPlaced")(hear)


def test_the_runner_acks_what_was_heard(sqlite_engine: sa.Engine) -> None:
    """If it failed, an event would be delivered again and again, or be acked before it is committed."""
    transport = MemoryTransport()
    transport.send(stock_received("r-1", "apple", 5), ask("ReserveInventory", "o-1", {"lines": [{"sku": "apple", "quantity": 1}]}))
    with running(Runner(build(sqlite_engine), transport)):
        transport.wait_for(1)
        eventually(lambda: not transport.unacked)
    assert stock(sqlite_engine) == {"apple": (5, 4)}


@pytest.fixture
def escrow() -> Iterator[Escrow]:
    """A namespace of its own on the broker, deleted afterwards."""
    with fresh_namespace() as made:
        yield made


def links(escrow: Escrow, *, replay: bool = False) -> RabbitTransport:
    """The link of inventory, up."""
    made = RabbitTransport(amqp_url(), escrow.topology, "inventory", hearing=inventory.HEARD, replay=replay)
    assert made.wait_until_up(15)
    return made


def received(*stocks: str) -> None:
    """The warehouse says what came, by its command line; the namespace is in its environment."""
    result = CliRunner().invoke(warehouse.cli, ["receive", *stocks])
    assert result.exit_code == 0, result.output


@pytest.mark.real
def test_what_was_said_while_it_was_away_waits(escrow: Escrow, sqlite_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, goods that came while inventory was down would never be sold; nor may they be heard before their state is rebuilt."""
    monkeypatch.setenv("ESCROW_AMQP_URL", amqp_url())
    monkeypatch.setenv("ESCROW_NAMESPACE", escrow.topology.namespace)
    escrow.declare_inbox()
    waiting = links(escrow, replay=True)  # makes the queue, and leaves it alone
    received("apple=5", "pear=1", "--receipt", "r-1")
    received("apple=5", "--receipt", "r-1")
    assert waiting.consume(1, 0.3) == []
    waiting.discard()
    with running(Runner(build(sqlite_engine), links(escrow))):
        eventually(lambda: stock(sqlite_engine) == {"apple": (5, 5), "pear": (11, 11)})
        received("apple=2")
        escrow.send("inventory", ask("ReserveInventory", "o-1", {"lines": [{"sku": "apple", "quantity": 1}]}))
        eventually(lambda: stock(sqlite_engine)["apple"] == (7, 6))


@pytest.mark.real
def test_the_warehouse_is_told_what_is_wrong(escrow: Escrow) -> None:
    """If it failed, goods would be thought to be on the shelf that nobody was told of."""
    where = ["--amqp-url", amqp_url(), "--namespace", escrow.topology.namespace]
    told = CliRunner().invoke(warehouse.cli, ["receive", "apple=5", *where])
    assert (told.exit_code, "No queue takes the event" in told.output) == (2, True)
    for wrong in (["apple"], ["apple=0"], ["apple=1000001"]):
        assert CliRunner().invoke(warehouse.cli, ["receive", *wrong, *where]).exit_code == 2
    away = CliRunner().invoke(warehouse.cli, ["receive", "apple=5", "--amqp-url", "amqp://127.0.0.1:1/"])
    assert (away.exit_code, away.output.count("\n"), "refused" in away.output) == (2, 1, True)


def said_of(transport: RabbitTransport, what: str) -> str:
    """The transport's trouble, once it speaks of this."""
    eventually(lambda: what in str(transport.trouble))
    return str(transport.trouble)


@pytest.mark.slow
@pytest.mark.real
def test_one_that_may_not_hear_acts_by_command_and_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a right that a new release needs would stop the commands too, or nobody would know why the shelves stay empty."""
    monkeypatch.setattr("participants.kit.sources.RESUBSCRIBE_S", 0.2)
    with private_rabbitmq() as server:
        escrow = Escrow(server.url, "escrow")
        events, queue = escrow.topology.events, escrow.topology.command_queue("inventory")
        owner = RabbitTransport(server.url, escrow.topology, "inventory")
        assert owner.wait_until_up(15), "it declares what the user below may not"
        owner.close()
        server.add_user("inventory", ("^$", f"^{events}$", f"^{queue}$"))
        server.ctl("set_topic_permissions", "inventory", events, r"^inventory\.", "^$")
        transport = RabbitTransport(server.url_of("inventory"), escrow.topology, "inventory", hearing=inventory.HEARD)
        try:
            assert transport.wait_until_up(15)
            escrow.send("inventory", ask("ReserveInventory", "o-1", {}))
            assert len(transport.consume(1, 10)) == 1
            for missing in ("access to queue", "access to topic"):
                said = said_of(transport, missing)
                assert said.startswith("It does not hear StockReceived: RabbitMQ refused: 403")
                command = shlex.split(said.partition("Fix: run: ")[2])
                server.ctl(*command[1:])
            eventually(lambda: transport.trouble is None)
        finally:
            transport.close()
            escrow.leave()

"""The choreography of the samples, as it runs without Escrow: order placed → inventory updated → invoice e-mailed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.bus.memory import MemoryBroker
from orchestrator.bus.memory_transport import MemoryParticipantTransport
from orchestrator.contract import Envelope, Topology, attempt_message_id, decode, encode, first_command_id, undo_id
from participants import embedded, inventory, invoice, orders
from participants.kit.facts import FactRefusedError
from tests.participants.escrow import Escrow, fresh_namespace
from tests.participants.support import talk_to
from tests.support.processes import Process, eventually
from tests.support.services import amqp_url

ORDER = {"customer_email": "a@example.com", "lines": [{"sku": "apple", "quantity": 2}], "amount_minor": 1999, "currency": "EUR"}
WATCHED = {"UpdateInventory": "update_inventory", "RestoreInventory": "update_inventory", "EmailInvoice": "email_invoice"}


class World:
    """The samples in this process, and what Escrow would hear of them."""

    def __init__(self, broker: MemoryBroker, samples: embedded.Embedded) -> None:
        self._broker = broker
        self._doors = samples.urls
        self._heard: list[Envelope] = []

    def place(self, order_id: str) -> None:
        """A customer places an order."""
        fact = {"type": "OrderPlaced", "order_id": order_id, "data": ORDER, "fact_id": order_id}
        assert httpx.post(f"{self._doors['orders']}/facts", json=fact).status_code == 202

    def tell(self, name: str, **faults: bool) -> None:
        """Tell a participant what to do wrong."""
        httpx.put(f"{self._doors[name]}/faults", json=faults).raise_for_status()

    def command(self, participant: str, name: str, order_id: str) -> None:
        """What Escrow sends on silence, or to undo: the body is of its own making."""
        self._broker.route(self._broker.topology.commands, participant, encode(command(name, order_id)))

    def totals(self, name: str) -> dict[str, int]:
        """What the participant's own tables add up to."""
        found: dict[str, int] = httpx.get(f"{self._doors[name]}/totals").json()
        return found

    def wait_for(self, order_id: str, *event_types: str) -> list[Envelope]:
        """The different events of an order, once their types are these."""

        def look() -> list[Envelope]:
            while (held := self._broker.take(self._broker.topology.inbox)) is not None:
                self._heard.append(decode(held.wire))
            events = {event.id: event for event in self._heard if event.subject == order_id}
            assert [event.type for event in events.values()] == list(event_types)
            return list(events.values())

        return eventually(look)


def command(name: str, order_id: str) -> Envelope:
    """The command of a watched step, or its undo."""
    own_id, undoes = first_command_id(order_id, WATCHED[name]), None
    if name.startswith("Restore"):
        own_id, undoes = undo_id(own_id), own_id
    message_id = attempt_message_id(own_id, 1)
    data = {**ORDER, "order_id": order_id, "epoch": 0}
    return Envelope(id=message_id, source="escrow", type=name, subject=order_id, data=data, commandid=own_id, undoes=undoes)


@contextmanager
def samples(data_dir: Path, **options: Any) -> Iterator[World]:
    """The three services of the choreography, running."""
    broker = MemoryBroker(Topology())
    names = (orders.NAME, inventory.NAME, invoice.NAME)
    started = embedded.start(data_dir, partial(MemoryParticipantTransport, broker), names=names, **options)
    try:
        yield World(broker, started)
    finally:
        started.stop()
        broker.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The samples, choreographed."""
    with samples(tmp_path, choreographed=True) as made:
        yield made


def test_an_order_moves_by_itself(world: World, tmp_path: Path) -> None:
    """If it failed, there would be no choreography for Escrow to watch, or one whose answers it cannot match to its steps."""
    world.place("o-1")
    placed, updated, emailed = world.wait_for("o-1", "OrderPlaced", "InventoryUpdated", "InvoiceEmailed")
    assert (placed.source, placed.commandid, placed.data) == ("orders", None, {**ORDER, "order_id": "o-1"})
    assert updated.commandid == first_command_id("o-1", "update_inventory")
    assert updated.data == {**ORDER, "order_id": "o-1", "reservation_id": f"R-{updated.commandid}"}
    assert emailed.commandid == first_command_id("o-1", "email_invoice")
    assert len(list((tmp_path / "mail").glob("*.eml"))) == 1


def test_the_outage(world: World) -> None:
    """The original problem: the event is gone with the outage. Asked by command the order goes on, and nothing is done twice."""
    world.tell("inventory", down=True)
    world.place("o-1")
    world.wait_for("o-1", "OrderPlaced")
    world.command("inventory", "UpdateInventory", "o-1")
    world.tell("inventory")
    world.wait_for("o-1", "OrderPlaced", "InventoryUpdated", "InvoiceEmailed")
    world.command("invoice", "EmailInvoice", "o-1")  # asked by mistake, of one that was merely slow
    world.place("o-2")
    world.wait_for("o-2", "OrderPlaced", "InventoryUpdated", "InvoiceEmailed")
    assert world.totals("orders") == {"placed": 2}
    assert (world.totals("inventory")["reserved"], world.totals("inventory")["applied_twice"]) == (2, 0)
    assert (world.totals("invoice")["emailed"], world.totals("invoice")["applied_twice"]) == (2, 0)


def test_what_escrow_has_undone_the_choreography_does_not_do(world: World) -> None:
    """If it failed, an order that was called compensated would take stock when the participant is back."""
    world.command("inventory", "RestoreInventory", "o-1")
    world.wait_for("o-1", "InventoryRestored")
    world.place("o-1")
    world.wait_for("o-1", "InventoryRestored", "OrderPlaced", "CommandTooLate")
    assert (world.totals("inventory")["reserved"], world.totals("invoice")["emailed"]) == (0, 0)


def test_without_a_choreography_an_order_placed_moves_nothing(tmp_path: Path) -> None:
    """If it failed, the samples would act twice on every order that Escrow asks for step by step."""
    with samples(tmp_path, choreographed=False) as world:
        world.place("o-1")
        world.wait_for("o-1", "OrderPlaced")
        world.command("inventory", "UpdateInventory", "o-1")
        world.wait_for("o-1", "OrderPlaced", "InventoryUpdated")
        world.command("invoice", "EmailInvoice", "o-2")
        world.wait_for("o-2", "InvoiceEmailed")
        assert (world.totals("inventory")["reserved"], world.totals("invoice")["emailed"]) == (1, 1)


@pytest.mark.parametrize(
    ("event", "answer"),
    [(ORDER, "InventoryUpdated"), ({**ORDER, "lines": [{"sku": "none", "quantity": 1}]}, "InventoryRejected"), ({}, "InventoryRejected")],
)
def test_an_event_may_be_anything(sqlite_engine: sa.Engine, event: Mapping[str, Any], answer: str) -> None:
    """If it failed, an order service with bad data would silence the warehouse instead of being refused."""
    participant = inventory.build(sqlite_engine, stock={"none": 0}, choreographed=True)
    (said,) = talk_to(participant)(Envelope(id="m-1", source="orders", type="OrderPlaced", subject="o-1", data=event))
    assert said.type == answer


def test_an_order_is_placed_once(engine: sa.Engine) -> None:
    """If it failed, two orders of one id would be one for some and two for others."""
    participant = orders.build(engine)
    participant.happened("OrderPlaced", "o-1", ORDER, "click-1")
    participant.happened("OrderPlaced", "o-1", ORDER, "click-1")
    with pytest.raises(FactRefusedError, match="o-1 is placed already"):
        participant.happened("OrderPlaced", "o-1", ORDER, "click-2")
    with pytest.raises(ValueError, match="not the id of the order"):
        participant.happened("OrderPlaced", "o-2", {**ORDER, "order_id": "o-3"}, "click-3")
    assert participant.totals() == {"placed": 1}


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pika")
def test_the_services_as_processes(tmp_path: Path) -> None:
    """The services as they are deployed, on RabbitMQ: choreographed by their option, told of an order by their command line."""
    with fresh_namespace() as escrow, _process("orders", tmp_path, escrow) as placing:
        escrow.declare_inbox()
        with _process("inventory", tmp_path, escrow, "--choreographed") as updating:
            orders_url, inventory_url = _door(placing, "orders"), _door(updating, "inventory")
            _place(tmp_path, orders_url, "o-1")
            assert sorted(event.type for event, _, _ in escrow.receive(2)) == ["InventoryUpdated", "OrderPlaced"]

            httpx.put(f"{inventory_url}/faults", json={"down": True}).raise_for_status()
            eventually(lambda: escrow.consumers("inventory") == 0)
            assert httpx.get(f"{inventory_url}/healthz").json()["trouble"] == "It was told to be down."
            _place(tmp_path, orders_url, "o-2")
            assert [event.type for event, _, _ in escrow.receive(1)] == ["OrderPlaced"]

            escrow.send("inventory", command("UpdateInventory", "o-2"))
            httpx.put(f"{inventory_url}/faults", json={}).raise_for_status()
            [(answer, _, _)] = escrow.receive(1)
            assert (answer.type, answer.commandid) == ("InventoryUpdated", first_command_id("o-2", "update_inventory"))
            for process in (placing, updating):
                assert process.terminate() == 0
                assert "Traceback" not in process.text()


def _process(name: str, folder: Path, escrow: Escrow, *options: str) -> Process:
    where = ["--database-url", f"sqlite:///{folder / name}.db", "--amqp-url", amqp_url(), "--namespace", escrow.topology.namespace]
    return Process(f"participants.{name}", *where, *options, output=folder / f"{name}.log")


def _door(process: Process, name: str) -> str:
    url = process.wait_for_line(f"{name}: http://").split()[-1]
    process.wait_for_http(f"{url}/healthz")
    return url


def _place(folder: Path, url: str, order_id: str) -> None:
    happen = ("happen", "OrderPlaced", "--order", order_id, "--data", json.dumps(ORDER), "--url", url)
    with Process("participants.orders", *happen, output=folder / f"{order_id}.log") as process:
        assert process.wait() == 0, process.text()

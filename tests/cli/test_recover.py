"""`escrow recover`: what it says, with a recorder and without one."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest

from orchestrator import wiring
from orchestrator.bus.topology import Retention, declare, delete
from orchestrator.config import Settings
from orchestrator.contract import Envelope, Topology, Wire, command_id, encode, event_key
from orchestrator.contract.envelope import STRUCTURED
from orchestrator.store import recovery
from tests.app.house import House, answer, placed
from tests.cli.kit import Escrow
from tests.support.services import amqp_url

pytestmark = pytest.mark.real
With = Callable[[Settings], Escrow]
PARTICIPANTS = ("inventory", "payment", "invoice")


@dataclass
class Broker:
    """A namespace on the real broker, and what a worker and participants publish there."""

    topology: Topology
    channel: Any

    def publish(self, exchange: str, key: str, wire: Wire) -> None:
        """Publish, confirmed."""
        properties = pika.BasicProperties(content_type=wire.content_type, headers=dict(wire.headers), delivery_mode=2)
        self.channel.basic_publish(exchange, key, wire.body, properties, mandatory=True)

    def live(self, house: House, *works: Any) -> None:
        """One batch as it goes in an installation with a recorder: event, commit, record."""
        for work in works:
            envelope = work.input.envelope
            self.publish(self.topology.events, event_key(envelope.source, envelope.type), encode(envelope))
        context = replace(house.context, topology=self.topology, records=True)
        for message in house.handle(*works, context=context).outbox:
            if message.exchange == self.topology.recorder:
                self.publish(message.exchange, message.routing_key, Wire(content_type=message.content_type, headers={}, body=message.body))


@pytest.fixture
def broker() -> Iterator[Broker]:
    """With a recorder."""
    topology = Topology(f"escrow-test-{uuid4().hex[:12]}")
    declare(amqp_url(), topology, PARTICIPANTS, Retention(1, 10**9))
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url()))
    channel = connection.channel()
    channel.confirm_delivery()
    yield Broker(topology, channel)
    connection.close()
    delete(amqp_url(), topology, PARTICIPANTS)


@contextmanager
def door(pages: list[dict[str, Any]]) -> Iterator[str]:
    """A participant's door that gives these pages of its ledger, one after the other."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(pages.pop(0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings_of(tmp_path: Path, broker: Broker, **more: Any) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/restored.db", amqp_url=amqp_url(), namespace=broker.topology.namespace, **more)


@pytest.fixture
def lost(tmp_path: Path, broker: Broker) -> Iterator[House]:
    """A database that is lost after it has done something."""
    house = House(f"sqlite:///{tmp_path}/lost.db")
    broker.live(house, placed("done"), placed("waits"))
    for step, event in (("reserve_inventory", "InventoryReserved"), ("take_payment", "PaymentTaken"), ("email_invoice", "InvoiceEmailed")):
        broker.live(house, answer("done", step, event))
    yield house
    house.close()


def test_the_recorder_alone_brings_everything_back(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, a database that is lost before its first backup would be lost for good."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    assert escrow("db", "upgrade").exit_code == 0
    result = escrow("recover", "-o", "json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["gap"], told["opened"], told["folded"], told["findings"]) == (None, 2, 5, 0)
    assert told["outstanding"] == {"inventory": 1}
    assert told["messages"] == {"duplicate": 5}
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.order("done") == lost.order("done")
    house.close()


def test_a_second_run_has_nothing_to_do_and_says_so(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, an operator who is not sure would do everything twice."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    assert escrow("recover").exit_code == 0
    result = escrow("recover")
    assert result.exit_code == 0
    assert "Folded in: 0 journal entries; 0 orders opened, 0 moved on." in result.stdout
    assert "Now 2 orders, 5 journal entries; before 2, 5." in result.stdout
    assert lost.order("waits").state == "reserving_inventory"


def test_without_a_recorder_the_window_of_possible_loss_is_told(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, an operator would believe that a restored backup is everything."""
    said_at = datetime(2026, 11, 21, 13, tzinfo=UTC)
    late = Envelope(id="m1", source="inventory", type="InventoryReserved", subject="waits", time=said_at, data={})
    broker.publish(broker.topology.events, "inventory.InventoryReserved", encode(late))
    escrow = escrow_with(settings_of(tmp_path, broker, recorder=False))
    escrow("db", "upgrade")
    asked = command_id("done", 0, "reserve_inventory", 1)
    row = {"command_type": "ReserveInventory", "order_id": "done", "state": "done", "answered_at": "2026-11-21T12:30:00.000000Z"}
    ledger: list[dict[str, Any]] = [
        {"participant": "inventory", "rows": [{"command_id": asked, **row}]},
        {"participant": "inventory", "rows": []},
    ]
    with door(ledger) as url:
        result = escrow("recover", "--ledger", url)
    assert result.exit_code == 1
    assert "There is no recorder" in result.stderr
    assert "What was accepted between the beginning and 2026-11-21T13:00:00.000000Z may be lost." in result.stderr
    assert "1 commands are known to participants and not to Escrow." in result.stderr
    assert asked in result.stdout
    assert lost.order("done").state == "completed"


def test_a_recorder_that_was_made_anew_is_told_from_the_one_that_is_named(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, a recovery would begin in the middle of another stream, and be content."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    house = House(f"sqlite:///{tmp_path}/restored.db")
    recovery.keep(house.engine, recovery.MARK, {"offset": 2, "sha256": "0" * 64})
    house.close()
    result = escrow("recover")
    assert result.exit_code == 1
    assert "The recorder does not hold what the database was last marked at (offset 2)" in result.stderr
    assert "2 orders opened" in result.stdout, "what it has is folded in all the same"
    assert lost.order("waits").seq == 1


def test_while_a_process_runs_it_refuses(escrow_with: With, tmp_path: Path, broker: Broker) -> None:
    """If it failed, a worker would decide on an order that is being folded."""
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    house = House(f"sqlite:///{tmp_path}/restored.db")
    house.clock = datetime.now(UTC)
    house.store.beat("worker-1", "worker", None)
    house.close()
    result = escrow("recover")
    assert (result.exit_code, "Escrow is running: worker-1" in result.stderr) == (4, True)


def test_a_ledger_that_cannot_be_read_is_told(escrow_with: With, tmp_path: Path, broker: Broker) -> None:
    """If it failed, an operator would read a traceback."""
    escrow = escrow_with(settings_of(tmp_path, broker, recorder=False))
    escrow("db", "upgrade")
    result = escrow("recover", "--ledger", "http://127.0.0.1:1")
    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)


def test_a_damaged_record_is_told_and_the_rest_is_recovered(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, one bad record would cost all the others."""
    broker.publish(broker.topology.recorder, "Recorded", Wire(content_type="application/vnd.escrow.record+zlib", headers={}, body=b"?"))
    stray = Wire(content_type=STRUCTURED, headers={}, body=b"{")
    broker.publish(broker.topology.events, "shop.Stray", stray)
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    told = json.loads((result := escrow("recover", "-o", "json")).stdout)
    assert result.exit_code == 1
    assert (told["opened"], told["messages"]) == (2, {"duplicate": 5, "quarantined": 1})
    assert [one["what"].partition(":")[0] for one in told["uncertain"]] == [
        "the record at offset 9 is damaged",
        "a message was quarantined",
    ]
    assert lost.order("done").seq == 4


def test_a_record_that_a_participant_published_is_a_message_that_nobody_can_read(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, any participant could write orders and their history into a database that is recovered."""
    forger = House(f"sqlite:///{tmp_path}/forger.db")
    [record] = forger.handle(placed("forged"), context=replace(forger.context, topology=broker.topology, records=True)).outbox[:1]
    forger.close()
    assert record.exchange == broker.topology.recorder
    broker.publish(broker.topology.events, "inventory.Any", Wire(content_type=record.content_type, headers={}, body=record.body))
    escrow = escrow_with(settings_of(tmp_path, broker))
    escrow("db", "upgrade")
    told = json.loads(escrow("recover", "-o", "json").stdout)
    assert (told["opened"], told["messages"]) == (2, {"duplicate": 5, "quarantined": 1})
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.queries.order("forged") is None
    assert house.order("done") == lost.order("done")
    house.close()


def test_an_order_of_a_definition_that_is_not_loaded_is_waited_for(escrow_with: With, tmp_path: Path, broker: Broker, lost: House) -> None:
    """If it failed, the events of an order that was deployed after the backup would be quarantined as bugs of ours."""
    escrow = escrow_with(settings_of(tmp_path, broker, shipped="house_closing"))
    escrow("db", "upgrade")
    result = escrow("recover")
    assert (result.exit_code, "not loaded: order version 1" in result.stderr) == (2, True)
    assert escrow_with(settings_of(tmp_path, broker))("recover").exit_code == 0
    house = House(f"sqlite:///{tmp_path}/restored.db")
    assert house.order("done") == lost.order("done")
    assert house.queries.quarantine_count() == 0
    house.close()


def test_a_recovery_begins_at_the_mark_whoever_restored_the_database(
    escrow_with: With, tmp_path: Path, broker: Broker, lost: House
) -> None:
    """If it failed, a recovery would read a week of events, or begin after what the database lacks."""
    settings = settings_of(tmp_path, broker)
    wiring.mark(settings.model_copy(update={"database_url": lost.url}), lost.engine)
    copied = sqlite3.connect(f"{tmp_path}/restored.db")
    with sqlite3.connect(f"{tmp_path}/lost.db") as source:
        source.backup(copied)
    copied.close()
    source.close()
    broker.live(lost, answer("waits", "reserve_inventory", "InventoryReserved"))
    result = escrow_with(settings)("recover", "-o", "json")
    told = json.loads(result.stdout)
    assert (told["gap"], told["folded"], told["moved"], told["entries"]) == (None, 1, 1, 6)
    assert told["read"] <= 3, "the message at the mark, an event and its record"

"""`escrow replay`: what is told, what is missing, and what to do when nobody waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest
import sqlalchemy as sa

from orchestrator import draining
from orchestrator.bus import recorder
from orchestrator.bus.topology import Retention, declare, delete
from orchestrator.config import Settings
from orchestrator.contract import REPLAY_ARGUMENTS, RESYNC_REQUESTED, Envelope, Topology, Wire, encode, event_key
from orchestrator.contract.canonical import format_time
from orchestrator.contract.replay import ReplayEnd, ReplayMessage, decode_replay
from orchestrator.store import tables
from participants.warehouse import stock_received
from tests.app.house import House, answer, message, placed
from tests.cli.kit import Escrow
from tests.support.services import amqp_url

With = Callable[[Settings], Escrow]
INVENTORY = ("replay", "--to", "inventory", "--from")
#: So that the worker of these tests never falls silent.
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass
class Site:
    """A database with some orders, and a broker on which nothing runs but a worker that does nothing."""

    house: House
    topology: Topology
    channel: Any

    def settings(self, **more: Any) -> Settings:
        """How the command line finds both."""
        return Settings(database_url=self.house.url, amqp_url=amqp_url(), namespace=self.topology.namespace, **more)

    def wait_for_replay(self, *events: str) -> None:
        """What a participant does that lost its state."""
        queue = self.topology.replay_queue("inventory")
        self.channel.queue_declare(queue, durable=True, arguments=dict(REPLAY_ARGUMENTS))
        data = {"events": list(events)}
        request = Envelope(id="request-1", source="inventory", type=RESYNC_REQUESTED, subject="inventory", data=data)
        self.publish(request)
        self.channel.queue_purge(self.topology.inbox)
        self.house.handle(message(request))
        self.consume()

    def consume(self) -> None:
        """A worker is at the inbox, and has handled what it took."""
        channel = self.channel.connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(self.topology.inbox, lambda *_: None)
        row = {"incarnation": "worker-1", "role": "worker", "beat_at": LATER, "link_up_at": LATER, "handled_until": LATER}
        with self.house.engine.begin() as connection:
            connection.execute(sa.insert(tables.workers), row)

    def publish(self, *envelopes: Envelope) -> None:
        """Events, as their sources publish them."""
        for envelope in envelopes:
            wire = encode(envelope)
            properties = pika.BasicProperties(content_type=wire.content_type, delivery_mode=2)
            self.channel.basic_publish(self.topology.events, event_key(envelope.source, envelope.type), wire.body, properties)

    def taken(self) -> list[ReplayMessage]:
        """What is in the queue of the replay."""
        found: list[ReplayMessage] = []
        for method, properties, body in self.channel.consume(
            self.topology.replay_queue("inventory"), auto_ack=True, inactivity_timeout=0.5
        ):
            if method is None:
                break
            found.append(decode_replay(Wire(content_type=properties.content_type, headers={}, body=body)))
        self.channel.cancel()
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An order that is reserved, one that is asked for, and a recorder."""
    topology = Topology(f"test-{uuid4().hex[:12]}")
    declare(amqp_url(), topology, ["inventory"], Retention(age_h=1, bytes_max=10**9))
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url()))
    channel = connection.channel()
    channel.confirm_delivery()
    house = House(f"sqlite:///{tmp_path}/escrow.db")
    house.handle(placed("o-1"), placed("o-2"))
    house.handle(answer("o-1", "reserve_inventory", "InventoryReserved"))
    yield Site(house, topology, channel)
    house.close()
    channel.queue_delete(topology.replay_queue("inventory"))
    connection.close()
    delete(amqp_url(), topology, ["inventory"])


@pytest.mark.real
def test_everything_is_told_and_then_the_end(site: Site, escrow_with: With) -> None:
    """If it failed, a participant would not get its past, or wait for an end that does not come."""
    site.publish(stock_received("r-1", "apple", 5), Envelope(id="x", source="x", type="Other", subject="x", data={}))
    site.publish(stock_received("r-2", "pear", 5))
    site.wait_for_replay("StockReceived")
    result = escrow_with(site.settings())(*INVENTORY, "first")
    assert result.exit_code == 0, result.output
    assert "Events of others (StockReceived): 2; of the recorder 4 messages were read." in result.stdout
    assert "Commands: 2; undos: 0; of both without an answer, and asked again: 1." in result.stdout
    *told, end = site.taken()
    subjects = [one.message.subject for one in told if not isinstance(one, ReplayEnd)]
    assert subjects == ["apple", "pear", "o-1", "o-2"]
    assert end == ReplayEnd(request_id="request-1", commands=2, facts=0, events=2)
    with site.house.engine.connect() as connection:
        acts = connection.exec_driver_sql("SELECT act, detail FROM audit").all()
    assert acts == [("replay", "inventory: 2 commands and undos, 0 facts, 2 events of others.")]


@pytest.mark.real
def test_a_time_and_an_offset_limit_it(site: Site, escrow_with: With) -> None:
    """If it failed, an hour's replay would be the whole history, or leave out what is asked for."""
    site.publish(*(stock_received(f"r-{n}", "apple", 5) for n in range(3)))
    site.wait_for_replay()
    escrow = escrow_with(site.settings())
    later = format_time(site.house.clock + timedelta(minutes=1))
    printed = json.loads(escrow(*INVENTORY, later, "-o", "json").stdout)
    assert (printed["told"]["commands"], printed["events"], printed["is_whole"]) == (0, 0, True)
    printed = json.loads(escrow(*INVENTORY, "2", "--event", "StockReceived", "-o", "json").stdout)
    assert (printed["told"]["commands"], printed["events"], printed["hears"]) == (2, 1, ["StockReceived"])
    site.taken()


@pytest.mark.real
def test_what_is_missing_is_said(site: Site, escrow_with: With, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, shelves would be empty after a replay, and nobody know that it could not do better."""
    site.wait_for_replay("StockReceived")
    result = escrow_with(site.settings(recorder=False))(*INVENTORY, "first")
    assert (result.exit_code, "The recorder is off" in result.stderr) == (1, True)

    oldest = recorder.Position(offset=7, sha256="")
    monkeypatch.setattr(recorder, "first", lambda *_, **_more: oldest)
    asked = recorder.Recorded(offset=7, wire=Wire(content_type="text/plain", headers={}, body=b""), is_ours=False, user_id=None)
    monkeypatch.setattr(recorder, "read", lambda *_, **_more: iter((asked,)))
    escrow = escrow_with(site.settings())
    for start, said in (("first", "what was said before"), ("3", "from offset 3 on"), ("2026-01-01T00:00:00Z", "may be beyond")):
        result = escrow(*INVENTORY, start)
        assert (result.exit_code, "The recorder begins at offset 7" in result.stderr, said in result.stderr) == (1, True, True), start
    assert "retention" not in escrow(*INVENTORY, "7").stderr
    monkeypatch.setattr(recorder, "read", lambda *_, **_more: iter(()))
    assert "The recorder is empty" in escrow(*INVENTORY, "first").stderr

    with site.house.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE journal SET reason = 'altered' WHERE order_id = 'o-2'")
    printed = json.loads(escrow(*INVENTORY, "first", "-o", "json").stdout)
    assert (printed["told"]["commands"], printed["told"]["damaged"][0][0], printed["is_whole"]) == (1, "o-2", False)
    assert "left out" in escrow(*INVENTORY, "first").stdout.lower()
    site.taken()


@pytest.mark.real
def test_one_that_does_not_wait_is_told_of_nothing(site: Site, escrow_with: With) -> None:
    """If it failed, a living participant would get a queue full of its past, for the day when it is new."""
    escrow = escrow_with(site.settings())
    result = escrow(*INVENTORY, "first")
    assert (result.exit_code, "Fix: start it with --new" in result.stderr) == (4, True)
    site.channel.queue_declare(site.topology.replay_queue("inventory"), durable=True, arguments=dict(REPLAY_ARGUMENTS))
    site.consume()
    assert escrow(*INVENTORY, "first").exit_code == 4, "it has not asked"
    assert site.taken() == []


@pytest.mark.real
def test_what_waits_in_the_inbox_comes_first(site: Site, escrow_with: With, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a command would be left out whose answer is on its way, and asked for by nobody any more."""
    monkeypatch.setattr(draining, "_DRAINED_WITHIN_S", 0.3)
    site.wait_for_replay()
    site.publish(stock_received("r-1", "apple", 5), stock_received("r-2", "apple", 5))
    result = escrow_with(site.settings())(*INVENTORY, "first")
    assert (result.exit_code, "1 events wait in the inbox" in result.stderr) == (4, True)
    assert site.taken() == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--to", "inventory", "--from", "noon"), 2, "neither 'first'"),
        (("--to", "inventory", "--from", "-1"), 2, "neither 'first'"),
        (("--to", "inventory", "--from", "first", "--event", "a b"), 2, "no event type"),
        (("--to", "nobody", "--from", "first"), 3, "No registered definition asks nobody: there are inventory, invoice, payment."),
    ],
)
def test_wrong_usage_is_one_line(escrow_with: With, tmp_path: Path, arguments: tuple[str, ...], status: int, said: str) -> None:
    """If it failed, an operator at night would read a traceback for a typing error."""
    house = House(f"sqlite:///{tmp_path}/escrow.db")
    result = escrow_with(Settings(database_url=house.url, amqp_url="amqp://127.0.0.1:1/"))("replay", *arguments)
    house.close()
    assert (result.exit_code, said in result.stderr) == (status, True), result.output


def test_without_a_broker_it_says_what_to_set(escrow_with: With, tmp_path: Path) -> None:
    """If it failed, the embedded mode would fail with a riddle: its participants live and die with their bus."""
    result = escrow_with(Settings(database_url=f"sqlite:///{tmp_path}/escrow.db"))(*INVENTORY, "first")
    assert (result.exit_code, "ESCROW_AMQP_URL" in result.stderr) == (2, True)

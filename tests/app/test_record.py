"""What is written is told to the recorder, whole and exactly (R28)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.app import record
from orchestrator.app.handle import Context
from orchestrator.app.ports import Delivery, OutboxMessage
from orchestrator.app.work import Work, read
from orchestrator.contract import RECORD, Topology, Wire, decode
from orchestrator.errors import MalformedMessage
from orchestrator.saga.decision import Entry
from tests.app.house import House, answer, envelope_of, placed, said, unreadable_delivery


@pytest.fixture
def recording(house: House) -> Context:
    """A worker that tells the recorder."""
    return replace(house.context, records=True)


def test_a_record_holds_the_entries_of_its_batch_byte_for_byte(house: House, recording: Context) -> None:
    """If it failed, what is recovered would not continue the hash chain."""
    handled = house.handle(placed("o1"), placed("o2"), context=recording)
    [sent] = [message for message in handled.outbox if message.outbox_id in handled.records]
    assert handled.outbox[0] is sent, "acks wait for it, so it goes first"
    assert (sent.exchange, sent.mandatory, sent.content_type) == (Topology().recorder, True, RECORD)
    assert record.read(sent.body) == [*house.queries.history("o1"), *house.queries.history("o2")]


def test_a_record_waits_in_the_outbox_as_it_is(house: House, recording: Context) -> None:
    """If it failed, what a dead worker left unsaid could not be said by another."""
    handled = house.handle(placed("o1"), context=recording)
    with house.store.transaction() as tx:
        left = tx.take_over([""], "worker-2")
    [sent] = left
    assert sent == replace(handled.outbox[0], owner="worker-2")


def test_messages_that_leave_no_entry_are_recorded_as_they_came(house: House, recording: Context) -> None:
    """If it failed, an event parked or quarantined after the backup would be gone with the database."""
    early = answer("later", "reserve_inventory", "InventoryReserved")
    handled = house.handle(early, as_work(unreadable_delivery(b"\xff{")), context=recording)
    parked, unreadable = record.read(handled.outbox[0].body)
    assert isinstance(parked, record.Heard)
    assert isinstance(unreadable, record.Heard)
    assert (decode(parked.wire).subject, parked.user_id) == ("later", "inventory")
    assert unreadable == record.Heard(wire=Wire(content_type="text/plain", headers={}, body=b"\xff{"))
    assert record.unpack(record.pack(unreadable)) == unreadable


def test_nothing_is_recorded_where_nothing_was_made_known(house: House, recording: Context) -> None:
    """If it failed, every duplicate would cost a message that everybody waits for."""
    house.handle(placed("o1"), context=recording)
    handled = house.handle(placed("o1"), context=recording)
    assert (handled.records, handled.outbox) == ([], [])
    assert house.handle(placed("o2")).records == [], "nobody asked for it"


def test_a_large_batch_is_told_in_pieces(house: House, recording: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, the broker would refuse what is too large, and nothing more would be acked."""
    monkeypatch.setattr(record, "RECORD_BYTES", 3000)
    works = [placed(f"o{number}") for number in range(20)]
    handled = house.handle(*works, context=recording)
    sent = [message for message in handled.outbox if message.content_type == RECORD]
    assert len(sent) > 3
    assert {message.outbox_id for message in sent} == set(handled.records)
    held = [entry.order_id for message in sent for entry in record.read(message.body) if isinstance(entry, Entry)]
    assert held == [work.order_id for work in works]


def test_commands_are_sent_as_ever(house: House, recording: Context) -> None:
    """If it failed, the recorder would be in the way of what it protects."""
    handled = house.handle(placed("o1"), context=recording)
    assert said(commands(handled.outbox)) == [("o1", "ReserveInventory")]
    assert envelope_of(commands(handled.outbox)[0]).subject == "o1"


@pytest.mark.parametrize("body", [b"", b"no", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_a_damaged_record_is_told_from_an_empty_one(body: bytes) -> None:
    """If it failed, recovery would end in a traceback, or leave out what it cannot read."""
    with pytest.raises(MalformedMessage):
        record.read(body)


def commands(outbox: list[OutboxMessage]) -> list[OutboxMessage]:
    """What is for participants."""
    return [message for message in outbox if message.command_id is not None]


def as_work(delivery: Delivery) -> Work:
    """As it is taken from the bus."""
    return read(delivery, require_user_id=False)

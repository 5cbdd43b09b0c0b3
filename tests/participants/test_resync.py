"""A participant asks for what it missed (R29)."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from orchestrator.contract import RESYNC_REQUESTED, decode, event_key
from participants.inventory import build
from participants.kit.runner import Runner
from tests.participants.support import MemoryTransport


def test_the_request_is_about_itself(engine: sa.Engine) -> None:
    """If it failed, Escrow would quarantine it, or send everything instead of an hour's."""
    participant = build(engine)
    asked = [participant.request_resync(), participant.request_resync(datetime(2026, 11, 21, 12, tzinfo=UTC))]
    reported = participant.reported()
    events = [decode(outgoing.message.wire) for outgoing in reported]
    assert [event.id for event in events] == asked
    assert {(event.type, event.source, event.subject) for event in events} == {(RESYNC_REQUESTED, "inventory", "inventory")}
    assert [event.data for event in events] == [{}, {"since": "2026-11-21T12:00:00.000000Z"}]
    assert {outgoing.message.routing_key for outgoing in reported} == {event_key("inventory", RESYNC_REQUESTED)}


def test_the_request_survives_a_death(engine: sa.Engine) -> None:
    """If it failed, a participant that dies right after asking would never be sent what it missed."""
    asked = build(engine).request_resync()
    transport = MemoryTransport()
    runner = Runner(build(engine), transport)
    runner.turn()
    assert [message.message_id for message in transport.published] == [asked]
    runner.turn()
    assert build(engine).unsent() == []

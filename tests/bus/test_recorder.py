"""The recorder is read from any position to its end (R28)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pika
import pytest

from orchestrator.app import record
from orchestrator.app.record import Heard
from orchestrator.bus import recorder, waiting
from orchestrator.bus.rabbitmq import RabbitBus
from orchestrator.bus.topology import Retention, declare, delete
from orchestrator.contract import RECORD, Topology, Wire
from orchestrator.errors import BusUnavailable, NoRecorder, SettingsError
from tests.bus.conftest import LIMIT_S, Mailbox, RabbitWorld, maker
from tests.bus.test_rabbitmq import DEEP_NEST, FAR_FUTURE, RawProperties
from tests.support.services import amqp_url

pytestmark = pytest.mark.real
RETENTION = Retention(age_h=1, bytes_max=10**9)


@pytest.fixture
def kept() -> Iterator[RabbitWorld]:
    """A namespace with a recorder."""
    topology = Topology(namespace=f"escrow-test-{uuid4().hex[:12]}")
    declare(amqp_url(), topology, ["inventory"], RETENTION)
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url()))
    channel = connection.channel()
    channel.confirm_delivery()
    yield RabbitWorld(topology, amqp_url(), connection, channel)
    connection.close()
    delete(amqp_url(), topology, ["inventory"])


def inject(world: RabbitWorld, *bodies: bytes) -> None:
    for body in bodies:
        world.inject(Wire(content_type="text/plain", headers={"a": 1}, body=body), user_id="guest")


def test_every_event_is_in_it_before_any_worker_sees_it(kept: RabbitWorld) -> None:
    """If it failed, an event that a worker took and lost could not be recovered."""
    inject(kept, b"one", b"two")
    found = list(recorder.read(kept.url, kept.topology, "first", mark=uuid4().hex))
    assert [(one.offset, one.wire.body, one.user_id) for one in found] == [(0, b"one", "guest"), (1, b"two", "guest")]
    assert (found[0].wire.content_type, dict(found[0].wire.headers)) == ("text/plain", {"a": 1})


def test_only_what_came_through_its_own_exchange_is_ours(kept: RabbitWorld) -> None:
    """If it failed, every participant could write history, or end a recovery before its time."""
    mark = uuid4().hex
    forged = pika.BasicProperties(content_type=RECORD, headers={"x-exchange": kept.topology.recorder})
    kept.channel.basic_publish(kept.topology.events, "inventory.Any", b"forged", forged)
    kept.channel.basic_publish(kept.topology.events, "inventory.Any", mark.encode(), pika.BasicProperties(content_type=recorder._MARK))
    kept.channel.basic_publish(kept.topology.recorder, "Recorded", b"record", pika.BasicProperties(content_type=RECORD))
    found = list(recorder.read(kept.url, kept.topology, "first", mark=mark))
    assert [(one.wire.body, one.is_ours) for one in found] == [(b"forged", False), (mark.encode(), False), (b"record", True)]


def test_reading_ends_where_it_was_when_it_began(kept: RabbitWorld) -> None:
    """If it failed, a recovery beside living participants would never end."""
    inject(kept, b"one")
    reading = recorder.read(kept.url, kept.topology, "first", mark=uuid4().hex)
    assert next(reading).wire.body == b"one"
    inject(kept, b"two")
    assert list(reading) == []


def test_it_is_read_on_from_an_offset_and_a_time(kept: RabbitWorld) -> None:
    """If it failed, a recovery that was killed would begin anew, or leave something out."""
    before = datetime.now(UTC)
    inject(kept, *(b"%d" % number for number in range(700)))
    found = list(recorder.read(kept.url, kept.topology, 650, mark=uuid4().hex))
    assert [one.wire.body for one in found] == [b"%d" % number for number in range(650, 700)]
    assert len(list(recorder.read(kept.url, kept.topology, before, mark=uuid4().hex))) == 700
    assert first(kept, 650) == recorder.Position(offset=650, sha256=hashlib.sha256(b"650").hexdigest())


def test_beyond_the_end_is_nothing_and_that_is_told_from_silence(kept: RabbitWorld) -> None:
    """If it failed, a recovery that goes on where another stream ended would read nothing, or wait for ever."""
    inject(kept, b"one", b"two")
    assert list(recorder.read(kept.url, kept.topology, 10_000, mark=uuid4().hex)) == []
    assert first(kept, 10_000).offset < 100


def test_a_broker_that_is_slow_is_not_taken_for_an_empty_recorder(kept: RabbitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a recovery would read nothing from a broker that works hard, and be content."""
    inject(kept, b"one")
    monkeypatch.setattr(recorder, "_PATIENCE_S", 1e-9)
    # Now and then even that is enough for a message: then it is read.
    answers = [read_or_none(kept) for _ in range(20)]
    assert None in answers
    assert all(b"one" in bodies for bodies in answers if bodies is not None)


def read_or_none(world: RabbitWorld) -> list[bytes] | None:
    """Every body; None when the broker is too slow."""
    try:
        return [found.wire.body for found in recorder.read(world.url, world.topology, "first", mark=uuid4().hex)]
    except BusUnavailable:
        return None


def first(world: RabbitWorld, start: recorder.Start) -> recorder.Position:
    return recorder.first(world.url, world.topology, start, mark=uuid4().hex)


def test_the_position_is_of_a_message_that_is_there(kept: RabbitWorld) -> None:
    """If it failed, a recovery would begin too late."""
    empty = recorder.position(kept.url, kept.topology, mark=uuid4().hex)
    assert empty == first(kept, empty.offset)
    inject(kept, b"one", b"two", b"three")
    position = recorder.position(kept.url, kept.topology, mark=uuid4().hex)
    assert position == first(kept, position.offset)
    inject(kept, b"four")
    bodies = [one.wire.body for one in recorder.read(kept.url, kept.topology, position.offset, mark=uuid4().hex)]
    assert bodies[-1] == b"four"


POISON = {
    "time out of range": (FAR_FUTURE, b""),
    "nested too deep": (DEEP_NEST, b""),
    "type and name not UTF-8": (b"\x02\xff\xfet\x01", b"\xff"),
    "64-bit integer within": (b"\x01aF\x00\x00\x00\x0b\x01\xfel" + (2**40).to_bytes(8, "big"), b""),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_what_pika_cannot_decode_is_read_like_its_neighbours(kept: RabbitWorld, poison: tuple[bytes, bytes]) -> None:
    """If it failed, one message of anybody's would make a recovery impossible, and no process could start."""
    for place in range(2):
        kept.channel.basic_publish(kept.topology.events, "inventory.X", b"poison", RawProperties(*poison), mandatory=True)
        inject(kept, b"%d" % place)
    found = list(recorder.read(kept.url, kept.topology, "first", mark=uuid4().hex))
    assert [(one.offset, one.wire.body) for one in found] == [(0, b"poison"), (1, b"0"), (2, b"poison"), (3, b"1")]
    assert all(isinstance(name, str) for one in found for name in [one.wire.content_type, *one.wire.headers])
    for one in found:
        assert record.unpack(record.pack(Heard(wire=one.wire))) is not None
    assert waiting.newest(kept.url, kept.topology) is None


def test_a_bus_with_a_recorder_makes_it_and_records_arrive(kept: RabbitWorld) -> None:
    """If it failed, a first start would have no recorder, or its acks would wait for ever."""
    delete(kept.url, kept.topology, ["inventory"])
    bus = RabbitBus(kept.url, kept.topology, ["inventory"], jitter=lambda: 0.5, retention=RETENTION)
    mailbox = Mailbox()
    bus.start(mailbox, consume=True)
    try:
        mailbox.link(consuming=True, publishing=True)
        inject(kept, b"event")
        name = kept.topology.recorder
        bus.publish([maker(kept.topology)("r1", exchange=name, routing_key="Recorded", content_type=RECORD, command_id=None, body=b"\xff")])
        assert mailbox.settled.get(timeout=LIMIT_S).outcome == "confirmed"
        assert [one.wire.body for one in recorder.read(kept.url, kept.topology, "first", mark=uuid4().hex)] == [b"event", b"\xff"]
    finally:
        bus.close()


def test_without_a_recorder_the_fix_is_said(rabbit: RabbitWorld) -> None:
    """If it failed, a recovery would end in a traceback of the broker's."""
    with pytest.raises(NoRecorder, match="has no recorder"):
        list(recorder.read(rabbit.url, rabbit.topology, "first", mark=uuid4().hex))


def test_who_is_not_let_in_is_told_so(kept: RabbitWorld) -> None:
    """If it failed, a wrong password would be taken for a recorder that was deleted, and the recovery end without it."""
    wrong = re.sub(r":[^:/@]*@", ":wrong@", kept.url)
    with pytest.raises(SettingsError, match="user name or password") as refused:
        recorder.position(wrong, kept.topology, mark=uuid4().hex)
    assert not isinstance(refused.value, NoRecorder)

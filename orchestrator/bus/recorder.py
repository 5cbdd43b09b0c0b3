"""Reading the recorder (R28): from a position to its end as it was when reading began. For recovery and replay; never on the line.

The stream is read by plain AMQP (RabbitMQ 3.10 and later). Where it ends is known by a mark that the reader puts there itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pika
import pika.exceptions

from orchestrator.bus.connection import addresses, blocking, hang_up, parameters
from orchestrator.bus.trouble import NOT_FOUND, explain
from orchestrator.contract import Topology, Wire
from orchestrator.errors import BusUnavailable, SettingsError

#: Messages that the broker sends ahead.
_PREFETCH = 500
#: How long the broker may take to send the next message of a stream that has more, in seconds.
_PATIENCE_S = 10.0
#: How long the broker may take to send the last chunk; a stream that is empty never does. In seconds.
_LAST_WITHIN_S = 2.0
#: Content type of a mark, and what it is called.
_MARK = "application/vnd.escrow.mark"

#: Where reading begins: an offset, a time (aware; the broker begins with the chunk that holds it), or with the oldest that is there.
Start = int | datetime | Literal["first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One message of the recorder: an event as its sender published it, or a record of Escrow's own (`contract.RECORD`)."""

    offset: int
    wire: Wire
    #: Whether it came through the recorder's own exchange, where only Escrow may publish: else it is an event, whatever it says it is.
    is_ours: bool
    #: The broker user that published it, when the broker vouches for it.
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A message of the recorder: where it is, and what it is, so that another stream of the same name is told from this one."""

    offset: int
    #: Hexadecimal.
    sha256: str


def position(url: str, topology: Topology) -> Position | None:
    """A message near the end: everything that comes into the recorder from now on comes after it. None: nothing is in it.

    Raises: SettingsError when there is no recorder or we may not read it; BusUnavailable.
    """
    with _channel(url) as (channel, _):
        for found in _consume(channel, topology.recorder, "last", _LAST_WITHIN_S):
            return _position(found)
    return None


def first(url: str, topology: Topology, start: Start) -> Position | None:
    """The first message that reading from `start` would give. None: there is none. Raises: as `position`."""
    with _channel(url) as (channel, _):
        for found in _consume(channel, topology.recorder, start, _LAST_WITHIN_S):
            return _position(found)
    return None


def read(url: str, topology: Topology, start: Start, *, mark: str) -> Iterator[Recorded]:
    """Everything from `start`, or from the oldest that is still there, to the end as it is now, in order. Streams; memory is bounded.

    `mark`: a text that nobody else has put there, or will: a new id.
    Raises: as `position`; BusUnavailable also when the broker stops sending: read on from the offset after the last one.
    """
    with _channel(url) as (channel, confirming):
        _put_mark(confirming, topology, mark)
        for found in _consume(channel, topology.recorder, start, _PATIENCE_S):
            if not (found.is_ours and found.wire.content_type == _MARK):
                yield found
            elif found.wire.body == mark.encode():
                return
    raise BusUnavailable("The broker stopped sending what the recorder holds. Fix: run it again; it goes on where it was.")


def _put_mark(channel: Any, topology: Topology, mark: str) -> None:
    """Put a mark at the end, confirmed."""
    properties = pika.BasicProperties(content_type=_MARK, delivery_mode=2)
    channel.basic_publish(topology.recorder, "Mark", mark.encode(), properties, mandatory=True)


def _position(found: Recorded) -> Position:
    return Position(offset=found.offset, sha256=hashlib.sha256(found.wire.body).hexdigest())


def _consume(channel: Any, stream: str, start: Start | Literal["last"], patience_s: float) -> Iterator[Recorded]:
    """What the stream gives, until it gives nothing for so long."""
    channel.basic_qos(prefetch_count=_PREFETCH)
    arguments = {"x-stream-offset": start}
    unacked = 0
    for method, properties, body in channel.consume(stream, arguments=arguments, inactivity_timeout=patience_s):
        if method is None:
            return
        headers = dict(properties.headers or {})
        offset = int(headers.pop("x-stream-offset"))
        # Acks only let the broker send more.
        unacked += 1
        if unacked >= _PREFETCH // 2:
            channel.basic_ack(method.delivery_tag, multiple=True)
            unacked = 0
        wire = Wire(content_type=properties.content_type or "", headers=headers, body=body)
        # The recorder's exchange and its stream have one name.
        yield Recorded(offset=offset, wire=wire, is_ours=method.exchange == stream, user_id=properties.user_id)


@contextmanager
def _channel(url: str) -> Iterator[tuple[Any, Any]]:
    """A channel to read by, and one on which every message is confirmed."""
    nodes = parameters(url)
    try:
        with blocking(nodes) as connection:
            confirming = connection.channel()
            confirming.confirm_delivery()
            try:
                yield connection.channel(), confirming
            finally:
                hang_up(connection)
    except (pika.exceptions.AMQPError, OSError) as error:
        if isinstance(error, pika.exceptions.ChannelClosedByBroker) and error.reply_code == NOT_FOUND:
            raise SettingsError("The broker has no recorder. Fix: start a worker with ESCROW_RECORDER=true, which makes it.") from error
        raise explain(error, addresses(nodes)).as_error() from error

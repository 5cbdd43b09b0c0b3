"""Reading the recorder (R28): from a position to its end as it was when reading began. For recovery and replay; never on the line.

The stream is read by plain AMQP (RabbitMQ 3.10 and later). Where it ends is known by a mark that the reader puts there itself; so it is
never empty, and a broker that sends nothing is slow, or ill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import pika
import pika.exceptions

from orchestrator.bus.connection import addresses, blocking, hang_up, parameters
from orchestrator.bus.trouble import NOT_FOUND, explain
from orchestrator.bus.wire import user_of, wire_of
from orchestrator.contract import RECORD, Topology, Wire
from orchestrator.errors import BusUnavailable, NoRecorder

#: Messages that the broker sends ahead: of what is read, and of what is looked at.
_PREFETCH, _LOOK_PREFETCH = 500, 10
#: How long the broker may take to send the next message, in seconds; there is always one.
_PATIENCE_S = 10.0
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

    @property
    def position(self) -> Position:
        """Its position."""
        return Position(offset=self.offset, sha256=hashlib.sha256(self.wire.body).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A message of the recorder: where it is, and what it is, so that another stream of the same name is told from this one."""

    offset: int
    #: Hexadecimal.
    sha256: str


def position(url: str, topology: Topology, *, mark: str) -> Position:
    """A message near the end: everything that comes into the recorder from now on comes after it.

    `mark`: a text that nobody else has put there, or will: a new id; so here and below. Raises: NoRecorder; SettingsError when we may not
    read or write it; BusUnavailable when the broker is away, or does not send in time what it holds.
    """
    with _session(url, topology) as session:
        session.put(mark)
        return session.last().position


def first(url: str, topology: Topology, start: Start, *, mark: str) -> Position:
    """The first message that is there from `start` on; of an offset beyond the end the last one, which is before it.

    Raises: as `position`.
    """
    with _session(url, topology) as session:
        return next(_span(session, start, mark)).position


def read(url: str, topology: Topology, start: Start, *, mark: str) -> Iterator[Recorded]:
    """Everything from `start`, or from the oldest that is still there, to the end as it is now, in order. Streams; memory is bounded.

    Raises: as `position`; after BusUnavailable read on from the offset after the last one.
    """
    with _session(url, topology) as session:
        for found in _span(session, start, mark):
            if not _is_mark(found):
                yield found


def records(url: str, topology: Topology, start: Start, *, mark: str) -> Iterator[bytes]:
    """The bodies of the records among what `read` gives."""
    return (found.wire.body for found in read(url, topology, start, mark=mark) if found.is_ours and found.wire.content_type == RECORD)


def _is_mark(found: Recorded) -> bool:
    return found.is_ours and found.wire.content_type == _MARK


def _span(session: _Session, start: Start, mark: str) -> Iterator[Recorded]:
    """What `read` gives, with all marks; at least the one that ends it.

    It is never empty, so silence always means that the broker does not send.
    """
    session.put(f"{mark} begins")
    # From an offset beyond the end the broker would send nothing, not even the mark.
    begin = min(start, session.last().offset) if isinstance(start, int) else start
    session.put(mark)
    for found in session.consume(begin, _PREFETCH):
        is_end = _is_mark(found) and found.wire.body == mark.encode()
        if is_end or not isinstance(start, int) or found.offset >= start:
            yield found
        if is_end:
            return


@dataclass(frozen=True, slots=True)
class _Session:
    """A connection to the recorder."""

    connection: pika.BlockingConnection
    #: Every message on it is confirmed.
    confirming: Any
    topology: Topology

    def put(self, mark: str) -> None:
        """Put a mark at the end."""
        properties = pika.BasicProperties(content_type=_MARK, delivery_mode=2)
        self.confirming.basic_publish(self.topology.recorder, "Mark", mark.encode(), properties, mandatory=True)

    def last(self) -> Recorded:
        """A message near the end; something must be in it."""
        return next(self.consume("last", _LOOK_PREFETCH))

    def consume(self, start: Start | Literal["last"], prefetch: int) -> Iterator[Recorded]:
        """What the stream gives, without end. Raises: BusUnavailable when it gives nothing for too long."""
        held: list[tuple[Wire, bool, str | None]] = []
        for method, properties, body in self._deliveries(start, prefetch):
            wire = wire_of(properties, body)
            headers = dict(wire.headers)
            offset = headers.pop("x-stream-offset", None)
            held.append((replace(wire, headers=headers), method.exchange == self.topology.recorder, user_of(properties)))
            # Headers that cannot be decoded tell no offset, but the next ones do, be they a mark's; and offsets have no gaps.
            if offset is not None:
                for place, (found, is_ours, user_id) in enumerate(held, start=offset - len(held) + 1):
                    yield Recorded(offset=place, wire=found, is_ours=is_ours, user_id=user_id)
                held = []

    def _deliveries(self, start: Start | Literal["last"], prefetch: int) -> Iterator[tuple[Any, Any, bytes]]:
        channel = self.connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        unacked, arguments = 0, {"x-stream-offset": start}
        for method, properties, body in channel.consume(self.topology.recorder, arguments=arguments, inactivity_timeout=_PATIENCE_S):
            if method is None:
                raise BusUnavailable("The broker does not send what the recorder holds. Fix: run it again when it is well; it goes on.")
            # Acks only let the broker send more.
            unacked += 1
            if unacked >= prefetch // 2:
                channel.basic_ack(method.delivery_tag, multiple=True)
                unacked = 0
            yield method, properties, body


@contextmanager
def _session(url: str, topology: Topology) -> Iterator[_Session]:
    nodes = parameters(url)
    try:
        with blocking(nodes) as connection:
            confirming = connection.channel()
            confirming.queue_declare(topology.recorder, passive=True)
            confirming.confirm_delivery()
            try:
                yield _Session(connection, confirming, topology)
            finally:
                hang_up(connection)
    except (pika.exceptions.AMQPError, OSError) as error:
        if _says_that_none_is_there(error):
            raise NoRecorder(
                f"The broker at {addresses(nodes)} has no recorder {topology.recorder}: it was deleted, or never made, or the settings "
                "name another broker or namespace."
            ) from error
        raise explain(error, addresses(nodes)).as_error() from error


def _says_that_none_is_there(error: BaseException) -> bool:
    """Not only that its node is down, which has the same code."""
    return isinstance(error, pika.exceptions.ChannelClosedByBroker) and error.reply_code == NOT_FOUND and "no queue" in error.reply_text

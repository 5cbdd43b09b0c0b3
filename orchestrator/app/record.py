"""What Escrow itself puts into the recorder (R28): everything that a transaction made known, so that it can be folded in again.

A record is a JSON array, compressed. Its items are journal entries, and the messages that left none: parked for an order that does not
exist yet, or quarantined. Everything else that a transaction writes follows from these two.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from orchestrator.app.ports import Changes, OutboxMessage, Parked
from orchestrator.contract import RECORD, Topology, Wire, canonical
from orchestrator.contract.envelope import STRUCTURED
from orchestrator.errors import MalformedMessage
from orchestrator.saga.decision import Entry, Kind, Verdict

#: Bytes of a record, not compressed, after which another one is begun: brokers take some megabytes a message.
RECORD_BYTES = 1 << 20
#: Bytes that a record may have when it is read, not compressed.
_READ_BYTES_MAX = 64 << 20
#: The fastest: a record is written once, and seldom read.
_LEVEL = 1
#: Routing key and message type of a record.
_NAME = "Recorded"
#: A record is of no order.
_NO_ORDER = ""


class _EntryItem(msgspec.Struct, tag="entry", gc=False):
    """An `Entry`, field by field; its documents are JSON already, and stay byte for byte what they are."""

    order_id: str
    seq: int
    at: datetime
    kind: Kind
    source: str | None
    message_id: str | None
    cause_seq: int | None
    name: str
    actor: str | None
    reason: str | None
    verdict: Verdict
    from_state: str | None
    to_state: str
    input: msgspec.Raw
    patch: msgspec.Raw
    effects: msgspec.Raw
    prev_hash: str
    hash: str


class _MessageItem(msgspec.Struct, tag="message", omit_defaults=True):
    """A message as it came from the bus; its body in base64."""

    content_type: str
    headers: dict[str, Any]
    body: bytes
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message that came from the bus."""

    wire: Wire
    #: The broker user that published it, when the broker vouched for it.
    user_id: str | None = None


#: What a record holds.
Item = Entry | Heard


_FIELDS = _EntryItem.__struct_fields__
_DOCUMENTS = frozenset({"input", "patch", "effects"})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_EntryItem | _MessageItem]).decode
_decode_one = msgspec.json.Decoder(_EntryItem | _MessageItem).decode


def records(changes: Changes, topology: Topology, owner: str, new_id: Callable[[], str], at: datetime) -> Iterator[OutboxMessage]:
    """The messages that tell the recorder what is written: mostly one; none when nothing was made known."""
    for place, items in enumerate(_in_pieces(changes)):
        outbox_id = new_id()
        yield OutboxMessage(
            outbox_id=outbox_id,
            order_id=_NO_ORDER,
            seq=0,
            place=place,
            command_id=None,
            participant=None,
            owner=owner,
            exchange=topology.recorder,
            routing_key=_NAME,
            message_id=outbox_id,
            message_type=_NAME,
            content_type=RECORD,
            headers={},
            body=zlib.compress(b"[" + b",".join(items) + b"]", _LEVEL),
            created_at=at,
            mandatory=True,
        )


def read(body: bytes) -> list[Item]:
    """What a record holds, in its order. Raises: MalformedMessage: nobody but Escrow writes records, so it is damaged."""
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(body, _READ_BYTES_MAX)
        if not unpacker.eof:
            raise MalformedMessage("A record ends too early, or is too large.")
        return [_read(item) for item in _decode(raw)]
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"A record cannot be read: {error}.") from error


def heard_of(parked: Parked) -> Heard:
    """A parked message as it came."""
    # It was taken from its source, so the broker vouched for that where it must.
    return Heard(wire=Wire(content_type=STRUCTURED, headers={}, body=parked.envelope), user_id=parked.source)


def pack(item: Item) -> bytes:
    """One item as JSON."""
    return _encode(_written(item))


def unpack(raw: bytes) -> Item:
    """The item that `pack` made JSON of."""
    return _read(_decode_one(raw))


def _in_pieces(changes: Changes) -> Iterator[Sequence[bytes]]:
    """The items, in pieces of about `RECORD_BYTES`."""
    piece: list[bytes] = []
    size = 0
    for item in _items(changes):
        encoded = pack(item)
        piece.append(encoded)
        size += len(encoded)
        if size >= RECORD_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _items(changes: Changes) -> Iterator[Item]:
    yield from changes.entries
    yield from map(heard_of, changes.parked)
    for kept in changes.quarantined:
        yield Heard(wire=Wire(content_type=kept.content_type, headers=canonical.load(kept.headers), body=kept.body))


def _written(item: Item) -> _EntryItem | _MessageItem:
    if isinstance(item, Heard):
        return _MessageItem(item.wire.content_type, dict(item.wire.headers), item.wire.body, item.user_id)
    values: list[Any] = [msgspec.Raw(getattr(item, name)) if name in _DOCUMENTS else getattr(item, name) for name in _FIELDS]
    return _EntryItem(*values)


def _read(item: _EntryItem | _MessageItem) -> Item:
    if isinstance(item, _MessageItem):
        return Heard(wire=Wire(content_type=item.content_type, headers=item.headers, body=item.body), user_id=item.user_id)
    values = {name: getattr(item, name) for name in _FIELDS}
    return Entry(**values | {name: bytes(values[name]) for name in _DOCUMENTS})

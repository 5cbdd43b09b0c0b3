"""What Escrow itself puts into the recorder (R28): everything that a transaction made known, so that it can be folded in again.

A record is a JSON array, compressed. Its items are journal entries, and the messages that left none: parked for an order that does not
exist yet, or quarantined. Everything else that a transaction writes follows from these two.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from orchestrator.app.ports import Changes, OutboxMessage
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


class _MessageItem(msgspec.Struct, tag="message"):
    """A message as it came from the bus; its body in base64."""

    content_type: str
    headers: dict[str, Any]
    body: bytes


_FIELDS = _EntryItem.__struct_fields__
_DOCUMENTS = frozenset({"input", "patch", "effects"})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_EntryItem | _MessageItem]).decode


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


def read(body: bytes) -> list[Entry | Wire]:
    """What a record holds, in its order. Raises: MalformedMessage: nobody but Escrow writes records, so it is damaged."""
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(body, _READ_BYTES_MAX)
        if not unpacker.eof:
            raise MalformedMessage("A record ends too early, or is too large.")
        return [_read(item) for item in _decode(raw)]
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedMessage(f"A record cannot be read: {error}.") from error


def _in_pieces(changes: Changes) -> Iterator[Sequence[bytes]]:
    """The items, in pieces of about `RECORD_BYTES`."""
    piece: list[bytes] = []
    size = 0
    for item in _items(changes):
        encoded = _encode(item)
        piece.append(encoded)
        size += len(encoded)
        if size >= RECORD_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _items(changes: Changes) -> Iterator[_EntryItem | _MessageItem]:
    for entry in changes.entries:
        values: list[Any] = [msgspec.Raw(getattr(entry, name)) if name in _DOCUMENTS else getattr(entry, name) for name in _FIELDS]
        yield _EntryItem(*values)
    for parked in changes.parked:
        yield _MessageItem(STRUCTURED, {}, parked.envelope)
    for kept in changes.quarantined:
        yield _MessageItem(kept.content_type, canonical.load(kept.headers), kept.body)


def _read(item: _EntryItem | _MessageItem) -> Entry | Wire:
    if isinstance(item, _MessageItem):
        return Wire(content_type=item.content_type, headers=item.headers, body=item.body)
    values = {name: getattr(item, name) for name in _FIELDS}
    return Entry(**values | {name: bytes(values[name]) for name in _DOCUMENTS})

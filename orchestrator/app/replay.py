"""A journal folded line by line: `saga.fold` for histories that do not fit in memory, or of which the beginning is known by a snapshot.

It gives what `fold_document` gives and refuses what that refuses (the tests hold the two together), at a fifth of the cost: a line is a
tuple as the database gives it, its plain fields are encoded from a structure whose fields are in canonical order already, and what a patch
only hands on stays the JSON text that it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypedDict

import msgspec
from msgspec import Raw

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.decision import Entry
from orchestrator.saga.fold import apply_patch
from orchestrator.saga.order import Order, from_document, to_document

#: An order that lives long has a snapshot after every so many entries, so that going back folds fewer than that.
SNAPSHOT_EVERY = 100

#: The plain fields of an entry, in canonical order.
_PLAIN = (
    "actor",
    "at",
    "cause_seq",
    "from_state",
    "kind",
    "message_id",
    "name",
    "order_id",
    "prev_hash",
    "reason",
    "seq",
    "source",
    "to_state",
    "verdict",
)
#: The fields of an entry in the order that a line has them.
LINE = (*_PLAIN, "input", "patch", "effects", "hash")

#: An entry as a tuple of the fields of LINE: what the database gives.
Line = Sequence[Any]

_SEQ, _PREV_HASH, _AT = LINE.index("seq"), LINE.index("prev_hash"), LINE.index("at")
_INPUT, _PATCH, _EFFECTS, _HASH = (LINE.index(name) for name in ("input", "patch", "effects", "hash"))
_Plain = msgspec.defstruct("_Plain", [(name, Any) for name in _PLAIN], gc=False)
# In the order of its fields, which is the canonical one: nothing is left to sort.
_plain_bytes = msgspec.json.Encoder().encode
_values = attrgetter(*LINE)


class _Patch(TypedDict, total=False):
    """A patch as `apply_patch` takes it, with as little of it read as that needs."""

    fields: dict[str, Any]
    data: Raw
    labels: Raw
    turns: Raw
    amended: dict[str, Raw]
    joined: dict[str, Raw]
    replies: dict[str, Raw]
    asks: dict[str, Raw]
    deadlines: dict[str, Raw]
    parked: dict[str, Raw]
    disarmed: list[str]
    replies_gone: list[str]
    asks_gone: list[str]
    parked_gone: list[str]


_load_patch = msgspec.json.Decoder(_Patch).decode


def line_of(entry: Entry) -> Line:
    """An entry as a line."""
    values: tuple[Any, ...] = _values(entry)
    return values


def entry_of(line: Line) -> Entry:
    """The entry that a line holds."""
    return Entry(**dict(zip(LINE, line, strict=True)))


def line_hash(line: Line) -> str:
    """What the line's hash must be: `saga.chain.entry_hash`, from a line."""
    plain = _Plain(*line[:_AT], canonical.format_time(line[_AT]), *line[_AT + 1 : _INPUT])
    return hashlib.sha256(b"\n".join((_plain_bytes(plain), line[_INPUT], line[_PATCH], line[_EFFECTS]))).hexdigest()


class Replay:
    """An order in the making, from the lines of its journal in order of seq."""

    __slots__ = ("document", "order_id", "seq")

    def __init__(self, order_id: str, document: dict[str, Any] | None = None) -> None:
        """`document`: of the order as it stood after an entry, to go on from; it is changed in place. None: from the beginning."""
        self.order_id = order_id
        #: Its `fields` and `hash` as values; whatever is below its other parts may be values, or JSON text of them (`msgspec.Raw`).
        self.document: dict[str, Any] = _blank() if document is None else document
        #: Of the last line taken.
        self.seq: int = self.document["fields"].get("seq", 0)

    def take(self, line: Line) -> None:
        """Go on by one line. Raises: InvariantViolated for a gap in seq, a broken hash chain or an altered entry, naming it."""
        seq, document, its_hash = self.seq + 1, self.document, line[_HASH]
        if line[_SEQ] != seq:
            raise InvariantViolated(f"{self.order_id}: entry {seq} is missing from the journal.")
        if line[_PREV_HASH] != document["hash"]:
            raise InvariantViolated(f"{self.order_id}: entry {seq} does not continue the hash chain.")
        if line_hash(line) != its_hash:
            raise InvariantViolated(f"{self.order_id}: entry {seq} was altered after it was written.")
        apply_patch(document, _load_patch(line[_PATCH]))
        document["hash"] = its_hash
        self.seq = seq

    @property
    def is_at_snapshot(self) -> bool:
        """Whether an order has a snapshot here."""
        return self.seq % SNAPSHOT_EVERY == 0

    def bytes(self) -> bytes:
        """The canonical document. Raises: InvariantViolated for an empty journal."""
        if self.seq == 0:
            raise InvariantViolated("An order without a journal.")
        return canonical.encode(self.document)


def due_snapshots(before: Order | None, after: Order, entries: Sequence[Entry]) -> list[tuple[int, bytes]]:
    """(seq, document) of the snapshots that fall among the entries that led from `before` (None: nothing) to `after`; mostly none."""
    first = before.seq if before is not None else 0
    if after.seq // SNAPSHOT_EVERY == first // SNAPSHOT_EVERY:
        return []
    # Through bytes: replaying changes the document in place, and it shares its parts with the order.
    replay = Replay(after.order_id, canonical.load(canonical.encode(to_document(before))) if before is not None else None)
    found = []
    for entry in sorted(entries, key=lambda entry: entry.seq):
        replay.take(line_of(entry))
        if replay.is_at_snapshot:
            found.append((replay.seq, replay.bytes()))
    return found


def thawed(replay: Replay) -> Order:
    """The order as it is by now, sharing nothing with the replay."""
    return from_document(canonical.load(replay.bytes()))


def _blank() -> dict[str, Any]:
    return {"fields": {}, "data": {}, "labels": {}, "replies": {}, "turns": {}, "asks": {}, "deadlines": {}, "hash": ""}

"""What the use cases need from the world: a store, a bus, a clock. Each port has one contract suite, run on all its implementations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from orchestrator.contract import Wire
from orchestrator.saga.decision import Entry, Verdict
from orchestrator.saga.order import Deadline, Order

# --- the bus ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message from the inbox, not yet acked."""

    wire: Wire
    #: Opaque to everyone but the bus: its tag and the epoch of its link. Acks of an older epoch are dropped.
    tag: int
    link_epoch: int
    redelivered: bool
    #: `user_id` property: the broker user that published it, when the broker vouches for it.
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message committed with the change that caused it, on its way to the broker."""

    #: Made by the writer (a UUID); no cursor runs over it.
    outbox_id: str
    order_id: str
    #: Journal entry that caused it, and its place among that entry's messages: together the order of first sending.
    seq: int
    place: int
    #: None for announcements.
    command_id: str | None
    participant: str | None
    #: The worker incarnation that is to send it; None: nobody yet.
    owner: str | None
    exchange: str
    routing_key: str
    message_id: str
    message_type: str
    content_type: str
    #: AMQP headers.
    headers: Mapping[str, Any]
    body: bytes
    created_at: datetime
    #: Commands must reach a queue; announcements may have no listener.
    mandatory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of one published message. `confirmed`: the broker has it. Otherwise it stays in the outbox."""

    outbox_id: str
    outcome: Literal["confirmed", "returned", "nacked", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """The state of the two links to the broker. Each False→True of `consuming` is a new link epoch."""

    consuming: bool
    publishing: bool
    #: The broker has stopped reading what we publish (an alarm).
    blocked: bool = False
    #: Messages ready in the inbox when the consumer came up, if known (R9).
    inbox_depth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandQueue:
    """What the broker says of a participant's command queue, or of the inbox."""

    #: Messages that nobody has taken yet.
    ready: int
    #: None: not known.
    consumers: int | None


BusEvent = Delivery | Settled | LinkChanged


class Bus(Protocol):
    """The link to the broker. Everything it has to say goes to the sink given at `start`, from its own thread."""

    @property
    def has_recorder(self) -> bool:
        """Whether a recorder keeps every event, and every record that is published (R28)."""

    def start(self, sink: Callable[[BusEvent], None], *, consume: bool) -> None:
        """Connect, and stay connected (full-jitter backoff); returns at once. `consume` False: publish only."""

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        """Hand over messages; each is reported once as `Settled`, `lost` at once when the link is down."""

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget deliveries, in the order they came, up to the last of them; those of an older link are dropped."""

    def pause(self) -> None:
        """Stop consuming and let the consumer link go: unacked deliveries return to the inbox. Idempotent."""

    def resume(self) -> None:
        """Consume again."""

    def inbox_depth(self) -> int | None:
        """Messages ready in the inbox by passive declare; None when the link is down. May block up to 1 s."""

    def command_queue(self, participant: str) -> CommandQueue | None:
        """A participant's command queue by passive declare; None when the link is down or there is none. May block up to 1 s."""

    def close(self) -> None:
        """Stop consuming, wait up to 2 s for confirms, close. Idempotent."""


# --- the store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A message for an order that does not exist yet."""

    order_id: str
    source: str
    message_id: str
    message_type: str
    #: Canonical JSON of the envelope (structured CloudEvent).
    envelope: bytes
    parked_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A message that cannot be understood or applied, kept with its reason. Equal messages are one row with a count."""

    #: Made by the writer (a UUID); when an equal row exists, that row's id stays and its count grows.
    quarantine_id: str
    reason: str
    detail: str
    source: str | None
    message_id: str | None
    message_type: str | None
    order_id: str | None
    content_type: str
    headers: bytes
    body: bytes
    at: datetime

    @property
    def fingerprint(self) -> str:
        """What makes two equal: sha256 over reason, headers (the binary mode has the id and the order there) and body, hexadecimal."""
        return hashlib.sha256(b"\0".join((self.reason.encode(), self.headers, self.body))).hexdigest()


Resolution = Literal["replayed", "discarded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a human decided about a quarantined message."""

    quarantine_id: str
    resolution: Resolution
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A deadline found due, with what is needed to fire it."""

    order_id: str
    name: str
    generation: int
    armed_at: datetime
    due_at: datetime
    participant: str | None
    #: Its participant was silent, and this deadline was held back meanwhile (R8).
    excused: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """All that one batch writes, family by family; the store writes each with a handful of set-based statements."""

    #: Orders that are new, and their opening row.
    opened: list[Order] = field(default_factory=list)
    #: (order, seq before the batch): the UPDATE names that seq and its row count is asserted (R19).
    moved: list[tuple[Order, int]] = field(default_factory=list)
    #: The orders as they were before, by id: gives the counters and deadlines to take back.
    before: dict[str, Order] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    #: Set or replaced deadlines, as (order id, deadline), and the names to delete.
    armed: list[tuple[str, Deadline]] = field(default_factory=list)
    disarmed: list[tuple[str, str]] = field(default_factory=list)
    outbox: list[OutboxMessage] = field(default_factory=list)
    #: (order id, command id) answered: their outbox rows go.
    answered: list[tuple[str, str]] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    #: (order id, source, message id) no longer parked.
    unparked: list[tuple[str, str, str]] = field(default_factory=list)
    #: What was decided about quarantined messages, and when; each was found open under the lock of its row.
    resolved: list[tuple[Resolved, datetime]] = field(default_factory=list)
    #: An equal message opens its row again, also one that is resolved here.
    quarantined: list[Quarantined] = field(default_factory=list)
    #: Outbox ids that the broker confirmed since the last batch.
    confirmed: list[str] = field(default_factory=list)
    #: Deadlines of ours that made decide raise: (order id, name, put off until).
    put_off: list[tuple[str, str, datetime]] = field(default_factory=list)
    #: Participants that are to be sent again what is outstanding for them; since when, None: all of it.
    resyncs: list[tuple[str, datetime | None]] = field(default_factory=list)
    #: Participants that wait for a replay: by which request (its message id), and the types of the events that they hear.
    awaited_replays: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    #: What of the recorder (offset, place) is recovered now.
    recovered: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A message as the journal first recorded it."""

    seq: int
    #: `contract.digest` of it.
    digest: str
    verdict: Verdict


class Transaction(Protocol):
    """One write transaction. Locks are taken first, in id order (R19); `now` is read after them."""

    def lock_orders(self, order_ids: Collection[str]) -> dict[str, Order]:
        """Lock the rows of these orders in bytewise id order, then the names of the missing ones, and read them again.

        Raises: StoreBusy for lock timeout and deadlock: the batch is run again.
        """

    def lock_quarantined(self, quarantine_ids: Collection[str]) -> dict[str, Resolution | None]:
        """Lock the rows of these quarantined messages, after the orders; how each was resolved, None: not yet. Absent: no such row."""

    def now(self) -> datetime:
        """The database's clock (SQLite: the injected one)."""

    def recorded(self, keys: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], Recorded]:
        """Those of (order id, source, message id) that a journal holds."""

    def parked(self, order_ids: Collection[str]) -> dict[str, list[Parked]]:
        """What is parked for these orders, each list in order of arrival."""

    def bodies(self, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        """The `effects` of journal entries (order id, seq)."""

    def put_off_counts(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How often these deadlines (order id, name) were put off already; absent: never."""

    def take_over(self, order_ids: Collection[str], owner: str, *, except_of: Collection[str] = ()) -> list[OutboxMessage]:
        """Make `owner` the owner of these orders' outbox rows that others own, except of some; returns them in journal order (R17)."""

    def write(self, changes: Changes) -> None:
        """Write everything. Raises: DataRefused (bisect), InvariantViolated (a row count is not what it must be)."""


class Store(Protocol):
    """The database."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """One write transaction: commits at the end of the block, rolls back on an exception.

        Raises: StoreUnavailable, StoreBusy, DataRefused.
        """

    def due(self, limit: int) -> list[Due]:
        """The deadlines that are due by the database's clock, earliest first, without those whose command is unconfirmed."""

    def stored_definition(self, name: str, version: int) -> bytes | None:
        """The expanded document of a registered definition."""

    def latest_version(self, name: str) -> int | None:
        """The version of a definition that new orders get: the marked one; of one that opens on no event, the highest."""

    def opener(self, event_type: str) -> tuple[str, int] | None:
        """The definition that an event type opens, by the mark of the latest start (R30)."""

    def known_types(self) -> frozenset[str]:
        """Every event type that a registered definition names."""

    def participants(self) -> frozenset[str]:
        """Everyone whom a registered definition asks or tells."""

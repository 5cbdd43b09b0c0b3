"""The tables of the escrow, one set for PostgreSQL and SQLite (design, section 8).

Ids and names compare bytewise on both (`COLLATE "C"`; SQLite's default). Documents are bytes of canonical JSON, so hashes are equal
on both. Times are aware UTC. There are no foreign keys: every statement addresses orders by id, the families are written in one
transaction, and `escrow verify` compares them.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.schema import Column, Index, MetaData, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.types import BigInteger, Boolean, Float, Integer, LargeBinary, Text

from orchestrator.store.columns import Arrival, Instant, Name

#: The statuses of orders that have not ended, as SQL: the predicate of the index that lists of open orders walk.
OPEN_STATUSES = ("running", "undoing", "stuck", "held")
_IS_OPEN = text("status IN ('running', 'undoing', 'stuck', 'held')")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

definitions = Table(
    "definitions",
    metadata,
    Column("name", Name, nullable=False),
    Column("version", Integer, nullable=False),
    #: sha256 of `raw`, hexadecimal.
    Column("fingerprint", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    #: With every default written out: what orders run on.
    Column("expanded", LargeBinary, nullable=False),
    Column("opens_on", Name, nullable=False),
    #: Whether events of type `opens_on` open this one, by the latest start.
    Column("is_opener", Boolean, nullable=False),
    Column("registered_at", Instant, nullable=False),
    PrimaryKeyConstraint("name", "version"),
    Index(
        "uq_definitions_opener",
        "opens_on",
        unique=True,
        postgresql_where=text("is_opener"),
        sqlite_where=text("is_opener"),
    ),
)

#: Narrow and hot: a move touches none of the indexed columns but `status`, a migration `version`, so most updates are heap-only (HOT).
orders = Table(
    "orders",
    metadata,
    Column("order_id", Name, nullable=False),
    Column("definition", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Name, nullable=False),
    Column("direction", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    #: Whom it waits for, separated by spaces, the one that holds it up first (`saga.standing`). Null when it is over.
    Column("waiting_on", Name),
    #: Sendings of the first thing it waits for.
    Column("attempts", Integer, nullable=False),
    Column("cause", Text),
    Column("state_entered_at", Instant, nullable=False),
    #: The earliest deadline, for lists; `deadlines` is what fires.
    Column("deadline_at", Instant),
    Column("opened_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    PrimaryKeyConstraint("order_id"),
    Index(None, "opened_at", "order_id"),
    Index(None, "status", "opened_at", "order_id"),
    Index(None, "definition", "version", "opened_at", "order_id"),
    Index("ix_orders_open", "opened_at", "order_id", postgresql_where=_IS_OPEN, sqlite_where=_IS_OPEN),
    Index(
        "ix_orders_open_version",
        "definition",
        "version",
        "status",
        "opened_at",
        "order_id",
        postgresql_where=_IS_OPEN,
        sqlite_where=_IS_OPEN,
    ),
    postgresql_with={"fillfactor": 70},
)

order_data = Table(
    "order_data",
    metadata,
    Column("order_id", Name, nullable=False),
    #: Canonical JSON of `saga.order.to_document`.
    Column("document", LargeBinary, nullable=False),
    PrimaryKeyConstraint("order_id"),
    postgresql_with={"fillfactor": 70},
)

#: What orders are found by; written at the opening. `opened_at` is the order's own: the list by a label walks one index, newest first.
order_labels = Table(
    "order_labels",
    metadata,
    Column("order_id", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("value", Name, nullable=False),
    Column("opened_at", Instant, nullable=False),
    PrimaryKeyConstraint("order_id", "name"),
    Index(None, "name", "value", "opened_at", "order_id"),
)

_APPLIED = text("cause_seq IS NOT NULL AND verdict = 'moved'")

journal = Table(
    "journal",
    metadata,
    Column("order_id", Name, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("kind", Text, nullable=False),
    #: Of the message that this entry first records; null otherwise, so that it counts as not seen (R15).
    Column("source", Name),
    Column("message_id", Name),
    Column("cause_seq", BigInteger),
    Column("name", Text, nullable=False),
    Column("actor", Text),
    Column("reason", Text),
    Column("verdict", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("patch", LargeBinary, nullable=False),
    Column("effects", LargeBinary, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    PrimaryKeyConstraint("order_id", "seq"),
    UniqueConstraint("order_id", "source", "message_id"),
    # A message recorded once is applied at most once, however often it is replayed (R15).
    Index("uq_journal_applied", "order_id", "cause_seq", unique=True, postgresql_where=_APPLIED, sqlite_where=_APPLIED),
)

#: Orders as they stood after every so many entries: where time travel begins. Follows from the journal, and may be missing.
snapshots = Table(
    "snapshots",
    metadata,
    Column("order_id", Name, nullable=False),
    #: Of the last journal entry in it.
    Column("seq", BigInteger, nullable=False),
    #: Canonical JSON of `saga.order.to_document`.
    Column("document", LargeBinary, nullable=False),
    PrimaryKeyConstraint("order_id", "seq"),
)

_IS_PUT_OFF = text("put_off_until IS NOT NULL")

deadlines = Table(
    "deadlines",
    metadata,
    Column("order_id", Name, nullable=False),
    Column("name", Name, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("armed_at", Instant, nullable=False),
    #: Null while the order is held.
    Column("due_at", Instant),
    Column("participant", Name),
    #: Not fired while this command lies unconfirmed in the outbox (R5).
    Column("command_id", Name),
    Column("put_off_count", Integer, nullable=False),
    Column("put_off_until", Instant),
    PrimaryKeyConstraint("order_id", "name"),
    Index(None, "due_at"),
    Index("ix_deadlines_put_off", "put_off_until", postgresql_where=_IS_PUT_OFF, sqlite_where=_IS_PUT_OFF),
)

outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", Name, nullable=False),
    Column("order_id", Name, nullable=False),
    #: Journal entry that caused it, and place among that entry's messages.
    Column("seq", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    Column("command_id", Name),
    Column("participant", Name),
    #: Worker incarnation that is to send it; null: nobody yet.
    Column("owner", Name),
    Column("exchange", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("mandatory", Boolean, nullable=False),
    PrimaryKeyConstraint("outbox_id"),
    Index(None, "order_id", "command_id"),
    Index(None, "owner", "created_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("incarnation", Name, nullable=False),
    Column("role", Text, nullable=False),
    Column("beat_at", Instant, nullable=False),
    #: When its consumer link came up; null while it is down or the process has none.
    Column("link_up_at", Instant),
    #: What it took from the inbox before is committed. Null: it is of a release that does not say so.
    Column("handled_until", Instant),
    PrimaryKeyConstraint("incarnation"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", Name, nullable=False),
    Column("next_at", Instant, nullable=False),
    PrimaryKeyConstraint("name"),
)

#: The timelines of PostgreSQL that this data was written on: a server on a lower one is an old primary.
timelines = Table(
    "timelines",
    metadata,
    Column("system_identifier", Name, nullable=False),
    Column("timeline", BigInteger, nullable=False),
    Column("seen_at", Instant, nullable=False),
    PrimaryKeyConstraint("system_identifier", "timeline"),
)

parked = Table(
    "parked",
    metadata,
    #: Order of arrival within an order, whose lock orders the writers.
    Column("arrival", Arrival, autoincrement=True, nullable=False),
    Column("order_id", Name, nullable=False),
    Column("source", Name, nullable=False),
    Column("message_id", Name, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("parked_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    PrimaryKeyConstraint("arrival"),
    UniqueConstraint("order_id", "source", "message_id"),
    Index(None, "expires_at"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", Name, nullable=False),
    #: What makes two messages equal: sha256 over reason, headers and body, hexadecimal.
    Column("fingerprint", Name, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("source", Name),
    Column("message_id", Name),
    Column("message_type", Name),
    Column("order_id", Name),
    Column("content_type", Text, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    #: `replayed` or `discarded`; null: a human is still to decide.
    Column("resolution", Text),
    Column("resolved_by", Text),
    Column("resolved_at", Instant),
    Column("resolved_reason", Text),
    PrimaryKeyConstraint("quarantine_id"),
    UniqueConstraint("fingerprint"),
    Index(None, "last_at", "quarantine_id"),
    Index(None, "order_id"),
)

#: Health of participants (R8).
participants = Table(
    "participants",
    metadata,
    Column("name", Name, nullable=False),
    #: `healthy`, `silent` or `recovering`, and since when.
    Column("state", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
    #: The last sign of life that was written down; it may be some seconds older than the last one heard.
    Column("last_reply_at", Instant),
    #: The last sign of life that ended a silence: deadlines that fell due before it are excused.
    Column("recovered_at", Instant),
    #: When the next canary may go out.
    Column("canary_at", Instant),
    #: Commands that may go out, how many more a second, and as of when.
    Column("tokens", Float, nullable=False),
    Column("rate_per_s", Float, nullable=False),
    Column("refilled_at", Instant, nullable=False),
    #: A resync is under way: what was last sent since then, and before `recovered_at`, is sent again. Null: none is.
    Column("resync_from", Instant),
    #: It lost its state and waits, or waited, for a replay: message id of its latest request, and the types of the events that it hears,
    #: separated by spaces. Null: it never did.
    Column("replay_request", Name),
    Column("hears", Text),
    PrimaryKeyConstraint("name"),
)

#: What processes found of participants since they heard them last (R8): a row for each that has something to say. The dead say nothing.
suspicions = Table(
    "suspicions",
    metadata,
    Column("name", Name, nullable=False),
    Column("incarnation", Name, nullable=False),
    #: Orders that asked it, that found it silent, and both, each counted once.
    Column("asked", Integer, nullable=False),
    Column("overdue", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    #: Of the first of them.
    Column("since", Instant, nullable=False),
    PrimaryKeyConstraint("name", "incarnation"),
)

#: How far a process that can be killed and run again has come (recovery, retention).
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("name", Name, nullable=False),
    Column("position", LargeBinary, nullable=False),
    Column("updated_at", Instant, nullable=False),
    PrimaryKeyConstraint("name"),
)

#: What the recorder holds beyond a restored database, while that is recovered; empty at all other times.
recovered = Table(
    "recovered",
    metadata,
    #: Offset in the recorder, and place within its message.
    Column("position", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    #: Of a journal entry; null for messages.
    Column("order_id", Name),
    Column("seq", BigInteger),
    #: JSON (`app.record.pack`).
    Column("item", LargeBinary, nullable=False),
    PrimaryKeyConstraint("position", "place"),
    Index(None, "order_id", "seq"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("actor", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("order_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    PrimaryKeyConstraint("actor", "key"),
    Index(None, "created_at"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("name", Name, nullable=False),
    Column("role", Text, nullable=False),
    #: sha256 of the token, hexadecimal; the token itself is nowhere.
    Column("digest", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    PrimaryKeyConstraint("name"),
    UniqueConstraint("digest"),
)

audit = Table(
    "audit",
    metadata,
    Column("audit_id", Arrival, autoincrement=True, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("order_id", Name),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("audit_id"),
    Index(None, "at"),
)

counters = Table(
    "counters",
    metadata,
    Column("definition", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Name, nullable=False),
    Column("status", Name, nullable=False),
    Column("shard", Integer, nullable=False),
    #: May be negative: the sum over the shards is what counts.
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint("definition", "version", "state", "status", "shard"),
    postgresql_with={"fillfactor": 50},
)

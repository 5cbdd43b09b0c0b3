"""The tables of the first release.

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
#: On SQLite: RFC 3339 text.
Instant = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
Arrival = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES = (
    "api_tokens",
    "audit",
    "checkpoints",
    "counters",
    "deadlines",
    "definitions",
    "idempotency_keys",
    "jobs",
    "journal",
    "order_data",
    "order_labels",
    "orders",
    "outbox",
    "parked",
    "participants",
    "quarantine",
    "workers",
)


def upgrade() -> None:
    """Expand."""
    op.create_table(
        "api_tokens",
        sa.Column("name", Name, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("revoked_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_tokens_digest")),
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", Arrival, autoincrement=True, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("order_id", Name, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("name", Name, nullable=False),
        sa.Column("position", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "counters",
        sa.Column("definition", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("status", Name, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("definition", "state", "status", "shard", name=op.f("pk_counters")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "deadlines",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("armed_at", Instant, nullable=False),
        sa.Column("due_at", Instant, nullable=True),
        sa.Column("participant", Name, nullable=True),
        sa.Column("command_id", Name, nullable=True),
        sa.Column("put_off_count", sa.Integer(), nullable=False),
        sa.Column("put_off_until", Instant, nullable=True),
        sa.PrimaryKeyConstraint("order_id", "name", name=op.f("pk_deadlines")),
    )
    op.create_index(op.f("ix_deadlines_due_at"), "deadlines", ["due_at"], unique=False)
    op.create_index(
        "ix_deadlines_put_off",
        "deadlines",
        ["put_off_until"],
        unique=False,
        postgresql_where=sa.text("put_off_until IS NOT NULL"),
        sqlite_where=sa.text("put_off_until IS NOT NULL"),
    )
    op.create_table(
        "definitions",
        sa.Column("name", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("expanded", sa.LargeBinary(), nullable=False),
        sa.Column("opens_on", Name, nullable=False),
        sa.Column("is_opener", sa.Boolean(), nullable=False),
        sa.Column("registered_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_definitions")),
    )
    op.create_index(
        "uq_definitions_opener",
        "definitions",
        ["opens_on"],
        unique=True,
        postgresql_where=sa.text("is_opener"),
        sqlite_where=sa.text("is_opener"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", Name, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("order_id", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("name", Name, nullable=False),
        sa.Column("next_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_jobs")),
    )
    op.create_table(
        "journal",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", Name, nullable=True),
        sa.Column("message_id", Name, nullable=True),
        sa.Column("cause_seq", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("patch", sa.LargeBinary(), nullable=False),
        sa.Column("effects", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "seq", name=op.f("pk_journal")),
        sa.UniqueConstraint("order_id", "source", "message_id", name=op.f("uq_journal_order_id_source_message_id")),
    )
    op.create_index(
        "uq_journal_applied",
        "journal",
        ["order_id", "cause_seq"],
        unique=True,
        postgresql_where=sa.text("cause_seq IS NOT NULL AND verdict = 'moved'"),
        sqlite_where=sa.text("cause_seq IS NOT NULL AND verdict = 'moved'"),
    )
    op.create_table(
        "order_data",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_order_data")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "order_labels",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("value", Name, nullable=False),
        sa.Column("opened_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "name", name=op.f("pk_order_labels")),
    )
    op.create_index(
        op.f("ix_order_labels_name_value_opened_at_order_id"),
        "order_labels",
        ["name", "value", "opened_at", "order_id"],
        unique=False,
    )
    op.create_table(
        "orders",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("definition", Name, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("waiting_on", Name, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("state_entered_at", Instant, nullable=False),
        sa.Column("deadline_at", Instant, nullable=True),
        sa.Column("opened_at", Instant, nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_orders_open",
        "orders",
        ["opened_at", "order_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('running', 'undoing', 'stuck', 'held')"),
        sqlite_where=sa.text("status IN ('running', 'undoing', 'stuck', 'held')"),
    )
    op.create_index(op.f("ix_orders_opened_at_order_id"), "orders", ["opened_at", "order_id"], unique=False)
    op.create_index(op.f("ix_orders_status_opened_at_order_id"), "orders", ["status", "opened_at", "order_id"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("outbox_id", Name, nullable=False),
        sa.Column("order_id", Name, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("command_id", Name, nullable=True),
        sa.Column("participant", Name, nullable=True),
        sa.Column("owner", Name, nullable=True),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("routing_key", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("mandatory", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_order_id_command_id"), "outbox", ["order_id", "command_id"], unique=False)
    op.create_index(op.f("ix_outbox_owner_created_at"), "outbox", ["owner", "created_at"], unique=False)
    op.create_table(
        "parked",
        sa.Column("arrival", Arrival, autoincrement=True, nullable=False),
        sa.Column("order_id", Name, nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("message_id", Name, nullable=False),
        sa.Column("message_type", sa.Text(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("parked_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("arrival", name=op.f("pk_parked")),
        sa.UniqueConstraint("order_id", "source", "message_id", name=op.f("uq_parked_order_id_source_message_id")),
    )
    op.create_index(op.f("ix_parked_expires_at"), "parked", ["expires_at"], unique=False)
    op.create_table(
        "participants",
        sa.Column("name", Name, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("last_reply_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_participants")),
    )
    op.create_table(
        "quarantine",
        sa.Column("quarantine_id", Name, nullable=False),
        sa.Column("fingerprint", Name, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("source", Name, nullable=True),
        sa.Column("message_id", Name, nullable=True),
        sa.Column("message_type", Name, nullable=True),
        sa.Column("order_id", Name, nullable=True),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", Instant, nullable=False),
        sa.Column("last_at", Instant, nullable=False),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("resolved_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", Instant, nullable=True),
        sa.Column("resolved_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_quarantine_fingerprint")),
    )
    op.create_index(op.f("ix_quarantine_last_at_quarantine_id"), "quarantine", ["last_at", "quarantine_id"], unique=False)
    op.create_index(op.f("ix_quarantine_order_id"), "quarantine", ["order_id"], unique=False)
    op.create_table(
        "workers",
        sa.Column("incarnation", Name, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("beat_at", Instant, nullable=False),
        sa.Column("link_up_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("incarnation", name=op.f("pk_workers")),
    )

    if op.get_context().dialect.name == "postgresql":
        _create_views()


def _create_views() -> None:
    """Documents as jsonb, for people with psql; nothing in Escrow reads them."""
    op.execute(
        "CREATE VIEW orders_readable AS SELECT o.*, convert_from(d.document, 'UTF8')::jsonb AS document "
        "FROM orders o JOIN order_data d USING (order_id)"
    )
    op.execute(
        "CREATE VIEW journal_readable AS SELECT order_id, seq, at, kind, source, message_id, cause_seq, name, actor, reason, verdict, "
        "from_state, to_state, convert_from(input, 'UTF8')::jsonb AS input, convert_from(patch, 'UTF8')::jsonb AS patch, "
        "convert_from(effects, 'UTF8')::jsonb AS effects, prev_hash, hash FROM journal"
    )


def downgrade() -> None:
    """Contract: everything goes."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP VIEW orders_readable")
        op.execute("DROP VIEW journal_readable")
    for table in TABLES:
        op.drop_table(table)

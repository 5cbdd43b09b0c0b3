"""The health of participants (R8).

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Expand: more columns of a table that nothing was ever written to. Altered, not made anew, for the rights that were given on it."""
    with op.batch_alter_table("participants", copy_from=_before()) as participants:
        for name in ("recovered_at", "canary_at"):
            participants.add_column(sa.Column(name, Instant, nullable=True))
        for name in ("tokens", "rate_per_s"):
            participants.add_column(sa.Column(name, sa.Float(), nullable=False))
        participants.add_column(sa.Column("refilled_at", Instant, nullable=False))
        participants.add_column(sa.Column("resync_from", Instant, nullable=True))


def downgrade() -> None:
    """Contract: what is known of the participants' health is forgotten."""
    op.execute("DELETE FROM participants")
    for name in ("recovered_at", "canary_at", "tokens", "rate_per_s", "refilled_at", "resync_from"):
        op.drop_column("participants", name)


def _before() -> sa.Table:
    """The table before, which SQLite makes anew: it adds no column that may not be null."""
    return sa.Table(
        "participants",
        sa.MetaData(),
        sa.Column("name", Name, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant, nullable=False),
        sa.Column("last_reply_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_participants")),
    )

"""Snapshots of long-lived orders, where time travel begins.

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Expand: an empty table. Orders get their snapshots as they move on; `escrow rebuild` makes those of the past."""
    op.create_table(
        "snapshots",
        sa.Column("order_id", Name, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "seq", name=op.f("pk_snapshots")),
    )


def downgrade() -> None:
    """Contract: snapshots follow from the journal."""
    op.drop_table("snapshots")

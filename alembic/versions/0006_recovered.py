"""What the recorder holds beyond a restored database, while that is recovered (R28).

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Expand: an empty table."""
    op.create_table(
        "recovered",
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("order_id", Name),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("item", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", "place", name=op.f("pk_recovered")),
    )
    op.create_index(op.f("ix_recovered_order_id_seq"), "recovered", ["order_id", "seq"])


def downgrade() -> None:
    """Contract: it is empty but while a database is recovered."""
    op.drop_table("recovered")

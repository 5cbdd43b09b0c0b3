"""What processes found of participants that they do not hear: told to each other, so that orders count whoever asked for them (R8).

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Instant = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Expand: a table that processes of the release before do not know; what they find they keep to themselves."""
    op.create_table(
        "suspicions",
        sa.Column("name", Name, nullable=False),
        sa.Column("incarnation", Name, nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("overdue", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("since", Instant, nullable=False),
        sa.PrimaryKeyConstraint("name", "incarnation", name=op.f("pk_suspicions")),
    )


def downgrade() -> None:
    """Contract: each process counts for itself again."""
    op.drop_table("suspicions")

"""The timelines of PostgreSQL that the data was written on, so that an old primary that comes back is told.

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
#: On SQLite: RFC 3339 text.
Instant = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Expand: one more table, empty; the first process to start writes its first row."""
    op.create_table(
        "timelines",
        sa.Column("system_identifier", Name, nullable=False),
        sa.Column("timeline", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("system_identifier", "timeline", name=op.f("pk_timelines")),
    )


def downgrade() -> None:
    """Forget what was seen: the processes still remember it."""
    op.drop_table("timelines")

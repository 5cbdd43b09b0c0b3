"""Until when workers have handled what they took: what a replay waits for (R29).

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

Instant = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Expand: a column that may be null, of a table with a row for each process. One of the release before leaves it null."""
    op.add_column("workers", sa.Column("handled_until", Instant, nullable=True))


def downgrade() -> None:
    """Contract: the next beat does without."""
    op.drop_column("workers", "handled_until")

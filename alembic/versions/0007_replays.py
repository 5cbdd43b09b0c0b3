"""Participants that lost their state: which replay they wait for, and what they hear (R29).

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Expand: two columns that may be null, of a table with a row for each participant."""
    op.add_column("participants", sa.Column("replay_request", Name, nullable=True))
    op.add_column("participants", sa.Column("hears", sa.Text(), nullable=True))


def downgrade() -> None:
    """Contract: a participant that waits for a replay has to ask anew."""
    op.drop_column("participants", "hears")
    op.drop_column("participants", "replay_request")

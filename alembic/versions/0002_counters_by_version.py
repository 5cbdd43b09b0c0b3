"""Counters by version, and the indexes that lists of one version walk.

The types are written out here: a revision says what it did then, whatever `store.tables` says now.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

IS_OPEN = sa.text("status IN ('running', 'undoing', 'stuck', 'held')")
PRIMARY_KEY = "pk_counters"


def upgrade() -> None:
    """Expand: two indexes of `orders`, and `version` among the keys of the counters, which are counted anew."""
    # First: it waits for whoever writes orders, and keeps others from it. A counter is written after its order, so none changes below.
    op.create_index(
        op.f("ix_orders_definition_version_opened_at_order_id"),
        "orders",
        ["definition", "version", "opened_at", "order_id"],
        unique=False,
    )
    op.create_index(
        "ix_orders_open_version",
        "orders",
        ["definition", "version", "status", "opened_at", "order_id"],
        unique=False,
        postgresql_where=IS_OPEN,
        sqlite_where=IS_OPEN,
    )
    op.execute("DELETE FROM counters")
    # Altered, not made anew, for the rights that were given on it.
    with op.batch_alter_table("counters", copy_from=_counters("definition", "state", "status", "shard")) as counters:
        counters.add_column(sa.Column("version", sa.Integer(), nullable=False))
        counters.drop_constraint(op.f(PRIMARY_KEY), type_="primary")
        counters.create_primary_key(op.f(PRIMARY_KEY), ["definition", "version", "state", "status", "shard"])
    op.execute(
        "INSERT INTO counters (definition, version, state, status, shard, n) "
        "SELECT definition, version, state, status, 0, count(*) FROM orders GROUP BY definition, version, state, status"
    )


def downgrade() -> None:
    """Contract: counters over all versions, and no indexes of versions."""
    op.drop_index("ix_orders_open_version", "orders")
    op.drop_index(op.f("ix_orders_definition_version_opened_at_order_id"), "orders")
    op.execute("DELETE FROM counters")
    with op.batch_alter_table("counters", copy_from=_counters("definition", "version", "state", "status", "shard")) as counters:
        counters.drop_constraint(op.f(PRIMARY_KEY), type_="primary")
        counters.drop_column("version")
        counters.create_primary_key(op.f(PRIMARY_KEY), ["definition", "state", "status", "shard"])
    op.execute(
        "INSERT INTO counters (definition, state, status, shard, n) "
        "SELECT definition, state, status, 0, count(*) FROM orders GROUP BY definition, state, status"
    )


def _counters(*key: str) -> sa.Table:
    """The table before, which SQLite makes anew: it cannot change a primary key."""
    types = {"version": sa.Integer(), "shard": sa.Integer()}
    return sa.Table(
        "counters",
        sa.MetaData(),
        *(sa.Column(name, types.get(name, Name), nullable=False) for name in key),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=op.f(PRIMARY_KEY)),
    )

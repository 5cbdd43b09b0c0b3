"""Snapshots: a long-lived order as it stood after every so many entries, where time travel begins.

They are written with the entries, in the same transaction: an order that passes no multiple costs one comparison of two integers. A job of
the fleet would have to find such orders, which takes an index over `seq`, and with it every move of every order would touch an index.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import sqlalchemy as sa

from orchestrator.app.ports import Changes
from orchestrator.app.replay import SNAPSHOT_EVERY, due_snapshots
from orchestrator.saga.order import Order
from orchestrator.store.dialect import insert_rows
from orchestrator.store.tables import snapshots


def take(connection: sa.Connection, changes: Changes) -> None:
    """Write the snapshots that are due among a batch's entries."""
    rows = [
        {"order_id": order.order_id, "seq": seq, "document": document}
        for order, before in _passing(changes)
        for seq, document in due_snapshots(before, order, [entry for entry in changes.entries if entry.order_id == order.order_id])
    ]
    insert_rows(connection, snapshots, rows)


def nearest(connection: sa.Connection, order_id: str, seq: int) -> bytes | None:
    """The document of the last snapshot of an order at or before `seq`."""
    s = snapshots.c
    statement = sa.select(s.document).where(s.order_id == order_id, s.seq <= seq).order_by(s.seq.desc()).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def _passing(changes: Changes) -> Iterable[tuple[Order, Order | None]]:
    """Orders that pass a multiple, each with what it was before."""
    moved = (
        (order, changes.before.get(order.order_id)) for order, seq in changes.moved if order.seq // SNAPSHOT_EVERY > seq // SNAPSHOT_EVERY
    )
    return chain(((order, None) for order in changes.opened if order.seq >= SNAPSHOT_EVERY), moved)

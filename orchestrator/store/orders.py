"""Orders: the narrow row that lists and locks use, and the document that is the order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.order import Order, from_document, to_document
from orchestrator.saga.waiting import waits
from orchestrator.store.dialect import Dialect, insert_rows, of, pack_rows
from orchestrator.store.tables import order_data, order_labels, orders


def projection(order: Order) -> dict[str, Any]:
    """The row of `orders` that an order must have: everything but the document follows from the order."""
    open_waits = waits(order)
    return {
        "order_id": order.order_id,
        "definition": order.definition,
        "version": order.version,
        "state": order.state,
        "direction": order.direction,
        "status": order.status,
        "seq": order.seq,
        "epoch": order.epoch,
        # Each name once.
        "waiting_on": " ".join(dict.fromkeys(wait.participant for wait in open_waits)) or None,
        "attempts": open_waits[0].attempts if open_waits else 0,
        "cause": order.cause,
        "state_entered_at": order.state_entered_at,
        "deadline_at": order.next_due_at,
        "opened_at": order.opened_at,
        "updated_at": order.updated_at,
    }


def label_rows(order: Order) -> list[dict[str, Any]]:
    """The rows of `order_labels` that an order must have, by name."""
    return [
        {"order_id": order.order_id, "name": name, "value": value, "opened_at": order.opened_at}
        for name, value in sorted(order.labels.items())
    ]


def read_document(document: bytes) -> Order:
    """The order that a row of `order_data` holds. Raises: InvariantViolated when it is damaged."""
    try:
        return from_document(canonical.load(document))
    except msgspec.DecodeError as error:
        raise InvariantViolated(f"A stored document cannot be read: {error}") from error


def lock(connection: sa.Connection, order_ids: Collection[str]) -> dict[str, Order]:
    """Lock the rows in bytewise id order, then the names of those without row, and read what is there now (R19)."""
    if not order_ids:
        return {}
    dialect = of(connection)
    # Order ids are ASCII, so Python's order is the database's.
    wanted = sorted(set(order_ids))
    present = _lock_rows(connection, dialect, wanted)
    missing = [order_id for order_id in wanted if order_id not in present]
    if missing:
        dialect.lock_names(connection, missing)
        # Whoever held a name may have opened its order meanwhile.
        present |= _lock_rows(connection, dialect, missing)
    return _load(connection, dialect, present)


def insert(connection: sa.Connection, opened: Sequence[Order]) -> None:
    """Write new orders. An id that exists is refused by the database (DataRefused)."""
    insert_rows(connection, orders, [projection(order) for order in opened])
    insert_rows(connection, order_data, [_document_row(order) for order in opened])
    insert_rows(connection, order_labels, [row for order in opened for row in label_rows(order)])


def update(connection: sa.Connection, moved: Sequence[tuple[Order, int]]) -> None:
    """Write changed orders, each over the seq it was decided on. Raises: InvariantViolated when a row has another seq."""
    if not moved:
        return
    dialect = of(connection)
    result = connection.execute(_update_statement(dialect), pack_rows([projection(order) | {"old_seq": seq} for order, seq in moved]))
    if result.rowcount != len(moved):
        raise InvariantViolated(f"{result.rowcount} of {len(moved)} orders had the seq they were decided on, under their locks.")
    result = connection.execute(_update_data_statement(dialect), pack_rows([_document_row(order) for order, _ in moved]))
    if result.rowcount != len(moved):
        raise InvariantViolated(f"{result.rowcount} of {len(moved)} orders had a document.")


def _document_row(order: Order) -> dict[str, Any]:
    return {"order_id": order.order_id, "document": canonical.encode(to_document(order))}


def _lock_rows(connection: sa.Connection, dialect: Dialect, order_ids: Sequence[str]) -> set[str]:
    return set(connection.scalars(_lock_statement(dialect), dialect.pack("ids", order_ids)))


def _load(connection: sa.Connection, dialect: Dialect, order_ids: Collection[str]) -> dict[str, Order]:
    # Its own statement, after the locks: a join in the locking one would give the documents as they were before the wait.
    if not order_ids:
        return {}
    rows = connection.execute(_load_statement(dialect), dialect.pack("ids", order_ids))
    return {order_id: read_document(document) for order_id, document in rows}


@cache
def _lock_statement(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(orders.c.order_id).where(dialect.among(orders.c.order_id, "ids")).order_by(orders.c.order_id).with_for_update()


@cache
def _load_statement(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(order_data.c.order_id, order_data.c.document).where(dialect.among(order_data.c.order_id, "ids"))


@cache
def _update_statement(dialect: Dialect) -> sa.Update:
    rows = dialect.rows([*orders.c, sa.Column("old_seq", orders.c.seq.type)])
    # Neither the id, nor what is fixed at the opening.
    changing = (name for name in orders.c.keys() if name not in {"order_id", "definition", "opened_at"})  # noqa: SIM118 - a collection of columns
    return (
        sa.update(orders)
        .where(orders.c.order_id == rows.c.order_id, orders.c.seq == rows.c.old_seq)
        .values({name: rows.c[name] for name in changing})
    )


@cache
def _update_data_statement(dialect: Dialect) -> sa.Update:
    rows = dialect.rows(order_data.c)
    return sa.update(order_data).where(order_data.c.order_id == rows.c.order_id).values(document=rows.c.document)

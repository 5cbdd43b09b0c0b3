"""The journal: append-only, the truth about every order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import Recorded
from orchestrator.contract import canonical, digest
from orchestrator.saga.decision import Entry
from orchestrator.store.dialect import Dialect, insert_rows, of
from orchestrator.store.tables import journal

_COLUMNS = tuple(column.name for column in journal.c)
_values = attrgetter(*_COLUMNS)

MessageKey = tuple[str, str, str]


def append(connection: sa.Connection, entries: Sequence[Entry]) -> None:
    """Write entries. An entry that is there already, or records a message again, is refused by the database (DataRefused)."""
    insert_rows(connection, journal, [dict(zip(_COLUMNS, _values(entry), strict=True)) for entry in entries])


def recorded(connection: sa.Connection, keys: Collection[MessageKey]) -> dict[MessageKey, Recorded]:
    """Those of (order id, source, message id) that a journal holds, in one statement (R15)."""
    if not keys:
        return {}
    dialect = of(connection)
    rows = connection.execute(_recorded_statement(dialect), dialect.pack_keys("k", keys))
    return {
        (row.order_id, row.source, row.message_id): Recorded(
            seq=row.seq, digest=digest(canonical.load(row.input)["message"]), verdict=row.verdict
        )
        for row in rows
    }


def bodies(connection: sa.Connection, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
    """The `effects` of entries, by (order id, seq)."""
    if not keys:
        return {}
    dialect = of(connection)
    rows = connection.execute(_bodies_statement(dialect), dialect.pack_keys("k", keys))
    return {(row.order_id, row.seq): row.effects for row in rows}


def read_entry(row: Any) -> Entry:
    """The entry that a row of `journal` holds."""
    return Entry(**row._mapping)


@cache
def _recorded_statement(dialect: Dialect) -> sa.Select[Any]:
    keys = dialect.keys("k", {"order_id": sa.Text, "source": sa.Text, "message_id": sa.Text})
    j = journal.c
    return sa.select(j.order_id, j.source, j.message_id, j.seq, j.verdict, j.input).where(
        j.order_id == keys.c.order_id, j.source == keys.c.source, j.message_id == keys.c.message_id
    )


@cache
def _bodies_statement(dialect: Dialect) -> sa.Select[Any]:
    keys = dialect.keys("k", {"order_id": sa.Text, "seq": sa.BigInteger})
    j = journal.c
    return sa.select(j.order_id, j.seq, j.effects).where(j.order_id == keys.c.order_id, j.seq == keys.c.seq)

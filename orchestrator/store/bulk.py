"""Writing very many rows at once: PostgreSQL by COPY in binary, SQLite by prepared statements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

from orchestrator.store.dialect import of


def write_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows: tuples of all columns of the table, in its order."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), [dict(zip(table.c.keys(), row, strict=True)) for row in rows])
        return
    statement, types = _copy(table)
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        # In the words of the library, so that whoever translates its errors knows this one, too.
        raise exc.DBAPIError(statement, None, error, connection_invalidated=driver.closed) from error


def delete_rows(connection: sa.Connection, table: sa.Table, order_ids: Sequence[str]) -> None:
    """Delete all rows of these orders."""
    if order_ids:
        dialect = of(connection)
        connection.execute(sa.delete(table).where(dialect.among(table.c.order_id, "ids")), dialect.pack("ids", order_ids))


@cache
def _copy(table: sa.Table) -> tuple[str, tuple[str, ...]]:
    """The statement, and the types of the columns by their names in PostgreSQL."""
    kinds: tuple[tuple[type[Any], str], ...] = (
        (sa.BigInteger, "int8"),
        (sa.Integer, "int4"),
        (sa.Boolean, "bool"),
        (sa.DateTime, "timestamptz"),
        (sa.LargeBinary, "bytea"),
        (sa.Text, "text"),
    )
    types = tuple(next(name for kind, name in kinds if isinstance(column.type, kind)) for column in table.c)
    return f"COPY {table.name} ({', '.join(table.c.keys())}) FROM STDIN (FORMAT BINARY)", types

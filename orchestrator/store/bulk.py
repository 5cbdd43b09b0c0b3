"""Very many rows at once. PostgreSQL: read as a stream, written by COPY, both in binary; SQLite: by its own cursors and statements."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import capabilities
from sqlalchemy import exc

from orchestrator.store.dialect import of

#: Rows that a stream takes in at once: more cost memory and gain nothing.
CHUNK = 200
_DIALECT = sa.make_url("postgresql+psycopg://").get_dialect()()


def stream_rows(connection: sa.Connection, statement: sa.Select[Any], parameters: Mapping[str, Any]) -> Generator[tuple[Any, ...]]:
    """Rows of a statement, however many, as plain tuples. Until they are read, nothing else runs on the connection.

    PostgreSQL works ahead meanwhile, as far as the buffers of the connection go. To be closed where it is not read to its end.
    `statement` is kept: make it once, with all that changes among its parameters.
    """
    if connection.dialect.name != "postgresql":
        yield from map(tuple, connection.execute(statement, parameters, execution_options={"yield_per": CHUNK}))
        return
    text = _text(statement)
    # Row by row where the client library is older than 17.
    size = CHUNK if capabilities.has_stream_chunked() else 1
    with _driver(connection, text) as driver, driver.cursor() as cursor:
        yield from cursor.stream(text, parameters, binary=True, size=size)


def write_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows: tuples of all columns of the table, in its order."""
    if not rows:
        return
    if connection.dialect.name != "postgresql":
        connection.execute(sa.insert(table), [dict(zip(table.c.keys(), row, strict=True)) for row in rows])
        return
    statement, types = _copy(table)
    with _driver(connection, statement) as driver, driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def delete_rows(connection: sa.Connection, table: sa.Table, order_ids: Sequence[str]) -> None:
    """Delete all rows of these orders."""
    if order_ids:
        dialect = of(connection)
        connection.execute(sa.delete(table).where(dialect.among(table.c.order_id, "ids")), dialect.pack("ids", order_ids))


@contextmanager
def _driver(connection: sa.Connection, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """The driver's own connection. Its errors are told as those of the library, so that whoever translates these knows them, too."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        yield driver
    except psycopg.Error as error:
        raise exc.DBAPIError(statement, None, error, connection_invalidated=driver.closed) from error


@cache
def _text(statement: sa.Select[Any]) -> str:
    """As the driver takes it."""
    return statement.compile(dialect=_DIALECT).string


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

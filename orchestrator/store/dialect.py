"""What PostgreSQL and SQLite do differently, and nowhere else: upserts, sets of rows and keys, locks, the clock, errors.

Statements are built once per dialect and kept: rows go in as one parameter of JSON text, lists of keys as an array or JSON text, so a
statement has one text whatever the size of the batch, is planned once, and takes one round trip.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.contract import canonical
from orchestrator.errors import DataRefused, EscrowError, InvariantViolated, StoreBusy, StoreForbidden, StoreUnavailable
from orchestrator.store.columns import Instant

Clock = Callable[[], datetime]
Upsert = postgresql.Insert | sqlite.Insert

#: Execution options of ours on engine and connection.
CLOCK_OPTION = "escrow_clock"
WRITE_OPTION = "escrow_write"

_REFUSED_CLASSES = frozenset({"22", "23"})
#: Connection, resources, intervention, system; then idle in transaction, read-only (a failover).
_AWAY_CLASSES = frozenset({"08", "53", "57", "58"})
_AWAY_STATES = frozenset({"25P03", "25006"})
#: Insufficient privilege; no schema to create in, because the user may use none.
_FORBIDDEN_STATES = frozenset({"42501", "3F000"})
#: Deadlock and serialization; then lock not available.
_BUSY_CLASSES = frozenset({"40"})
_BUSY_STATES = frozenset({"55P03"})
_SQLITE_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
    }
)


#: What to do when the user lacks a right.
RIGHTS_FIX = "Fix: give the user the rights that docs/operations.md grants; `escrow db upgrade` needs the owner of the tables."


class PostgreSQL:
    """PostgreSQL through psycopg."""

    def insert(self, table: sa.Table) -> Upsert:
        """An INSERT that may say what happens on conflict."""
        return postgresql.insert(table)

    def among(self, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
        """Whether `column` is one of the texts that the parameter `name` packs."""
        return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(sa.Text)))

    def pack(self, name: str, values: Collection[str]) -> dict[str, Any]:
        """The parameters of `among`."""
        return {name: list(values)}

    def keys(self, name: str, columns: Mapping[str, type[sa.types.TypeEngine[Any]]]) -> sa.FromClause:
        """Rows of keys to join with, from the parameters that `pack_keys` makes."""
        arrays = [sa.bindparam(f"{name}_{place}", type_=postgresql.ARRAY(kind)) for place, kind in enumerate(columns.values())]
        parts: list[sa.Column[Any]] = [sa.Column(label, kind) for label, kind in columns.items()]
        return sa.func.unnest(*arrays).table_valued(*parts, name=name).render_derived()

    def pack_keys(self, name: str, rows: Collection[Sequence[Any]]) -> dict[str, Any]:
        """The parameters of `keys`."""
        return {f"{name}_{place}": list(values) for place, values in enumerate(zip(*rows, strict=True))}

    def rows(self, columns: Iterable[sa.Column[Any]]) -> sa.FromClause:
        """Rows of these columns, from the parameter that `pack_rows` makes."""
        wanted = list(columns)
        typed = [sa.Column(column.name, sa.Text() if _is_bytes(column) else column.type) for column in wanted]
        packed = sa.cast(sa.bindparam(_ROWS, type_=sa.Text), postgresql.JSON)
        given = sa.func.json_to_recordset(packed).table_valued(*typed, name="given").render_derived(with_types=True)
        values = (sa.func.convert_to(given.c[c.name], "UTF8", type_=c.type) if _is_bytes(c) else given.c[c.name] for c in wanted)
        return sa.select(*(value.label(column.name) for column, value in zip(wanted, values, strict=True))).subquery("rows")

    def lock_names(self, connection: sa.Connection, order_ids: Sequence[str]) -> None:
        """Lock ids that have no row, in the order given, until the transaction ends."""
        connection.execute(_LOCK_NAMES, {"ids": list(order_ids)})

    def now(self, connection: sa.Connection) -> datetime:
        """The database's clock."""
        return connection.execute(_NOW).scalar_one()

    def instant(self, connection: sa.Connection, ago: timedelta = timedelta(0)) -> sa.ColumnElement[datetime]:
        """The database's clock less `ago`, within a statement. The start of the statement: stable, so an index can be searched for it."""
        at: sa.ColumnElement[datetime] = sa.func.statement_timestamp(type_=Instant)
        return at - sa.literal(ago, sa.Interval) if ago else at

    def missing_rights(self, connection: sa.Connection, tables: Collection[sa.Table]) -> list[str]:
        """The rights that the user lacks to read and write the rows of these tables, as `INSERT on orders`."""
        counting = [(table.name, table.autoincrement_column.name) for table in tables if table.autoincrement_column is not None]
        names = {
            "tables": sorted(table.name for table in tables),
            "counting": [t for t, _ in counting],
            "columns": [c for _, c in counting],
        }
        return sorted(connection.scalars(_MISSING_RIGHTS, names))

    @property
    def returns_from_cte(self) -> bool:
        """Whether a statement can write in a WITH clause and read around it."""
        return True

    def error(self, error: exc.DBAPIError) -> EscrowError:
        """Whose fault this is."""
        state: str | None = getattr(error.orig, "sqlstate", None)
        text = f"PostgreSQL: {str(error.orig).strip()}"
        if error.connection_invalidated:
            return StoreUnavailable(text)
        if state is None:
            # Refused by the driver (a NUL in a text), or no connection at all.
            return DataRefused(text) if isinstance(error, exc.DataError) else StoreUnavailable(text)
        if state[:2] in _REFUSED_CLASSES:
            return DataRefused(text)
        if state in _FORBIDDEN_STATES:
            return StoreForbidden(f"{text.splitlines()[0]}. {RIGHTS_FIX}")
        if state[:2] in _BUSY_CLASSES or state in _BUSY_STATES:
            return StoreBusy(text)
        if state[:2] in _AWAY_CLASSES or state in _AWAY_STATES:
            return StoreUnavailable(text)
        return InvariantViolated(f"{text} (SQLSTATE {state})")


class SQLite:
    """SQLite in WAL mode. A write transaction begins IMMEDIATE, which is every lock at once."""

    def insert(self, table: sa.Table) -> Upsert:
        """As for PostgreSQL."""
        return sqlite.insert(table)

    def among(self, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
        """As for PostgreSQL."""
        values = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(values.c.value))

    def pack(self, name: str, values: Collection[str]) -> dict[str, Any]:
        """As for PostgreSQL."""
        return {name: json.dumps(list(values))}

    def keys(self, name: str, columns: Mapping[str, type[sa.types.TypeEngine[Any]]]) -> sa.FromClause:
        """As for PostgreSQL."""
        rows = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        parts = [
            sa.func.json_extract(rows.c.value, sa.literal_column(f"'$[{place}]'"), type_=kind).label(label)
            for place, (label, kind) in enumerate(columns.items())
        ]
        return sa.select(*parts).select_from(rows).subquery(name)

    def pack_keys(self, name: str, rows: Collection[Sequence[Any]]) -> dict[str, Any]:
        """As for PostgreSQL."""
        return {name: json.dumps([list(row) for row in rows])}

    def rows(self, columns: Iterable[sa.Column[Any]]) -> sa.FromClause:
        """As for PostgreSQL."""
        given = sa.func.json_each(sa.bindparam(_ROWS, type_=sa.Text)).table_valued("value")
        values: list[sa.ColumnElement[Any]] = []
        for column in columns:
            value = sa.func.json_extract(given.c.value, sa.literal_column(f"'$.{column.name}'"), type_=column.type)
            values.append((sa.cast(value, sa.LargeBinary) if _is_bytes(column) else value).label(column.name))
        return sa.select(*values).select_from(given).subquery("rows")

    def lock_names(self, connection: sa.Connection, order_ids: Sequence[str]) -> None:
        """Nothing: the write transaction is the lock."""

    def now(self, connection: sa.Connection) -> datetime:
        """The injected clock."""
        return cast(Clock, connection.get_execution_options()[CLOCK_OPTION])()

    def instant(self, connection: sa.Connection, ago: timedelta = timedelta(0)) -> sa.ColumnElement[datetime]:
        """The injected clock less `ago`, as a parameter."""
        return sa.literal(self.now(connection) - ago, Instant)

    def missing_rights(self, connection: sa.Connection, tables: Collection[sa.Table]) -> list[str]:
        """None: there are no users."""
        return []

    @property
    def returns_from_cte(self) -> bool:
        """It cannot."""
        return False

    def error(self, error: exc.DBAPIError) -> EscrowError:
        """Whose fault this is."""
        text = f"SQLite: {error.orig}"
        if isinstance(error, exc.IntegrityError | exc.DataError):
            return DataRefused(text)
        # The low byte is the primary code; the rest says which kind of it.
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code in _SQLITE_BUSY:
            return StoreBusy(text)
        if error.connection_invalidated or code in _SQLITE_AWAY:
            return StoreUnavailable(text)
        return InvariantViolated(text)


Dialect = PostgreSQL | SQLite

_POSTGRESQL = PostgreSQL()
_SQLITE = SQLite()

#: The parameter that holds rows, and the types of values that JSON takes as they are.
_ROWS = "rows"
_PLAIN = frozenset({str, int, bool, type(None)})
_NOW = sa.select(sa.func.statement_timestamp(type_=Instant))
# The list is sorted by the caller, and unnest keeps its order.
_LOCK_NAMES = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(id, 0)) FROM unnest(CAST(:ids AS text[])) AS id")

_MISSING_RIGHTS = sa.text(
    "SELECT privilege || ' on ' || name FROM unnest(CAST(:tables AS text[])) AS name "
    "CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege WHERE NOT has_table_privilege(name, privilege) "
    "UNION ALL SELECT 'USAGE on ' || sequence FROM unnest(CAST(:counting AS text[]), CAST(:columns AS text[])) AS c(name, counter), "
    "pg_get_serial_sequence(name, counter) AS sequence WHERE NOT has_sequence_privilege(sequence, 'USAGE')"
)


def pack_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameter of `rows`: JSON. Bytes must be UTF-8 text, which all canonical JSON is."""
    plain = [{name: value if type(value) in _PLAIN else _json_value(value) for name, value in row.items()} for row in rows]
    return {_ROWS: canonical.encode(plain).decode()}


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of all columns of a table, with one statement."""
    if rows:
        connection.execute(_insert_statement(of(connection), table), pack_rows(rows))


@cache
def _insert_statement(dialect: Dialect, table: sa.Table) -> sa.Insert:
    return sa.insert(table).from_select(list(table.c.keys()), sa.select(dialect.rows(table.c)))


def _is_bytes(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.LargeBinary)


def _json_value(value: Any) -> Any:
    """As text what JSON has no type for."""
    if isinstance(value, datetime):
        return canonical.format_time(value)
    return value.decode() if isinstance(value, bytes) else value


def of(bind: sa.Engine | sa.Connection) -> Dialect:
    """The dialect of an engine or connection."""
    return _POSTGRESQL if bind.dialect.name == "postgresql" else _SQLITE


@contextmanager
def reading(engine: sa.Engine, *, is_snapshot: bool = False) -> Iterator[sa.Connection]:
    """A connection that reads. `is_snapshot`: all its statements see one state of the database.

    Raises: StoreUnavailable, StoreForbidden.
    """
    with _translated(engine), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            # One statement is a state of its own: no transaction around it, which would cost two more round trips.
            connection.execution_options(isolation_level="REPEATABLE READ" if is_snapshot else "AUTOCOMMIT")
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A write transaction: commits at the end of the block, rolls back on an exception.

    Raises: StoreUnavailable, StoreBusy, StoreForbidden, DataRefused, InvariantViolated in place of the driver's errors.
    """
    with _translated(engine), engine.connect() as connection:
        connection.execution_options(**{WRITE_OPTION: True})
        with connection.begin():
            yield connection


@contextmanager
def _translated(engine: sa.Engine) -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise of(engine).error(error) from error
    except exc.TimeoutError as error:
        raise StoreUnavailable("Every connection to the database is in use.") from error
    except (UnicodeEncodeError, OverflowError) as error:
        # Raised by the drivers for a lone surrogate and for an integer of more than 64 bits.
        raise DataRefused(f"The database cannot hold this: {error}.") from error

"""A participant's database: SQLite (WAL) or PostgreSQL, with the same transactions on both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

#: Seconds that a statement waits for another's lock before the batch is run again.
LOCK_TIMEOUT_S = 2


def connect(url: str) -> sa.Engine:
    """An engine for `sqlite:///FILE` or `postgresql+psycopg://…`. SQLite transactions begin IMMEDIATE, so reads in them are locked too."""
    if sa.make_url(url).get_backend_name() != "sqlite":
        options = f"-c lock_timeout={LOCK_TIMEOUT_S}s -c idle_in_transaction_session_timeout=10s"
        return sa.create_engine(url, pool_size=2, connect_args={"options": options, "keepalives_idle": 5, "connect_timeout": 5})
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_TIMEOUT_S})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def is_temporary(error: BaseException) -> bool:
    """Whether the database, not the data, is to blame: the batch is rolled back and run again whole."""
    return isinstance(error, OperationalError | InterfaceError) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin DEFERRED on its own
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


class Rows:
    """The rows of one table that a batch touches: read and locked with one select, written with one insert and one update.

    The table has one primary key column. Changes are seen at once by `get`, and by the database at `flush`.
    """

    def __init__(self, connection: sa.Connection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table
        (self._key,) = table.primary_key.columns
        self._rows: dict[Any, dict[str, Any] | None] = {}
        self._added: set[Any] = set()
        self._changed: set[Any] = set()

    def load(self, keys: Iterable[Any]) -> None:
        """Read the rows of these keys that are not known yet, and lock them, in key order so that two processes cannot deadlock."""
        missing = sorted(set(keys) - self._rows.keys())
        if not missing:
            return
        self._rows |= dict.fromkeys(missing)
        found = sa.select(self._table).where(self._key.in_(missing)).order_by(self._key).with_for_update()
        for row in self._connection.execute(found).mappings():
            self._rows[row[self._key.name]] = dict(row)

    def get(self, key: Any) -> Mapping[str, Any] | None:
        """The row as this batch has left it so far, or None."""
        if key not in self._rows:
            self.load([key])
        return self._rows[key]

    def add(self, **values: Any) -> None:
        """A new row; every column is given. Raises: ValueError when there is one with this key."""
        key = values[self._key.name]
        if self.get(key) is not None:
            raise ValueError(f"{self._table.name} has a row {key!r} already.")
        self._rows[key] = values
        self._added.add(key)

    def change(self, key: Any, **values: Any) -> None:
        """Set columns of a row. Raises: KeyError when there is none."""
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        self._rows[key] = {**row, **values}
        if key not in self._added:
            self._changed.add(key)

    def flush(self) -> None:
        """Write what was added and changed."""
        if self._added:
            self._connection.execute(sa.insert(self._table), [self._rows[key] or {} for key in sorted(self._added)])
        if self._changed:
            others = [column.name for column in self._table.columns if column is not self._key]
            statement = sa.update(self._table).where(self._key == sa.bindparam("row_key"))
            statement = statement.values({name: sa.bindparam(f"new_{name}") for name in others})
            self._connection.execute(statement, [self._parameters(key, others) for key in sorted(self._changed)])
        self._added.clear()
        self._changed.clear()

    def _parameters(self, key: Any, others: list[str]) -> dict[str, Any]:
        row = self._rows[key] or {}
        return {"row_key": key} | {f"new_{name}": row[name] for name in others}

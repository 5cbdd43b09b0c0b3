"""Engines: how this process talks to its database."""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import Format
from sqlalchemy import event, exc

from orchestrator.errors import SettingsError
from orchestrator.store.dialect import CLOCK_OPTION, WRITE_OPTION, Clock
from orchestrator.store.timeline import FENCE_OPTION, Fence

#: How long a statement waits for a lock, and a session may sit in an open transaction.
LOCK_TIMEOUT_MS = 2_000
#: The same for sessions that go through everything there is: what they hold back meanwhile is nothing but a clean-up.
BULK_IDLE_TIMEOUT_MS = 60_000
#: Connections kept open, and lent above that under load. A worker writes with one thread; the rest is for reading.
POOL_SIZE = 5
POOL_OVERFLOW_MAX = 10
#: Ways of PostgreSQL to go through whole tables. Every statement of ours names its rows, and an index finds them; yet a plan that was made
#: while a table was all but empty, and is kept until its statistics are, would read all of it once it is large.
PLANS_OF_WHOLE_TABLES = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
#: How long a caller waits for a free connection.
POOL_TIMEOUT_S = 5
#: How long a server may take to let us in; a host among several is given up sooner, because another waits for us.
CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_OF_SEVERAL_S = 5, 2
#: The SQLSTATE of a write to a server that is read-only: it was the primary.
_READ_ONLY = "25006"

_FIX = (
    "Use postgresql+psycopg://USER:PASSWORD@HOST:5432/DATABASE, of several servers postgresql+psycopg://USER:PASSWORD@/DATABASE"
    "?host=HOST:5432&host=HOST:5432, or sqlite:///PATH/escrow.db (four slashes for an absolute path)."
)


#: What the composition root hands about without knowing SQLAlchemy.
Engine = sa.Engine


def make_engine(url: str, *, clock: Clock | None) -> sa.Engine:
    """An engine for one of the two databases that Escrow runs on; connects at the first use.

    `clock` gives the time (aware UTC) on SQLite, and is needed there; PostgreSQL tells its own. Raises: SettingsError, saying the fix.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise SettingsError(f"The database URL cannot be read. {_FIX}") from error
    if parsed.drivername == "postgresql+psycopg":
        return _postgresql(parsed)
    if parsed.drivername == "sqlite" and parsed.host is None:
        return _sqlite(parsed, clock)
    raise SettingsError(f"{parsed.drivername}:// is no database that Escrow runs on. {_FIX}")


def for_bulk(engine: sa.Engine) -> sa.Engine:
    """Make an engine that was not used yet one for very many rows: values travel in binary, and a transaction may take its time."""
    if engine.dialect.name == "postgresql":

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            connection.cursor_factory = _BinaryCursor
            # Committed with the connection's first transaction, for all that follow.
            connection.execute(f"SET idle_in_transaction_session_timeout = {BULK_IDLE_TIMEOUT_MS}")
            for name in PLANS_OF_WHOLE_TABLES:
                connection.execute(f"SET {name} = on")
            connection.commit()

    return engine


class _BinaryCursor(psycopg.Cursor[Any]):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Not as an attribute of the class: the driver sets it on every cursor.
        self.format = Format.BINARY


def _postgresql(url: sa.URL) -> sa.Engine:
    settings = f"-c lock_timeout={LOCK_TIMEOUT_MS} -c idle_in_transaction_session_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC"
    settings += "".join(f" -c {name}=off" for name in PLANS_OF_WHOLE_TABLES)
    hosts = url.query.get("host", "")
    is_one_of_several = "," in hosts if isinstance(hosts, str) else len(hosts) > 1
    defaults: dict[str, Any] = {
        "application_name": "escrow",
        "connect_timeout": CONNECT_TIMEOUT_OF_SEVERAL_S if is_one_of_several else CONNECT_TIMEOUT_S,
        # A standby answers too: never with a session that could not write.
        "target_session_attrs": "read-write",
        # A host that vanished is noticed within 4 s when silent and 4 s when it does not take what is sent.
        "keepalives": 1,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "tcp_user_timeout": 4_000,
    }
    given = dict(url.query)
    fence = Fence(lambda parameters: psycopg.connect(**parameters))
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        connect_args={name: value for name, value in defaults.items() if name not in given}
        | {"options": f"{settings} {given.get('options', '')}".strip()},
        isolation_level="READ COMMITTED",
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW_MAX,
        pool_timeout=POOL_TIMEOUT_S,
        pool_use_lifo=True,
        # A broken connection shows at its next statement, which is retried whole; asking first would cost a round trip a batch.
        pool_pre_ping=False,
        execution_options={FENCE_OPTION: fence},
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> Any:
        return fence.connect(parameters)

    @event.listens_for(engine, "checkout")
    def refuse_old(session: Any, _record: object, _lent: object) -> None:
        # The pool takes this to mean that the session is lost, and opens another.
        refusal = fence.refusal(session)
        if refusal:
            raise exc.DisconnectionError(refusal)

    @event.listens_for(engine, "handle_error")
    def leave_read_only(context: Any) -> None:
        # Sessions with a primary that became read-only are of no use: the next one finds the server that takes writes.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True

    @event.listens_for(engine, "engine_disposed")
    def stop_watch(_engine: sa.Engine) -> None:
        fence.close()

    return engine


def _sqlite(url: sa.URL, clock: Clock | None) -> sa.Engine:
    if url.database in {None, "", ":memory:"}:
        raise SettingsError(f"A database in memory would be another one for every connection. {_FIX}")
    if clock is None:
        raise SettingsError("SQLite has no clock that Escrow can use: give one.")
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": LOCK_TIMEOUT_MS / 1_000},
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW_MAX,
        pool_timeout=POOL_TIMEOUT_S,
        execution_options={CLOCK_OPTION: clock},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: `begin` below does.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        # An accepted order survives a power cut: a commit is on disk when it returns.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A write transaction takes the write lock first: it can then neither deadlock nor fail half-way for a lock.
        is_write = connection.get_execution_options().get(WRITE_OPTION, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine

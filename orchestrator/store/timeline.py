"""Which PostgreSQL server may be written to: of all that the URL names, the one on the highest timeline, and never one on a lower
timeline than this process or the database remembers.

A promotion begins a new timeline, so an old primary that comes back after a failover is told by its lower one. What is remembered:

- by the process, the highest timeline that it saw (`Fence`): as soon as it sees it, all its sessions on lower ones are cut;
- by the database, each timeline that it was written on (`timelines`);
- by nobody, but asked: the other servers of the URL. Each new session, and every `WATCH_S` the watch, asks them all. So a process that has
  just started, or slept through the failover, finds the new primary, and a commit that hangs on the old one ends. A URL of one host is
  watched, too: it may be an address that is moved.

What this cannot see:

- A new primary that is out of reach, and that nobody remembers. Synchronous replication helps: the old primary has lost its standby, so no
  commit of its returns.
- A second promotion from the same primary: both servers are on the same timeline. The one that the URL names first is taken, and the other
  whenever that one does not answer. Only who promotes can see to it that there is one.
"""

from __future__ import annotations

import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa

from orchestrator import logs
from orchestrator.errors import StoreUnavailable
from orchestrator.store.dialect import of, writing
from orchestrator.store.tables import timelines

#: How often the servers of the URL are asked, in seconds: one new session with each.
WATCH_S = 3.0
#: The execution option of an engine that holds its fence.
FENCE_OPTION = "escrow_fence"

# The WAL file's name begins with the timeline; the control file would tell the one before until the first checkpoint.
_IDENTITY = """
    SELECT system_identifier::text, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint FROM pg_control_system()
"""
_FIX = (
    "Fix: stop that server, and make it a standby of the present primary (deploy/postgres/rejoin.sh). "
    "If it was chosen on purpose (a restored backup): restart every process of Escrow."
)

_log = logs.get(__name__)

#: Parameters of one connection, as the driver takes them.
Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server at one moment of its history."""

    #: The same on a primary and its standbys.
    system_id: str
    #: From 1; each promotion adds one.
    timeline: int


class Fence:
    """The way to the server that may be written to. One per engine; thread-safe. `open_` opens a session, and raises psycopg.Error."""

    def __init__(self, open_: Callable[[Parameters], Any]) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._known: Server | None = None
        self._recorded: Server | None = None
        self._is_mute = False
        self._sessions: weakref.WeakKeyDictionary[Any, Server] = weakref.WeakKeyDictionary()
        self._watch: threading.Thread | None = None
        self._stop = threading.Event()

    def connect(self, parameters: Parameters) -> Any:
        """A new session with the server to write to. Raises: psycopg.Error when none answers; StoreUnavailable when only old ones do."""
        hosts = each_host(parameters)
        session, server = self._best(hosts)
        self._is_mute = server is None
        if server is not None:
            try:
                self._note(server, session)
            except StoreUnavailable:
                session.close()
                raise
            self._start_watch(hosts)
        return session

    def refusal(self, session: Any) -> str | None:
        """Why a session of `connect` is to be used no more; None: it may be. Asks nobody."""
        with self._lock:
            server = self._sessions.get(session)
            return _refusal(server, self._known) if server and self._known else None

    @property
    def is_recorded(self) -> bool:
        """Whether the database remembers the timeline in use, or the server does not tell it."""
        with self._lock:
            return self._is_mute or (self._known is not None and self._known == self._recorded)

    def server_of(self, session: Any) -> Server | None:
        """The server that a session of `connect` is with; None when it does not tell."""
        with self._lock:
            return self._sessions.get(session)

    def note_recorded(self, server: Server) -> None:
        """The database remembers this timeline."""
        with self._lock:
            self._recorded = server

    def close(self) -> None:
        """Stop watching; a new session begins it anew. Idempotent."""
        with self._lock:
            self._stop.set()
            self._watch = None

    def look(self, hosts: Sequence[Parameters]) -> None:
        """Ask all servers once, and cut the sessions with those that are on a lower timeline than the highest."""
        try:
            session, server = self._best(hosts)
        except psycopg.Error:
            return
        session.close()
        if server is not None:
            with suppress(StoreUnavailable):  # an old one only: those that need a session are told
                self._note(server)

    def _best(self, hosts: Sequence[Parameters]) -> tuple[Any, Server | None]:
        """A session with the server on the highest timeline; the others are let go. A server that does not tell counts as lowest."""
        if len(hosts) == 1:
            session = self._open(hosts[0])
            return session, _identify(session)
        with ThreadPoolExecutor(len(hosts), thread_name_prefix="database") as executor:
            asked = list(executor.map(self._ask, hosts))
        errors = [answer for answer in asked if isinstance(answer, psycopg.Error)]
        found = [answer for answer in asked if not isinstance(answer, psycopg.Error)]
        if not found:
            told = "; ".join(f"{host['host']}:{host['port']}: {_line(error)}" for host, error in zip(hosts, errors, strict=True))
            raise psycopg.OperationalError(f"no server of the URL takes writes ({told})")
        best, *others = sorted(found, key=lambda one: one[1].timeline if one[1] else 0, reverse=True)
        for session, _ in others:
            session.close()
        return best

    def _ask(self, host: Parameters) -> tuple[Any, Server | None] | psycopg.Error:
        try:
            session = self._open(host)
            return session, _identify(session)
        except psycopg.Error as error:
            return error

    def _note(self, server: Server, session: Any = None) -> None:
        """Remember the highest timeline, and whom a session is with. Raises: StoreUnavailable on a server that is not to be written to."""
        with self._lock:
            known = self._known or server
            refusal = _refusal(server, known)
            if refusal:
                raise StoreUnavailable(refusal)
            self._known = server
            if session is not None:
                self._sessions[session] = server
            # Within the lock: who knows of the new primary finds no session with the old one.
            for one, on in self._sessions.items():
                if on.timeline < server.timeline:
                    _cut(one)
        if server != known:
            _log.warning("the database has a new primary", action="database_promoted", timeline=server.timeline, before=known.timeline)

    def _start_watch(self, hosts: Sequence[Parameters]) -> None:
        with self._lock:
            if self._watch is None:
                self._stop = threading.Event()
                self._watch = threading.Thread(target=self._look_on, args=(hosts, self._stop), name="timeline", daemon=True)
                self._watch.start()

    def _look_on(self, hosts: Sequence[Parameters], stop: threading.Event) -> None:
        while not stop.wait(WATCH_S):
            try:
                self.look(hosts)
            except Exception:  # noqa: BLE001 - the watch must outlive whatever one look meets
                _log.exception("the servers could not be asked", action="watch_failed")


def each_host(parameters: Parameters) -> list[Parameters]:
    """The parameters of one connection to each of the hosts that they name.

    >>> [(one["host"], one["port"]) for one in each_host({"host": "a,b", "port": "5432,5433"})]
    [('a', '5432'), ('b', '5433')]
    """
    hosts = str(parameters.get("host", "")).split(",")
    if len(hosts) == 1:
        return [parameters]
    ports = str(parameters.get("port", "") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [{**parameters, "host": host, "port": port or "5432"} for host, port in zip(hosts, ports, strict=True)]


def keep(engine: sa.Engine) -> None:
    """Have the database remember the timeline that it is written on; costs nothing when it does.

    Raises: StoreUnavailable when it, or this process, remembers a higher one; StoreForbidden.
    """
    fence: Fence | None = engine.get_execution_options().get(FENCE_OPTION)
    if fence is None or fence.is_recorded:
        return
    with writing(engine) as connection:
        session = connection.connection.dbapi_connection
        server = fence.server_of(session)
        if server is None:
            return
        refusal = fence.refusal(session)
        if refusal:
            raise StoreUnavailable(refusal)
        c = timelines.c
        highest = connection.execute(sa.select(sa.func.max(c.timeline)).where(c.system_identifier == server.system_id)).scalar_one()
        if highest is not None and highest > server.timeline:
            raise StoreUnavailable(_too_old(server.timeline, highest))
        dialect = of(connection)
        row = {"system_identifier": server.system_id, "timeline": server.timeline, "seen_at": dialect.now(connection)}
        connection.execute(dialect.insert(timelines).on_conflict_do_nothing(), row)
    fence.note_recorded(server)


def _identify(session: Any) -> Server | None:
    """Who answers; None when it does not tell (a right or a function is missing). Raises: psycopg.OperationalError."""
    session.autocommit = True
    try:
        row = session.execute(_IDENTITY).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction, psycopg.errors.FeatureNotSupported):
        return None
    except psycopg.Error:
        session.close()
        raise
    finally:
        if not session.closed:
            session.autocommit = False
    return Server(*row)


def _cut(session: Any) -> None:
    """End a session from another thread than the one that waits for it: the one that waits finds the connection lost."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(session.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _refusal(server: Server, known: Server) -> str | None:
    """Why a process that knows of one server must not write to another; None: it may."""
    if known.system_id != server.system_id:
        return (
            f"PostgreSQL: this is another database cluster (system identifier {server.system_id}) than the one this process began with "
            f"({known.system_id}). Fix: correct the address; if the data was moved on purpose, restart every process of Escrow."
        )
    return _too_old(server.timeline, known.timeline) if server.timeline < known.timeline else None


def _too_old(timeline: int, known: int) -> str:
    return f"PostgreSQL: this server is on timeline {timeline}, and timeline {known} was seen: it is an old primary that came back. {_FIX}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())

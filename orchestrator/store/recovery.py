"""What the recorder holds beyond a restored database, while that is recovered; and the places that are kept in the recorder (R28)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.app.ports import Parked
from orchestrator.app.record import pack, read, unpack
from orchestrator.app.recover import Key, Staged
from orchestrator.contract import canonical
from orchestrator.errors import Conflict, MalformedMessage
from orchestrator.saga.decision import Entry
from orchestrator.store import workers
from orchestrator.store.dialect import Dialect, insert_rows, of, reading, writing
from orchestrator.store.parked import of_opened_orders
from orchestrator.store.tables import checkpoints, deadlines, definitions, journal, order_data, orders, parked, recovered
from orchestrator.store.unfinished import UNDER_WAY

#: A place in the recorder from which everything comes that this database does not have.
MARK = "recorder"
#: A name that no order can have, locked while the checkpoints above are compared and written.
_CHECKPOINTS = "checkpoints of a recovery"
#: Held while recovering, so that two do not meet. Any fixed number.
_LOCK = 6_715_203
#: A process whose database was away tries again every 2 s (`app.line`), and beats at once when it is back.
_SETTLED_AFTER_S = 2.0 + 2 * workers.SILENCE.total_seconds()
#: How long a recovery waits for transactions that were under way when it began, in seconds.
_LOCK_WAIT_S = 10


class RecoveryShelf:
    """Implements `app.recover.Shelf`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def lay_down(self, staged: Sequence[Staged], read_to: Mapping[str, Any]) -> None:
        """Put items there, and note how far the recorder was read, in one transaction. Idempotent."""
        rows = [_row(one) for one in staged]
        with writing(self._engine) as connection:
            if rows:
                first, last = rows[0]["position"], rows[-1]["position"]
                # What a recovery that was killed laid down of a message is laid down again, whole.
                connection.execute(sa.delete(recovered).where(recovered.c.position.between(first, last)))
            insert_rows(connection, recovered, rows)
            _keep(connection, UNDER_WAY, read_to)

    def orders(self, after: str, limit: int) -> list[str]:
        """See the port."""
        r = recovered.c
        statement = sa.select(r.order_id).distinct().where(r.order_id > after).order_by(r.order_id).limit(limit)
        with reading(self._engine) as connection:
            return list(connection.scalars(statement))

    def entries(self, order_ids: Collection[str]) -> dict[str, list[Staged]]:
        """See the port."""
        r = recovered.c
        found: dict[str, list[Staged]] = {order_id: [] for order_id in order_ids}
        with reading(self._engine) as connection:
            dialect = of(connection)
            statement = sa.select(recovered).where(dialect.among(r.order_id, "ids")).order_by(r.order_id, r.seq, r.position, r.place)
            for row in connection.execute(statement, dialect.pack("ids", order_ids)):
                found[row.order_id].append(_staged(row))
        return found

    def journaled(self, order_ids: Collection[str]) -> dict[tuple[str, int], str]:
        """See the port."""
        r, j = recovered.c, journal.c
        with reading(self._engine) as connection:
            dialect = of(connection)
            same = sa.and_(j.order_id == r.order_id, j.seq == r.seq)
            statement = sa.select(j.order_id, j.seq, j.hash).join_from(recovered, journal, same).where(dialect.among(r.order_id, "ids"))
            rows = connection.execute(statement, dialect.pack("ids", order_ids))
            return {(row.order_id, row.seq): row.hash for row in rows}

    def waiting(self, limit: int) -> list[Parked]:
        """See the port."""
        with reading(self._engine) as connection:
            return of_opened_orders(connection, limit)

    def items(self, limit: int) -> list[Staged]:
        """See the port."""
        r = recovered.c
        with reading(self._engine) as connection:
            return [_staged(row) for row in connection.execute(sa.select(recovered).order_by(r.position, r.place).limit(limit))]

    def seq(self, order_id: str) -> int:
        """See the port."""
        with reading(self._engine) as connection:
            return connection.scalar(sa.select(orders.c.seq).where(orders.c.order_id == order_id)) or 0

    def acts(self, order_id: str) -> set[str]:
        """See the port."""
        j = journal.c
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(j.hash, j.input).where(j.order_id == order_id, j.kind == "act")).all()
        lost = (canonical.load(bytes(row.input)).get("repeats") for row in rows)
        return {row.hash for row in rows} | {entry_hash for entry_hash in lost if entry_hash is not None}

    def forget(self, keys: Collection[Key]) -> None:
        """See the port."""
        with writing(self._engine) as connection:
            forget(connection, keys)

    def count(self) -> int:
        """Items that are there."""
        with reading(self._engine) as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(recovered)).scalar_one()


def forget(connection: sa.Connection, keys: Collection[Key]) -> None:
    """Items that were recovered are there no longer. Idempotent."""
    if keys:
        connection.execute(_FORGET, [{"k_position": position, "k_place": place} for position, place in keys])


def kept(engine: sa.Engine, name: str) -> dict[str, Any] | None:
    """What was kept under a name; None: nothing is."""
    with reading(engine) as connection:
        raw = connection.scalar(sa.select(checkpoints.c.position).where(checkpoints.c.name == name))
    return None if raw is None else canonical.load(raw)


def keep(engine: sa.Engine, name: str, value: Mapping[str, Any]) -> None:
    """Keep JSON under a name."""
    with writing(engine) as connection:
        _keep(connection, name, value)


def begin(engine: sa.Engine) -> None:
    """From now on no process starts, and the mark stays where it is, until a recovery has come to its end. Idempotent."""
    with writing(engine) as connection:
        _begin(connection)


def move_mark(engine: sa.Engine, place: Mapping[str, Any]) -> datetime | None:
    """Mark the database with a place in the recorder. When, by its clock; None: nothing was written, since it is not recovered yet."""
    with writing(engine) as connection:
        of(connection).lock_names(connection, [_CHECKPOINTS])
        if _value(connection, UNDER_WAY) is not None:
            return None
        return _keep(connection, MARK, place)


def marked_at(engine: sa.Engine) -> datetime | None:
    """When the database was last marked, by its clock; None: never."""
    with reading(engine) as connection:
        at: datetime | None = connection.scalar(sa.select(checkpoints.c.updated_at).where(checkpoints.c.name == MARK))
        return at


def lacks(engine: sa.Engine, record: bytes) -> bool:
    """Whether the journal lacks an entry of a record. What the record says that is no entry, and one that cannot be read, prove nothing."""
    try:
        written = {item.hash: item.order_id for item in read(record) if isinstance(item, Entry)}
    except MalformedMessage:
        return False
    with reading(engine) as connection:
        dialect = of(connection)
        parameters = dialect.pack("ids", sorted(set(written.values()))) | dialect.pack("hashes", sorted(written))
        found = set(connection.scalars(_written_statement(dialect), parameters))
    return not written.keys() <= found


class Guard:
    """What a recovery holds for as long as it runs: the lock that keeps a second one out (PostgreSQL)."""

    def __init__(self, engine: sa.Engine, connection: sa.Connection | None) -> None:
        self._engine = engine
        self._connection = connection

    def look(self) -> None:
        """See that the lock is still held. Raises, through `alone`: StoreUnavailable."""
        if self._connection is not None:
            self._connection.execute(sa.select(1))

    def finish(self, mark: Mapping[str, Any] | None) -> None:
        """The recovery is done: everything that this database does not have comes after `mark` (None: it is not known).

        Where there is a lock it takes effect as `alone` ends, so who has lost it finishes nothing.
        """
        if self._connection is not None:
            _finish(self._connection, mark)
            return
        with writing(self._engine) as connection:
            _finish(connection, mark)


@contextmanager
def alone(engine: sa.Engine, pause: Callable[[float], object]) -> Iterator[Guard]:
    """See to it that no process works on the database, and no second recovery, until this one was finished.

    Processes that beat are refused. Those that do not, since they cannot reach the database or have not started yet, find a checkpoint
    that stands (`unfinished`), and wait or do not start; `pause` lets the seconds pass in which those of a release that knows no such
    checkpoint would beat. On SQLite a second recovery is not kept out. Raises: Conflict, StoreBusy, StoreUnavailable.
    """
    with _guard(engine) as guard:
        _refuse_living(engine)
        begin(engine)
        pause(_SETTLED_AFTER_S)
        _refuse_living(engine)
        _wait_for_writers(engine)
        yield Guard(engine, guard)


@contextmanager
def _guard(engine: sa.Engine) -> Iterator[sa.Connection | None]:
    if engine.dialect.name != "postgresql":
        # Its write transaction would keep ourselves out.
        yield None
        return
    with writing(engine) as guard:
        guard.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        if not guard.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar_one():
            raise Conflict("Another recovery is running. Fix: let it end, or stop it first.")
        yield guard


def _refuse_living(engine: sa.Engine) -> None:
    with reading(engine) as connection:
        if living := workers.living(connection):
            raise Conflict(f"Escrow is running: {', '.join(living)}. Fix: stop every `serve` and `worker` (SIGTERM) and run this again.")


def _wait_for_writers(engine: sa.Engine) -> None:
    """Wait for who had locked orders before the checkpoint stood: who locks them later finds it."""
    if engine.dialect.name == "postgresql":
        with writing(engine) as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'")
            connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a database holds, for a person."""

    orders: int
    entries: int
    #: The last instant that any journal entry has; None: there is none.
    last_entry_at: Any
    #: Messages for orders that do not exist: order ids, some of them.
    parked: Sequence[str]
    #: Participant → what is outstanding for it.
    outstanding: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        at = self.last_entry_at
        return asdict(self) | {"parked": list(self.parked), "last_entry_at": None if at is None else canonical.format_time(at)}


def standing_of(document: Mapping[str, Any]) -> Standing:
    """The inverse of `Standing.document`."""
    at = document["last_entry_at"]
    return Standing(**{**document, "last_entry_at": None if at is None else canonical.parse_time(at)})


def standing(engine: sa.Engine, *, some: int = 20) -> Standing:
    """Look."""
    j, d = journal.c, deadlines.c
    with reading(engine) as connection:
        entries, last_at = connection.execute(sa.select(sa.func.count(), sa.func.max(j.at, type_=j.at.type))).one()
        asked = (
            sa.select(d.participant, sa.func.count().label("number"))
            .where(d.participant.is_not(None))
            .group_by(d.participant)
            .order_by(d.participant)
        )
        return Standing(
            orders=connection.execute(sa.select(sa.func.count()).select_from(orders)).scalar_one(),
            entries=entries,
            last_entry_at=last_at,
            parked=list(connection.scalars(sa.select(parked.c.order_id).distinct().order_by(parked.c.order_id).limit(some))),
            outstanding={row.participant: row.number for row in connection.execute(asked)},
        )


def unregistered(engine: sa.Engine) -> list[tuple[str, int]]:
    """Definitions (name, version) that orders are pinned to and nobody has registered in this database."""
    o, d = orders.c, definitions.c
    there = sa.exists().where(d.name == o.definition, d.version == o.version)
    statement = sa.select(o.definition, o.version).distinct().where(~there).order_by(o.definition, o.version)
    with reading(engine) as connection:
        return [(row.definition, row.version) for row in connection.execute(statement)]


def known_commands(engine: sa.Engine, order_ids: Collection[str]) -> dict[str, set[str]]:
    """Of those of these orders that there are: the ids of all commands that they have asked, and of those that they listen for."""
    o = order_data.c
    with reading(engine) as connection:
        dialect = of(connection)
        statement = sa.select(o.order_id, o.document).where(dialect.among(o.order_id, "ids"))
        rows = connection.execute(statement, dialect.pack("ids", order_ids))
        return {row.order_id: {ask["command_id"] for ask in canonical.load(bytes(row.document))["asks"].values()} for row in rows}


def _finish(connection: sa.Connection, mark: Mapping[str, Any] | None) -> None:
    if mark is not None:
        _keep(connection, MARK, mark)
    connection.execute(sa.delete(checkpoints).where(checkpoints.c.name == UNDER_WAY))


def _begin(connection: sa.Connection) -> None:
    of(connection).lock_names(connection, [_CHECKPOINTS])
    if _value(connection, UNDER_WAY) is None:
        _keep(connection, UNDER_WAY, {})


def _value(connection: sa.Connection, name: str) -> bytes | None:
    return connection.scalar(sa.select(checkpoints.c.position).where(checkpoints.c.name == name))


def _keep(connection: sa.Connection, name: str, value: Mapping[str, Any]) -> datetime:
    dialect = of(connection)
    now = dialect.now(connection)
    row = {"name": name, "position": canonical.encode(dict(value)), "updated_at": now}
    insert = dialect.insert(checkpoints).values(row)
    changed = {column: insert.excluded[column] for column in ("position", "updated_at")}
    connection.execute(insert.on_conflict_do_update(index_elements=[checkpoints.c.name], set_=changed))
    return now


def _row(one: Staged) -> dict[str, Any]:
    entry = one.item if isinstance(one.item, Entry) else None
    position, place = one.key
    return {
        "position": position,
        "place": place,
        "order_id": None if entry is None else entry.order_id,
        "seq": None if entry is None else entry.seq,
        "item": pack(one.item),
    }


def _staged(row: Any) -> Staged:
    return Staged(key=(row.position, row.place), item=unpack(bytes(row.item)))


@cache
def _written_statement(dialect: Dialect) -> sa.Select[Any]:
    """Parameters: `ids`, `hashes`. Made once: it takes longer to make than to execute."""
    j = journal.c
    return sa.select(j.hash).where(dialect.among(j.order_id, "ids"), dialect.among(j.hash, "hashes"))


_FORGET = sa.delete(recovered).where(recovered.c.position == sa.bindparam("k_position"), recovered.c.place == sa.bindparam("k_place"))

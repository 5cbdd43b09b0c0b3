"""Workers: who is alive, and whose messages need another sender (R17)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from orchestrator.app.circuit import Found, participant_of
from orchestrator.app.ports import OutboxMessage
from orchestrator.store import deadlines, outbox, participants, suspicions, unfinished
from orchestrator.store.columns import Instant, Name
from orchestrator.store.dialect import Dialect, of
from orchestrator.store.tables import outbox as outbox_table
from orchestrator.store.tables import workers

#: A worker that has not beaten for this long is dead.
SILENCE = timedelta(milliseconds=1_500)
#: The row under whose lock messages without owner are adopted.
NOBODY = "nobody"
#: The beat of rows that never beat: no time is before it.
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What one beat learns about the world."""

    #: The database's clock.
    now: datetime
    #: The next instant at which a deadline can fire, not one that is past; None: there is none.
    next_due_at: datetime | None
    #: Whose messages are to be adopted; None stands for nobody. May name workers that left no message: adopting forgets them.
    dead_owners: list[str | None]
    #: When the first of the living workers' consumer links came up (R9); None: no link is up.
    earliest_link_up_at: datetime | None
    #: The participants that are not healthy, with their states (R8).
    unwell: dict[str, participants.State]
    #: What the living processes together find of those that they do not hear.
    suspected: dict[str, Found]
    #: Of whom this worker told something, and they were heard since it began.
    refuted: frozenset[str]


def beat(connection: sa.Connection, incarnation: str, role: str, link_up_at: datetime | None, behind: timedelta) -> Beat:
    """Say that a worker lives, and how far behind it is with what it takes, and look around; one statement on PostgreSQL.

    Raises: StoreUnavailable while a recovery is not finished; then the transaction is to be rolled back, so that the worker did not beat.
    """
    dialect = of(connection)
    written = _beat_statement(connection, dialect, incarnation, role, link_up_at, behind)
    if dialect.returns_from_cte:
        beaten = written.cte("beaten")
        rows = connection.execute(_look(connection, dialect, beaten.c.beat_at, incarnation, beaten)).all()
    else:
        now = connection.execute(written).scalar_one()
        rows = connection.execute(_look(connection, dialect, sa.literal(now, Instant), incarnation, None)).all()
    unfinished.refuse(rows[0].is_unfinished)
    # The statement does not see the row that it writes.
    links = [at for at in (rows[0].link_up_at, link_up_at) if at is not None]
    return Beat(
        now=rows[0].now,
        next_due_at=rows[0].next_due_at,
        dead_owners=[None if row.dead == NOBODY else row.dead for row in rows if row.dead is not None],
        earliest_link_up_at=min(links, default=None),
        unwell=participants.read_unwell(rows[0].unwell),
        suspected=suspicions.read_together(rows[0].suspected),
        refuted=suspicions.read_refuted(rows[0].refuted),
    )


def living(connection: sa.Connection) -> list[str]:
    """Incarnations of the processes that beat."""
    silent_since = of(connection).instant(connection, SILENCE)
    return list(
        connection.scalars(sa.select(workers.c.incarnation).where(workers.c.beat_at > silent_since).order_by(workers.c.incarnation))
    )


def readers(connection: sa.Connection) -> dict[str, datetime | None]:
    """The living processes whose consumer link is up: until when each has handled what it took; None: it does not say."""
    silent_since = of(connection).instant(connection, SILENCE)
    w = workers.c
    statement = sa.select(w.incarnation, w.handled_until).where(w.beat_at > silent_since, w.link_up_at.is_not(None))
    return {row.incarnation: row.handled_until for row in connection.execute(statement)}


def adopt(connection: sa.Connection, owner: str | None, by: str, limit: int, pace: participants.Pace) -> list[OutboxMessage]:
    """Take the messages of a dead worker (None: of nobody), whole orders, about `limit` of them; in journal order. Of those that are kept
    back for a participant, what may go out by now.

    Empty when the worker lives after all, or nothing is left: then its row is deleted. Call again until empty.
    """
    if (kept_for := participant_of(owner)) is not None:
        return participants.let_out(connection, kept_for, by, limit, pace)
    dialect = of(connection)
    name = NOBODY if owner is None else owner
    never = {"incarnation": name, "role": NOBODY, "beat_at": _NEVER, "link_up_at": None, "handled_until": None}
    connection.execute(dialect.insert(workers).on_conflict_do_nothing(), never)
    lock = sa.select(workers.c.beat_at).where(workers.c.incarnation == name).with_for_update()
    beat_at = connection.execute(lock).scalar_one_or_none()
    if beat_at is None or dialect.now(connection) - beat_at < SILENCE:
        # Another adopter was done with it meanwhile, or it beat.
        return []
    adopted = outbox.adopt(connection, owner, by, limit)
    if not adopted and owner is not None:
        connection.execute(sa.delete(workers).where(workers.c.incarnation == owner))
    return adopted


def leave(connection: sa.Connection, incarnation: str) -> None:
    """A worker stops: its messages belong to nobody, and it is forgotten. Idempotent."""
    outbox.release_all(connection, incarnation)
    suspicions.tell(connection, incarnation, {})
    connection.execute(sa.delete(workers).where(workers.c.incarnation == incarnation))


def _beat_statement(
    connection: sa.Connection, dialect: Dialect, incarnation: str, role: str, link_up_at: datetime | None, behind: timedelta
) -> Any:
    times = {"beat_at": dialect.instant(connection), "link_up_at": link_up_at, "handled_until": dialect.instant(connection, behind)}
    insert = dialect.insert(workers).values(incarnation=incarnation, role=role, **times)
    replaced = {name: insert.excluded[name] for name in ("role", *times)}
    return insert.on_conflict_do_update(index_elements=[workers.c.incarnation], set_=replaced).returning(workers.c.beat_at)


def _look(
    connection: sa.Connection, dialect: Dialect, now: sa.ColumnElement[Any], incarnation: str, beaten: sa.FromClause | None
) -> sa.Select[Any]:
    """One row per dead owner, and at least one: the other columns are the same in each."""
    silent_since = dialect.instant(connection, SILENCE)
    w = workers.c
    first_link = sa.select(sa.func.min(w.link_up_at, type_=Instant)).where(w.beat_at > silent_since).scalar_subquery()
    one = sa.select(
        now.label("now"),
        deadlines.next_due_at(dialect.instant(connection)).label("next_due_at"),
        first_link.label("link_up_at"),
        participants.unwell().label("unwell"),
        suspicions.together(silent_since).label("suspected"),
        suspicions.refuted(incarnation).label("refuted"),
        unfinished.STANDS.label("is_unfinished"),
    )
    one_row = (one if beaten is None else one.select_from(beaten)).subquery("one")
    dead = _dead(incarnation, silent_since)
    return sa.select(one_row, dead.c.dead).select_from(one_row.outerjoin(dead, sa.true()))


def _dead(incarnation: str, silent_since: sa.ColumnElement[datetime]) -> sa.FromClause:
    """Owners of messages that do not beat, workers that stopped beating, and nobody when its messages have waited long enough."""
    owner = outbox_table.c.owner
    # Walks the index from one owner to the next: the outbox may be long, its owners are few.
    owners = sa.select(sa.func.min(owner, type_=Name).label("owner")).cte("owners", recursive=True)
    following = sa.select(sa.func.min(owner, type_=Name)).where(owner > owners.c.owner).scalar_subquery()
    owners = owners.union_all(sa.select(following).where(owners.c.owner.is_not(None)))
    w = workers.c
    beats = sa.select(w.incarnation).where(w.incarnation == owners.c.owner, w.beat_at > silent_since)
    silent = sa.select(owners.c.owner.label("dead")).where(owners.c.owner.is_not(None), owners.c.owner != incarnation, ~beats.exists())
    stopped = sa.select(w.incarnation).where(w.beat_at <= silent_since, w.incarnation != incarnation, w.incarnation != NOBODY)
    waiting = sa.exists().where(owner.is_(None), outbox_table.c.created_at <= silent_since)
    nobody = sa.select(sa.literal(NOBODY, Name)).where(waiting)
    return silent.union(stopped, nobody).subquery("dead")

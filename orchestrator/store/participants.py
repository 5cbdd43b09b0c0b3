"""The health of participants, which all workers share (R8): a row for each that any of them ever wrote something down about.

A *held* message waits in the outbox under an owner that never beats, one for each participant: so it is adopted like those of a dead
worker, but no faster than the participant's row allows, under the lock of that row.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from orchestrator.app.circuit import held_by
from orchestrator.app.ports import Due, OutboxMessage
from orchestrator.store import deadlines, outbox
from orchestrator.store.columns import Instant
from orchestrator.store.dialect import of
from orchestrator.store.tables import deadlines as deadlines_table
from orchestrator.store.tables import outbox as outbox_table
from orchestrator.store.tables import participants

State = Literal["healthy", "silent", "recovering"]

#: Of the messages that may go out, the share of the youngest orders: new ones are not kept waiting behind all of an outage.
_YOUNG_SHARE = 0.25
#: Separates participants, and a name from its state, in the one text that a beat reads.
_BETWEEN, _WITHIN = ",", "="
#: Separates event types, which are names.
_SPACE = " "
#: No power may overflow; no rate is worth more.
_RAMP_MAX_S, _RATE_MAX = 60.0, 1_000_000.0
#: Before any order.
_EVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a participant that was silent is asked again."""

    #: Between two canaries while it is silent.
    canary: timedelta
    #: Commands a second at first, doubled every second, and what they come to (`faster`).
    first_per_s: float
    max_per_s: float


#: Of an installation that says nothing else.
PACE = Pace(canary=timedelta(seconds=10), first_per_s=10, max_per_s=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One participant, as an operator sees it."""

    name: str
    state: State
    #: None: nothing was ever noted of it.
    since: datetime | None
    recovered_at: datetime | None
    heard_at: datetime | None
    #: Commands that are kept back, and reply deadlines that are overdue.
    held: int
    overdue: int
    rate_per_s: float
    resync_under_way: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedReplay:
    """A participant lost its state, and asked for a replay."""

    #: Message id of its latest request.
    request_id: str
    #: The types of the events of others that it hears.
    events: frozenset[str]


def unwell() -> sa.ColumnElement[str | None]:
    """Every participant that is not healthy, with its state, in one text (`read_unwell`)."""
    p = participants.c
    pair = p.name + sa.literal(_WITHIN) + p.state
    return sa.select(sa.func.aggregate_strings(pair, _BETWEEN)).where(p.state != "healthy").scalar_subquery()


def read_unwell(text: str | None) -> dict[str, State]:
    """What `unwell` says."""
    pairs = [pair.partition(_WITHIN) for pair in text.split(_BETWEEN)] if text else []
    return {name: state for name, _, state in pairs}  # type: ignore[misc]  # the table has no others


def heard(connection: sa.Connection, names: Collection[str], pace: Pace) -> None:
    """Note that participants spoke just now. One that another worker found silent at this moment recovers."""
    now = of(connection).now(connection)
    for name in sorted(names):
        insert = of(connection).insert(participants).values(**_row(name, now), last_reply_at=now)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"last_reply_at": insert.excluded.last_reply_at}))
        recover(connection, name, pace)


def recover(connection: sa.Connection, name: str, pace: Pace) -> bool:
    """The first sign of life of a silent participant: its tap is opened, a little at first. Whether it was silent. Idempotent."""
    now = of(connection).now(connection)
    p = participants.c
    opened = _opened(now, pace) | {"last_reply_at": now}
    return connection.execute(sa.update(participants).where(p.name == name, p.state == "silent").values(**opened)).rowcount == 1


def silence(connection: sa.Connection, name: str, since: datetime) -> bool:
    """Declare a participant silent, unless somebody heard it since an instant; whether it was not before."""
    now = of(connection).now(connection)
    connection.execute(of(connection).insert(participants).values(**_row(name, now)).on_conflict_do_nothing())
    p = participants.c
    unheard = sa.or_(p.last_reply_at.is_(None), p.last_reply_at < since)
    statement = sa.update(participants).where(p.name == name, p.state != "silent", unheard)
    return connection.execute(statement.values(state="silent", changed_at=now, canary_at=now)).rowcount == 1


def let_out(connection: sa.Connection, name: str, by: str, limit: int, pace: Pace) -> list[OutboxMessage]:
    """Make `by` the owner of what may go out by now of a participant's held messages, whole orders; in journal order.

    A silent one gets one order's, now and then: a canary. A recovering one gets more and more; with nothing left it is healthy.
    """
    p = participants.c
    row = connection.execute(sa.select(participants).where(p.name == name).with_for_update()).one_or_none()
    if row is None or row.state == "healthy":
        return outbox.adopt(connection, held_by(name), by, limit)
    # Read under the lock: another worker may have held it, and the time until then is in what that one let out.
    now = of(connection).now(connection)
    if row.state == "silent":
        if row.canary_at is not None and row.canary_at > now:
            return []
        messages = _adopt(connection, name, by, old=1, young=0)
        if messages:
            connection.execute(sa.update(participants).where(p.name == name).values(canary_at=now + pace.canary))
        return messages
    passed_s = max(0.0, (now - row.refilled_at).total_seconds())
    rate = faster(row.rate_per_s, passed_s, pace)
    tokens = min(rate, row.tokens + passed_s * rate)
    allowed = max(0, min(limit, int(tokens)))
    young = int(allowed * _YOUNG_SHARE)
    messages = _adopt(connection, name, by, old=allowed - young, young=young)
    # Whole orders may be more than was allowed: the rest is owed.
    change: dict[str, Any] = {"tokens": tokens - len(messages), "rate_per_s": rate, "refilled_at": now}
    if allowed > len(messages) and row.resync_from is None and not _is_anything_overdue(connection, name, row.recovered_at):
        change |= {"state": "healthy", "changed_at": now}
    connection.execute(sa.update(participants).where(p.name == name).values(**change))
    return messages


def faster(rate_per_s: float, passed_s: float, pace: Pace) -> float:
    """The rate after some seconds: doubled each second up to the most; from then on a hundredth more each second, or a participant that is
    asked more than that all the time would never be done recovering.

    >>> pace = Pace(canary=timedelta(seconds=10), first_per_s=10, max_per_s=200)
    >>> faster(10, 1, pace), faster(10, 60, pace), round(faster(200, 60, pace)), faster(10, 1e9, pace)
    (20.0, 200, 363, 200)
    """
    if rate_per_s < pace.max_per_s:
        return min(pace.max_per_s, rate_per_s * math.pow(2, min(passed_s, _RAMP_MAX_S)))
    return min(_RATE_MAX, rate_per_s * math.pow(1.01, min(passed_s, _RAMP_MAX_S)))


def canary(connection: sa.Connection, name: str) -> Due | None:
    """The oldest overdue reply deadline of a silent participant, of which no message is held: what to ask it for, if a canary is due."""
    p, now = participants.c, of(connection).now(connection)
    row = connection.execute(sa.select(p.state, p.canary_at).where(p.name == name)).one_or_none()
    if row is None or row.state != "silent" or (row.canary_at is not None and row.canary_at > now):
        return None
    is_its = deadlines_table.c.participant == name
    statement = sa.select(*deadlines.DUE).where(is_its, deadlines.may_fire(of(connection).instant(connection)))
    found = connection.execute(statement.order_by(deadlines_table.c.due_at).limit(1)).one_or_none()
    return None if found is None else Due(**found._mapping, excused=True)


def health(connection: sa.Connection, names: Collection[str]) -> list[Health]:
    """Of these participants, and of all that ever had a row, by name."""
    rows = {row.name: row for row in connection.execute(sa.select(participants))}
    o, d, now = outbox_table.c, deadlines_table.c, of(connection).now(connection)
    kept = sa.select(o.owner, sa.func.count().label("number")).where(o.owner.startswith(held_by(""))).group_by(o.owner)
    held: dict[str | None, int] = {row.owner: row.number for row in connection.execute(kept)}
    late = (
        sa.select(d.participant, sa.func.count().label("number")).where(d.due_at <= now, d.participant.is_not(None)).group_by(d.participant)
    )
    overdue: dict[str | None, int] = {row.participant: row.number for row in connection.execute(late)}
    return [_health(name, rows.get(name), held.get(held_by(name), 0), overdue.get(name, 0)) for name in sorted({*names, *rows})]


def begin_resync(connection: sa.Connection, name: str, since: datetime | None, pace: Pace) -> None:
    """What is outstanding for a participant, and was last sent since an instant (None: ever), is to be sent again, paced.

    Begun anew when one is under way; of a silent participant it waits for its first sign of life.
    """
    now = of(connection).now(connection)
    connection.execute(of(connection).insert(participants).values(**_row(name, now)).on_conflict_do_nothing())
    p = participants.c
    row = connection.execute(sa.select(participants).where(p.name == name).with_for_update()).one()
    begin = since or _EVER
    change: dict[str, Any] = {"resync_from": begin if row.resync_from is None else min(begin, row.resync_from)}
    if row.state == "healthy":
        change |= _opened(now, pace)
    elif row.state == "recovering":
        change["recovered_at"] = now
    connection.execute(sa.update(participants).where(p.name == name).values(**change))


def await_replay(connection: sa.Connection, name: str, request_id: str, events: Collection[str]) -> None:
    """Note that a participant, which has a row, waits for a replay. A request of before counts no more. Idempotent."""
    noted = {"replay_request": request_id, "hears": _SPACE.join(sorted(events))}
    connection.execute(sa.update(participants).where(participants.c.name == name).values(noted))


def awaited_replay(connection: sa.Connection, name: str) -> AwaitedReplay | None:
    """The replay that a participant asked for last; None: it never did."""
    p = participants.c
    row = connection.execute(sa.select(p.replay_request, p.hears).where(p.name == name)).one_or_none()
    if row is None or row.replay_request is None:
        return None
    return AwaitedReplay(request_id=row.replay_request, events=frozenset(row.hears.split()))


def to_resync(connection: sa.Connection, name: str, limit: int) -> list[Due] | None:
    """The next reply deadlines that a resync sends anew, excused: the same attempts, none is spent. Empty: that was all. None: no resync is
    under way.

    What was sent anew is armed later than the resync began, so it is not found again.
    """
    p = participants.c
    row = connection.execute(sa.select(p.resync_from, p.recovered_at).where(p.name == name)).one_or_none()
    if row is None or row.resync_from is None:
        return None
    d = deadlines_table.c
    chosen = (d.participant == name, d.due_at.is_not(None), d.put_off_until.is_(None), ~deadlines.is_unconfirmed())
    within = (d.armed_at >= row.resync_from, d.armed_at <= row.recovered_at)
    statement = sa.select(*deadlines.DUE).where(*chosen, *within).order_by(d.armed_at).limit(limit)
    return [Due(**each._mapping, excused=True) for each in connection.execute(statement)]


def resynced(connection: sa.Connection, name: str) -> None:
    """Nothing more was found to send anew: the resync is done, unless it was begun anew meanwhile. Idempotent."""
    p = participants.c
    connection.execute(sa.select(p.name).where(p.name == name).with_for_update()).one_or_none()
    if to_resync(connection, name, 1) == []:
        connection.execute(sa.update(participants).where(p.name == name).values(resync_from=None))


def _is_anything_overdue(connection: sa.Connection, name: str, recovered_at: datetime | None) -> bool:
    """Whether deadlines that the silence held back have not fired yet."""
    d = deadlines_table.c
    dialect = of(connection)
    held_back = deadlines.fell_due_before(sa.literal(recovered_at or dialect.now(connection), Instant))
    overdue = sa.exists().where(d.participant == name, held_back, deadlines.may_fire(dialect.instant(connection)))
    return bool(connection.scalar(sa.select(overdue)))


def _adopt(connection: sa.Connection, name: str, by: str, *, old: int, young: int) -> list[OutboxMessage]:
    """All messages of the oldest and of the youngest orders, about so many."""
    c = outbox_table.c
    theirs = c.owner == held_by(name)
    adopted: list[OutboxMessage] = []
    for number, by_age in ((old, c.created_at), (young, c.created_at.desc())):
        if number:
            chosen = sa.select(c.order_id).where(theirs).order_by(by_age).limit(number)
            statement = sa.update(outbox_table).where(theirs, c.order_id.in_(chosen)).values(owner=by).returning(outbox_table)
            adopted += outbox.in_journal_order(connection.execute(statement))
    return adopted


def _row(name: str, now: datetime) -> dict[str, Any]:
    return {"name": name, "state": "healthy", "changed_at": now, "tokens": 0.0, "rate_per_s": 0.0, "refilled_at": now}


def _opened(now: datetime, pace: Pace) -> dict[str, Any]:
    tap = {"tokens": pace.first_per_s, "rate_per_s": pace.first_per_s, "refilled_at": now}
    return {"state": "recovering", "changed_at": now, "recovered_at": now} | tap


def _health(name: str, row: Any, held: int, overdue: int) -> Health:
    return Health(
        name=name,
        state=row.state if row else "healthy",
        since=row.changed_at if row else None,
        recovered_at=row.recovered_at if row else None,
        heard_at=row.last_reply_at if row else None,
        held=held,
        overdue=overdue,
        rate_per_s=row.rate_per_s if row else 0.0,
        resync_under_way=row is not None and row.resync_from is not None,
    )

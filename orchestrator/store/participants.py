"""The health of participants, which all workers share (R8): a row for each that any of them ever wrote something down about.

A *held* message waits in the outbox under an owner that never beats, one for each participant: so it is adopted like those of a dead
worker, but no faster than the participant's row allows, under the lock of that row.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from orchestrator.app.circuit import held_by
from orchestrator.app.ports import Due, OutboxMessage
from orchestrator.store import outbox
from orchestrator.store.dialect import of
from orchestrator.store.tables import deadlines, participants
from orchestrator.store.tables import outbox as outbox_table

State = Literal["healthy", "silent", "recovering"]

#: Of the messages that may go out, the share of the youngest orders: new ones are not kept waiting behind all of an outage.
_YOUNG_SHARE = 0.25
#: Separates participants, and a name from its state, in the one text that a beat reads.
_BETWEEN, _WITHIN = ",", "="


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a participant that was silent is asked again."""

    #: Between two canaries while it is silent.
    canary: timedelta
    #: Commands a second at first, doubled every second, and at most.
    first_per_s: float
    max_per_s: float


#: Of an installation that says nothing else.
PACE = Pace(canary=timedelta(seconds=10), first_per_s=10, max_per_s=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One participant, as an operator sees it."""

    name: str
    state: State
    since: datetime
    recovered_at: datetime | None
    heard_at: datetime | None
    #: Commands that are kept back, and reply deadlines that are overdue.
    held: int
    overdue: int
    rate_per_s: float
    resync_under_way: bool


def unwell() -> sa.ColumnElement[str | None]:
    """Every participant that is not healthy, with its state, in one text (`read_unwell`)."""
    p = participants.c
    pair = p.name + sa.literal(_WITHIN) + p.state
    return sa.select(sa.func.aggregate_strings(pair, _BETWEEN)).where(p.state != "healthy").scalar_subquery()


def read_unwell(text: str | None) -> dict[str, State]:
    """What `unwell` says."""
    pairs = [pair.partition(_WITHIN) for pair in text.split(_BETWEEN)] if text else []
    return {name: state for name, _, state in pairs}  # type: ignore[misc]  # the table has no others


def heard(connection: sa.Connection, names: Collection[str]) -> None:
    """Note that participants spoke. One that was silent recovers: its tap is opened, a little at first."""
    p, now = participants.c, of(connection).now(connection)
    for name in sorted(names):
        _make(connection, name, now)
        connection.execute(sa.update(participants).where(p.name == name).values(last_reply_at=now))


def recover(connection: sa.Connection, name: str, pace: Pace) -> bool:
    """The first sign of life of a silent participant; whether it was silent. Idempotent."""
    now = of(connection).now(connection)
    opened = {"state": "recovering", "changed_at": now, "recovered_at": now, "last_reply_at": now}
    tap = {"tokens": pace.first_per_s, "rate_per_s": pace.first_per_s, "refilled_at": now}
    p = participants.c
    return connection.execute(sa.update(participants).where(p.name == name, p.state == "silent").values(**opened, **tap)).rowcount == 1


def silence(connection: sa.Connection, name: str, since: datetime) -> bool:
    """Declare a participant silent, unless somebody heard it since an instant; whether it was not before."""
    now = of(connection).now(connection)
    _make(connection, name, now)
    p = participants.c
    unheard = sa.or_(p.last_reply_at.is_(None), p.last_reply_at < since)
    statement = sa.update(participants).where(p.name == name, p.state != "silent", unheard)
    return connection.execute(statement.values(state="silent", changed_at=now, canary_at=now, resync_after=None)).rowcount == 1


def let_out(connection: sa.Connection, name: str, by: str, limit: int, pace: Pace) -> list[OutboxMessage]:
    """Make `by` the owner of what may go out by now of a participant's held messages, whole orders; in journal order.

    A silent one gets one order's, now and then: a canary. A recovering one gets more and more; with nothing left it is healthy.
    """
    p, now = participants.c, of(connection).now(connection)
    row = connection.execute(sa.select(participants).where(p.name == name).with_for_update()).one_or_none()
    if row is None or row.state == "healthy":
        return outbox.adopt(connection, held_by(name), by, limit)
    if row.state == "silent":
        if row.canary_at is not None and row.canary_at > now:
            return []
        messages = _adopt(connection, name, by, old=1, young=0)
        if messages:
            connection.execute(sa.update(participants).where(p.name == name).values(canary_at=now + pace.canary))
        return messages
    passed_s = max(0.0, (now - row.refilled_at).total_seconds())
    rate = min(pace.max_per_s, row.rate_per_s * 2**passed_s)
    tokens = min(rate, row.tokens + passed_s * rate)
    allowed = min(limit, int(tokens))
    young = int(allowed * _YOUNG_SHARE)
    messages = _adopt(connection, name, by, old=allowed - young, young=young)
    left = {"tokens": max(0.0, tokens - len(messages)), "rate_per_s": rate, "refilled_at": now}
    is_drained = allowed > len(messages) and row.resync_after is None and not _is_anything_overdue(connection, name, row.recovered_at)
    change = {"state": "healthy", "changed_at": now} if is_drained else {}
    connection.execute(sa.update(participants).where(p.name == name).values(**left, **change))
    return messages


def canary(connection: sa.Connection, name: str) -> Due | None:
    """The oldest overdue reply deadline of a silent participant, of which no message is held: what to ask it for, if a canary is due."""
    p, now = participants.c, of(connection).now(connection)
    row = connection.execute(sa.select(p.state, p.canary_at).where(p.name == name)).one_or_none()
    if row is None or row.state != "silent" or (row.canary_at is not None and row.canary_at > now):
        return None
    d = deadlines.c
    statement = (
        sa.select(d.order_id, d.name, d.generation, d.armed_at, d.due_at, d.participant)
        .where(d.participant == name, d.due_at <= now)
        .order_by(d.due_at)
        .limit(1)
    )
    found = connection.execute(statement).one_or_none()
    return None if found is None else Due(**found._mapping, excused=True)


def health(connection: sa.Connection, names: Collection[str]) -> list[Health]:
    """Of these participants, and of all that ever had a row, by name."""
    rows = {row.name: row for row in connection.execute(sa.select(participants))}
    o, d, now = outbox_table.c, deadlines.c, of(connection).now(connection)
    kept = sa.select(o.owner, sa.func.count()).where(o.owner.startswith("held:")).group_by(o.owner)
    held: dict[str | None, int] = dict(connection.execute(kept).tuples().all())
    late = sa.select(d.participant, sa.func.count()).where(d.due_at <= now, d.participant.is_not(None)).group_by(d.participant)
    overdue: dict[str | None, int] = dict(connection.execute(late).tuples().all())
    return [_health(name, rows.get(name), held.get(held_by(name), 0), overdue.get(name, 0), now) for name in sorted({*names, *rows})]


def begin_resync(connection: sa.Connection, name: str, pace: Pace) -> None:
    """Everything outstanding for a participant is to be sent again, paced; begun anew when one is under way."""
    now = of(connection).now(connection)
    _make(connection, name, now)
    state = {"state": "recovering", "changed_at": now, "recovered_at": now, "last_reply_at": now, "resync_after": ""}
    tap = {"tokens": pace.first_per_s, "rate_per_s": pace.first_per_s, "refilled_at": now}
    connection.execute(sa.update(participants).where(participants.c.name == name).values(**state, **tap))


def go_on_resync(connection: sa.Connection, name: str, limit: int) -> list[Due]:
    """The next reply deadlines of a participant that a resync sends anew, excused: the same attempts, none is spent. Empty: it is done."""
    p = participants.c
    row = connection.execute(sa.select(p.resync_after, p.recovered_at).where(p.name == name).with_for_update()).one_or_none()
    if row is None or row.resync_after is None:
        return []
    d = deadlines.c
    order_id, _, deadline = row.resync_after.partition(" ")
    after = sa.or_(d.order_id > order_id, sa.and_(d.order_id == order_id, d.name > deadline))
    unconfirmed = sa.exists().where(outbox_table.c.order_id == d.order_id, outbox_table.c.command_id == d.command_id)
    statement = (
        sa.select(d.order_id, d.name, d.generation, d.armed_at, d.due_at, d.participant)
        .where(d.participant == name, d.due_at.is_not(None), d.armed_at <= row.recovered_at, after, ~unconfirmed)
        .order_by(d.order_id, d.name)
        .limit(limit)
    )
    found = [Due(**each._mapping, excused=True) for each in connection.execute(statement)]
    last = f"{found[-1].order_id} {found[-1].name}" if found else None
    connection.execute(sa.update(participants).where(p.name == name).values(resync_after=last))
    return found


def _is_anything_overdue(connection: sa.Connection, name: str, recovered_at: datetime | None) -> bool:
    """Whether deadlines that the silence held back have not fired yet."""
    d = deadlines.c
    now = of(connection).instant(connection)
    overdue = sa.exists().where(d.participant == name, d.due_at <= now, d.armed_at < (recovered_at or now))
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


def _make(connection: sa.Connection, name: str, now: datetime) -> None:
    row = {"name": name, "state": "healthy", "changed_at": now, "tokens": 0.0, "rate_per_s": 0.0, "refilled_at": now}
    connection.execute(of(connection).insert(participants).values(**row).on_conflict_do_nothing())


def _health(name: str, row: Any, held: int, overdue: int, now: datetime) -> Health:
    return Health(
        name=name,
        state=row.state if row else "healthy",
        since=row.changed_at if row else now,
        recovered_at=row.recovered_at if row else None,
        heard_at=row.last_reply_at if row else None,
        held=held,
        overdue=overdue,
        rate_per_s=row.rate_per_s if row else 0.0,
        resync_under_way=row is not None and row.resync_after is not None,
    )

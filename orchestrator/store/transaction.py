"""The store: the port of `app.ports`, on SQLAlchemy. Statements live with their table families; here is only their order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from uuid import uuid5

import sqlalchemy as sa

from orchestrator.app.circuit import Suspicion
from orchestrator.app.ports import Changes, Due, OutboxMessage, Parked, Quarantined, Recorded, Resolution
from orchestrator.contract import ESCROW_NAMESPACE_UUID
from orchestrator.contract.envelope import STRUCTURED
from orchestrator.saga.order import Order
from orchestrator.store import (
    counters,
    deadlines,
    definitions,
    idempotency,
    jobs,
    journal,
    orders,
    outbox,
    parked,
    participants,
    quarantine,
    recovery,
    snapshots,
    suspicions,
    timeline,
    unfinished,
    workers,
)
from orchestrator.store.dialect import of, reading, writing


class SqlTransaction:
    """One write transaction (`app.ports.Transaction`)."""

    def __init__(self, connection: sa.Connection, shard: int, pace: participants.Pace, *, recovers: bool) -> None:
        self._connection = connection
        self._recovers = recovers
        self._shard = shard
        self._pace = pace

    def lock_orders(self, order_ids: Collection[str]) -> dict[str, Order]:
        """See the port."""
        return orders.lock(self._connection, order_ids)

    def lock_quarantined(self, quarantine_ids: Collection[str]) -> dict[str, Resolution | None]:
        """See the port."""
        return quarantine.lock(self._connection, quarantine_ids)

    def now(self) -> datetime:
        """See the port. Raises: StoreUnavailable while somebody else's recovery is not finished."""
        return of(self._connection).now(self._connection) if self._recovers else unfinished.now(self._connection)

    def recorded(self, keys: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], Recorded]:
        """See the port."""
        return journal.recorded(self._connection, keys)

    def parked(self, order_ids: Collection[str]) -> dict[str, list[Parked]]:
        """See the port."""
        return parked.of_orders(self._connection, order_ids)

    def bodies(self, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
        """See the port."""
        return journal.bodies(self._connection, keys)

    def put_off_counts(self, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """How often deadlines, by (order id, name), were put off so far: the backoff grows with it."""
        return deadlines.put_off_counts(self._connection, keys)

    def take_over(self, order_ids: Collection[str], owner: str, *, except_of: Collection[str] = ()) -> list[OutboxMessage]:
        """See the port."""
        return outbox.take_over(self._connection, order_ids, owner, except_of)

    def write(self, changes: Changes) -> None:
        """See the port. Rows that answer or replace something are deleted before new ones are written under the same key."""
        connection = self._connection
        orders.insert(connection, changes.opened)
        orders.update(connection, changes.moved)
        journal.append(connection, changes.entries)
        snapshots.take(connection, changes)
        deadlines.disarm(connection, changes.disarmed)
        deadlines.arm(connection, changes.armed)
        deadlines.put_off(connection, changes.put_off)
        outbox.forget(connection, changes.confirmed)
        outbox.forget_commands(connection, changes.answered)
        outbox.insert(connection, changes.outbox)
        parked.insert(connection, changes.parked)
        parked.delete(connection, changes.unparked)
        quarantine.resolve(connection, changes.resolved)
        quarantine.insert(connection, changes.quarantined)
        recovery.forget(connection, changes.recovered)
        for name, since in sorted(changes.resyncs, key=itemgetter(0)):
            participants.begin_resync(connection, name, since, self._pace)
        # Their rows are locked by now: each asked for a resync, too.
        for name, request_id, events in changes.awaited_replays:
            participants.await_replay(connection, name, request_id, events)
        # Last: their rows are shared by the orders of all, so they are locked for the shortest time.
        counters.add(connection, counters.deltas(changes.opened, changes.moved, changes.before), self._shard)


class SqlStore:
    """The database (`app.ports.Store`), and what workers need of it besides."""

    def __init__(self, engine: sa.Engine, *, shard: int, pace: participants.Pace = participants.PACE, recovers: bool = False) -> None:
        """`shard`: any integer that differs between workers, to spread the counters. `pace`: of participants that were silent.
        `recovers`: it is a recovery that writes, which keeps all others from it.
        """
        self._engine = engine
        self._recovers = recovers
        self._pace = pace
        self._shard = shard

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        """See the port."""
        with writing(self._engine) as connection:
            yield SqlTransaction(connection, self._shard, self._pace, recovers=self._recovers)

    def now(self) -> datetime:
        """The database's clock."""
        with reading(self._engine) as connection:
            return of(connection).now(connection)

    def due(self, limit: int) -> list[Due]:
        """See the port."""
        with reading(self._engine) as connection:
            return deadlines.due(connection, limit)

    # --- definitions ---

    def register(self, registrations: Sequence[definitions.Registration]) -> None:
        """See `definitions.register`. Raises, besides: StoreUnavailable on an old primary that came back."""
        timeline.keep(self._engine)
        definitions.register(self._engine, registrations)

    def stored_definition(self, name: str, version: int) -> bytes | None:
        """See the port."""
        return definitions.stored(self._engine, name, version)

    def opener(self, event_type: str) -> tuple[str, int] | None:
        """See the port."""
        return definitions.opener(self._engine, event_type)

    def latest_version(self, name: str) -> int | None:
        """The highest registered version of a definition."""
        return definitions.latest(self._engine, name)

    def known_types(self) -> frozenset[str]:
        """See the port."""
        return definitions.known_types(self._engine)

    def participants(self) -> frozenset[str]:
        """See the port."""
        with reading(self._engine) as connection:
            return definitions.participants(connection)

    # --- workers and their messages ---

    def beat(self, incarnation: str, role: str, link_up_at: datetime | None, behind: timedelta = timedelta(0)) -> workers.Beat:
        """See the fleet. Raises: StoreUnavailable, also on an old primary that came back."""
        timeline.keep(self._engine)
        with writing(self._engine) as connection:
            return workers.beat(connection, incarnation, role, link_up_at, behind)

    def readers(self) -> dict[str, datetime | None]:
        """See `workers.readers`."""
        with reading(self._engine) as connection:
            return workers.readers(connection)

    def adopt(self, owner: str | None, by: str, limit: int) -> list[OutboxMessage]:
        """Take the messages of a dead worker (None: of nobody) under the lock of its row. Call again until empty."""
        with writing(self._engine) as connection:
            return workers.adopt(connection, owner, by, limit, self._pace)

    def owned(self, incarnation: str, outbox_ids: Collection[str]) -> list[str]:
        """Those of the messages that a worker still owns, in journal order."""
        with reading(self._engine) as connection:
            return outbox.owned(connection, incarnation, outbox_ids)

    def release(self, incarnation: str, outbox_ids: Collection[str]) -> None:
        """Leave messages to nobody: any worker adopts them. Idempotent."""
        with writing(self._engine) as connection:
            outbox.release(connection, incarnation, outbox_ids)

    def forget_outbox(self, outbox_ids: Collection[str]) -> None:
        """Delete messages that the broker has confirmed. Idempotent."""
        with writing(self._engine) as connection:
            outbox.forget(connection, outbox_ids)

    def leave(self, incarnation: str) -> None:
        """A worker stops cleanly. Idempotent."""
        with writing(self._engine) as connection:
            workers.leave(connection, incarnation)

    # --- the health of participants ---

    def heard(self, names: Collection[str]) -> None:
        """See `participants.heard`."""
        with writing(self._engine) as connection:
            participants.heard(connection, names, self._pace)

    def recover(self, name: str) -> bool:
        """See `participants.recover`."""
        with writing(self._engine) as connection:
            return participants.recover(connection, name, self._pace)

    def tell_suspicions(self, incarnation: str, found: Mapping[str, Suspicion]) -> None:
        """See `suspicions.tell`."""
        with writing(self._engine) as connection:
            suspicions.tell(connection, incarnation, found)

    def silence(self, name: str, since: datetime) -> bool:
        """See `participants.silence`."""
        with writing(self._engine) as connection:
            return participants.silence(connection, name, since)

    def canary(self, name: str) -> Due | None:
        """See `participants.canary`."""
        with reading(self._engine) as connection:
            return participants.canary(connection, name)

    def to_resync(self, name: str, limit: int) -> list[Due] | None:
        """See `participants.to_resync`."""
        with reading(self._engine) as connection:
            return participants.to_resync(connection, name, limit)

    def resynced(self, name: str) -> None:
        """See `participants.resynced`."""
        with writing(self._engine) as connection:
            participants.resynced(connection, name)

    def begin_resync(self, name: str, since: datetime | None) -> None:
        """See `participants.begin_resync`."""
        with writing(self._engine) as connection:
            participants.begin_resync(connection, name, since, self._pace)

    # --- housekeeping ---

    def claim(self, name: str, now: datetime, every: timedelta) -> bool:
        """Whether this run of a job of the fleet is yours."""
        return jobs.claim(self._engine, name, now, every)

    def forget_keys(self, stored_before: datetime, limit: int) -> int:
        """Delete the oldest idempotency keys of those stored before, at most `limit`; how many were deleted. Idempotent."""
        with writing(self._engine) as connection:
            return idempotency.forget(connection, stored_before, limit)

    def expire_parked(self, now: datetime, limit: int) -> int:
        """Move parked messages that expired to the quarantine (`parked_expired`), under their orders' locks; how many were moved."""
        with writing(self._engine) as connection:
            order_ids = parked.expired_orders(connection, now, limit)
            # An opening that comes at this moment either finds the message parked, or comes after it was moved.
            orders.lock(connection, order_ids)
            waiting = parked.of_orders(connection, order_ids)
            expired = [message for messages in waiting.values() for message in messages if message.expires_at <= now]
            quarantine.insert(connection, [_expired(message, now) for message in expired])
            parked.delete(connection, [(message.order_id, message.source, message.message_id) for message in expired])
            return len(expired)


def _expired(message: Parked, now: datetime) -> Quarantined:
    expired = Quarantined(
        quarantine_id="",
        reason="parked_expired",
        detail="Its order was not opened in time.",
        source=message.source,
        message_id=message.message_id,
        message_type=message.message_type,
        order_id=message.order_id,
        content_type=STRUCTURED,
        headers=b"{}",
        body=message.envelope,
        at=now,
    )
    # As unique as the fingerprint, which has one row.
    return replace(expired, quarantine_id=str(uuid5(ESCROW_NAMESPACE_UUID, expired.fingerprint)))

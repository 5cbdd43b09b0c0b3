"""Idempotency keys: a request sent twice gets one order. The fleet deletes old ones (`app.fleet`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.store.dialect import Dialect, of, writing
from orchestrator.store.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a key stands for."""

    order_id: str
    #: Of the request that claimed it first: when yours differs, the key is used for another request.
    fingerprint: str


def claim(engine: sa.Engine, *, key: str, actor: str, fingerprint: str, order_id: str, now: datetime) -> Claimed:
    """Claim a key of an actor for an order; the first caller's row wins, and every caller gets it."""
    row = {"actor": actor, "key": key, "fingerprint": fingerprint, "order_id": order_id, "created_at": now}
    with writing(engine) as connection:
        stored = connection.execute(_claim_statement(of(connection)), row).one()
    return Claimed(stored.order_id, stored.fingerprint)


def forget(connection: sa.Connection, stored_before: datetime, limit: int) -> int:
    """Delete the oldest keys of those stored before, at most `limit`; how many were deleted. Idempotent."""
    return connection.execute(_FORGET, {"stored_before": stored_before, "limit": limit}).rowcount


@cache
def _claim_statement(dialect: Dialect) -> Any:
    c = idempotency_keys.c
    # One statement: a row that stands is written as it is, which locks and returns it, so none can be forgotten between two looks.
    insert = dialect.insert(idempotency_keys)
    return insert.on_conflict_do_update(index_elements=[c.actor, c.key], set_={"key": c.key}).returning(c.order_id, c.fingerprint)


_KEY = sa.tuple_(idempotency_keys.c.actor, idempotency_keys.c.key)
_OLDEST = (
    sa.select(idempotency_keys.c.actor, idempotency_keys.c.key)
    .where(idempotency_keys.c.created_at < sa.bindparam("stored_before"))
    .order_by(idempotency_keys.c.created_at)
    .limit(sa.bindparam("limit"))
)
_FORGET = sa.delete(idempotency_keys).where(_KEY.in_(_OLDEST))

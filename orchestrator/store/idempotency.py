"""Idempotency keys: a request sent twice gets one order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.store.dialect import of, writing
from orchestrator.store.tables import idempotency_keys


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a key stands for."""

    order_id: str
    #: Of the request that claimed it first: when yours differs, the key is used for another request.
    fingerprint: str


def claim(engine: sa.Engine, *, key: str, actor: str, fingerprint: str, order_id: str, now: datetime) -> Claimed:
    """Claim a key of an actor for an order; the first caller's row wins, and every caller gets it."""
    c = idempotency_keys.c
    row = {"actor": actor, "key": key, "fingerprint": fingerprint, "order_id": order_id, "created_at": now}
    with writing(engine) as connection:
        connection.execute(of(connection).insert(idempotency_keys).values(row).on_conflict_do_nothing())
        stored = connection.execute(sa.select(c.order_id, c.fingerprint).where(c.actor == actor, c.key == key)).one()
    return Claimed(stored.order_id, stored.fingerprint)

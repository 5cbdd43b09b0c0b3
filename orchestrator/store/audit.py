"""The audit: acts that were denied, and acts on no single order. Acts on an order stand in its journal."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.store.dialect import writing
from orchestrator.store.tables import audit


def note(engine: sa.Engine, *, at: datetime, actor: str, act: str, order_id: str | None, outcome: str, detail: str) -> None:
    """Write one line. `outcome`: `done`, or why not (`forbidden`, …); `detail` holds no payload and no secret."""
    row = {"at": at, "actor": actor, "act": act, "order_id": order_id, "outcome": outcome, "detail": detail}
    with writing(engine) as connection:
        connection.execute(sa.insert(audit), row)

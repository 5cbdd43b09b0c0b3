"""Jobs of the fleet: each run is claimed by one process."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator.store.dialect import of, writing
from orchestrator.store.tables import jobs


def claim(engine: sa.Engine, name: str, now: datetime, every: timedelta) -> bool:
    """Whether this run of a job is yours: it is nobody else's then until `every` has passed. A job never run is due at once."""
    with writing(engine) as connection:
        insert = of(connection).insert(jobs).values(name=name, next_at=now).on_conflict_do_nothing()
        connection.execute(insert)
        update = sa.update(jobs).where(jobs.c.name == name, jobs.c.next_at <= now).values(next_at=now + every)
        return connection.execute(update).rowcount == 1

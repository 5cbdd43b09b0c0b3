"""A recovery that is to be brought to its end (R28): meanwhile no process writes."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from orchestrator.errors import StoreUnavailable
from orchestrator.store.columns import Instant
from orchestrator.store.dialect import of
from orchestrator.store.tables import checkpoints

#: The checkpoint that stands from the restore of a backup, or from the beginning of a recovery, until that is finished: how far it came.
UNDER_WAY = "recovery"
#: What is said while it stands.
UNFINISHED = (
    "The database was restored, or a recovery of it begun, and no recovery has come to its end since, so orders may be missing. "
    "Fix: run `escrow recover`; with ESCROW_RECORDER=false when the recorder is lost, too."
)

#: Whether it stands, within a statement.
STANDS = sa.exists().where(checkpoints.c.name == UNDER_WAY)


def refuse(stands: bool) -> None:  # noqa: FBT001  # what a statement found
    """Raises: StoreUnavailable while it stands, so that a process waits as for a database that is away."""
    if stands:
        raise StoreUnavailable(UNFINISHED)


def now(connection: sa.Connection) -> datetime:
    """The database's clock, for those who do not recover. Raises: StoreUnavailable, see `refuse`.

    Asked after the orders are locked: a recovery that begins later waits for those locks (`recovery.alone`).
    """
    dialect = of(connection)
    if connection.dialect.name != "postgresql":
        refuse(connection.execute(_ASK).scalar_one())
        return dialect.now(connection)
    at, stands = connection.execute(_ASK_WITH_NOW).one()
    refuse(stands)
    return at


_ASK = sa.select(STANDS)
_ASK_WITH_NOW = sa.select(sa.func.statement_timestamp(type_=Instant), STANDS)

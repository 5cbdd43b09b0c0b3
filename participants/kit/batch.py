"""One transaction for many messages, of which one bad one must not harm its neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from participants.kit.database import is_temporary
from participants.kit.ledger import Outgoing

#: Times that a lone message or fact is worked off when another process has written the same row meanwhile.
COLLISIONS_MAX = 3

Item = TypeVar("Item")


def work_off(
    engine: sa.Engine,
    items: Sequence[Item],
    work: Callable[[sa.Connection, Sequence[Item]], list[Outgoing]],
    give_up: Callable[[Item, Exception], None],
) -> list[Outgoing]:
    """Do `work` for all of them in one transaction; when it fails for its content it is bisected until the culprit stands alone.

    `give_up` is told the culprit, which is left out. What every transaction is to do besides, `work` does for no items, too.
    Raises: sqlalchemy.exc.OperationalError, InterfaceError: nothing was committed, or it is unknown; work the same items off again.
    """
    for collision in range(1, COLLISIONS_MAX + 1):
        try:
            with engine.begin() as connection:
                return work(connection, items)
        except Exception as error:
            if is_temporary(error) or not items:
                raise
            if len(items) > 1:
                break
            # Alone, and another process wrote the same row first: its row is there now, so look again.
            if not isinstance(error, IntegrityError) or collision == COLLISIONS_MAX:
                give_up(items[0], error)
                return work_off(engine, [], work, give_up)
    half = len(items) // 2
    return work_off(engine, items[:half], work, give_up) + work_off(engine, items[half:], work, give_up)

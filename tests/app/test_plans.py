"""What a batch costs does not depend on how many orders there are: PostgreSQL's plans, made on empty tables, keep to the indexes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.app.house import House, answer, placed
from tests.support.processes import eventually
from tests.support.services import fresh_postgres

#: Orders of a batch, and batches: enough that going through any table shows.
SIZE, BATCHES = 20, 60
#: Rows of a table that may be read for an event.
READ_MAX = 10

_READ = sa.text("SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables")
_OTHERS = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")


@pytest.mark.real
def test_an_event_reads_its_own_rows_only_however_large_the_tables_have_become() -> None:
    """If it failed, a new installation would slow down with every order until the statistics of its tables are made, if they ever are."""
    with fresh_postgres() as url:
        house = House(url)
        for batch in range(BATCHES):
            _live(house, [f"o-{batch * SIZE + number}" for number in range(SIZE)])
        house.close()
        read = _rows_read(url)
    events = 3 * SIZE * BATCHES
    assert read["orders"] >= events
    assert {table: rows for table, rows in read.items() if rows > READ_MAX * events} == {}


def _live(house: House, order_ids: list[str]) -> None:
    handled = [house.handle(*map(placed, order_ids))]
    for step, answered in (("reserve_inventory", "InventoryReserved"), ("take_payment", "PaymentTaken")):
        handled.append(house.handle(*(answer(order_id, step, answered, data={"payment_id": "p-1"}) for order_id in order_ids)))
    house.store.forget_outbox([message.outbox_id for one in handled for message in one.outbox])


def _rows_read(url: str) -> dict[str, int]:
    """Rows read so far, by table."""
    engine = sa.create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # A session tells at its end what it did.
        eventually(lambda: connection.scalar(_OTHERS) == 0, what="the sessions end")
        read: dict[str, int] = dict(connection.execute(_READ).fetchall())
    engine.dispose()
    return read

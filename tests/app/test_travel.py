"""Time travel: an order as it stood after any of its entries, and at any time (R25)."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from orchestrator.app import travel
from orchestrator.app.replay import SNAPSHOT_EVERY
from orchestrator.contract import canonical
from orchestrator.errors import JournalDamaged, NotFound, Unprocessable
from orchestrator.saga.fold import fold, fold_document
from orchestrator.store import tables
from tests.app.house import House, answer, long_order, placed


def test_an_order_is_shown_as_it_stood_after_each_entry(small_house: House) -> None:
    """If it failed, whoever asks what was known then would be told something else."""
    long_order(small_house)
    history = small_house.queries.history("long", limit=1000)
    assert len(history) > 2 * SNAPSHOT_EVERY
    for seq in (1, 2, SNAPSHOT_EVERY - 1, SNAPSHOT_EVERY, SNAPSHOT_EVERY + 1, 2 * SNAPSHOT_EVERY, len(history)):
        then = travel.after_entry(small_house.queries, "long", seq)
        assert then.order == fold(history[:seq])
        assert then.entry == history[seq - 1]


def test_snapshots_are_taken_by_the_line_and_shorten_the_way(house: House) -> None:
    """If it failed, going back in an order that lives for years would fold all of its history."""
    long_order(house)
    history = house.queries.history("long", limit=1000)
    with house.engine.connect() as connection:
        rows = connection.execute(sa.select(tables.snapshots).order_by(tables.snapshots.c.seq)).all()
    assert [(row.order_id, row.seq) for row in rows] == [("long", SNAPSHOT_EVERY), ("long", 2 * SNAPSHOT_EVERY)]
    assert [row.document for row in rows] == [canonical.encode(fold_document(history[: row.seq])) for row in rows]
    with house.engine.begin() as connection:
        connection.execute(sa.delete(tables.journal).where(tables.journal.c.seq < SNAPSHOT_EVERY))
    assert travel.after_entry(house.queries, "long", SNAPSHOT_EVERY + 5).order == fold(history[: SNAPSHOT_EVERY + 5])


@pytest.mark.parametrize("seq", [SNAPSHOT_EVERY, SNAPSHOT_EVERY + 5])
def test_a_snapshot_of_another_history_is_not_believed(small_house: House, seq: int) -> None:
    """If it failed, a row that anybody may change would stand for the history."""
    long_order(small_house)
    history = small_house.queries.history("long", limit=1000)
    wrong = canonical.encode(fold_document(history[: SNAPSHOT_EVERY - 1]) | {"hash": "0"})
    with small_house.engine.begin() as connection:
        connection.execute(sa.update(tables.snapshots).values(document=wrong))
    assert travel.after_entry(small_house.queries, "long", seq).order == fold(history[:seq])


def test_a_time_means_the_last_entry_by_then(small_house: House) -> None:
    """If it failed, an answer that came a moment later would seem to have been known."""
    house, start = small_house, small_house.clock
    house.handle(placed("o"))
    house.clock += timedelta(seconds=10)
    house.handle(answer("o", "reserve_inventory", "InventoryReserved"))

    def seq_at(seconds: float) -> int:
        return travel.at_time(house.queries, "o", start + timedelta(seconds=seconds), house.clock).entry.seq

    assert [seq_at(0), seq_at(9.999999), seq_at(10)] == [1, 1, 2]
    with pytest.raises(Unprocessable, match=r"still to come: it is 2026-.*Fix"):
        seq_at(10.000001)
    with pytest.raises(NotFound, match="was opened at 2026-11-21T00:00:00"):
        seq_at(-1)


def test_what_there_is_not_is_said_with_the_fix(small_house: House) -> None:
    """If it failed, a wrong number would show an order that never stood so."""
    small_house.handle(placed("o"))
    for seq in (0, 2):
        with pytest.raises(NotFound, match=f"no entry {seq}: it has 1 to 1"):
            travel.after_entry(small_house.queries, "o", seq)
    with pytest.raises(NotFound, match="no order p"):
        travel.after_entry(small_house.queries, "p", 1)
    with pytest.raises(NotFound, match="no order p"):
        travel.at_time(small_house.queries, "p", small_house.clock, small_house.clock)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (sa.update(tables.journal).values(verdict="ignored"), "entry 2 was altered after it was written"),
        (sa.delete(tables.journal), "entry 2 is missing from the journal"),
    ],
    ids=["altered", "gone"],
)
def test_from_a_damaged_entry_on_nothing_is_told_and_the_entry_is_named(
    small_house: House, damage: sa.Update | sa.Delete, says: str
) -> None:
    """If it failed, an altered history would be shown as what happened; or nobody would know where it breaks off."""
    house = small_house
    house.handle(placed("o"))
    house.handle(answer("o", "reserve_inventory", "InventoryReserved"))
    house.handle(answer("o", "take_payment", "PaymentTaken"))
    with house.engine.begin() as connection:
        connection.execute(damage.where(tables.journal.c.seq == 2))
    for seq in (2, 3):
        with pytest.raises(JournalDamaged, match=says) as caught:
            travel.after_entry(house.queries, "o", seq)
        assert (caught.value.order_id, caught.value.seq) == ("o", 2)
    assert travel.after_entry(house.queries, "o", 1).order.state == "reserving_inventory"


def test_it_tells_what_was_outstanding(small_house: House) -> None:
    """If it failed, nobody could say whom an order waited for when something else broke."""
    house = small_house
    house.handle(placed("o"))
    house.handle(answer("o", "reserve_inventory", "InventoryReserved"))
    house.handle(answer("o", "take_payment", "PaymentDeclined"))
    house.handle(answer("o", "reserve_inventory", "InventoryReleased", undo=True))
    shown = [[(ask.step, ask.undo) for ask in travel.outstanding(travel.after_entry(house.queries, "o", seq).order)] for seq in range(1, 5)]
    assert shown == [[("reserve_inventory", "none")], [("take_payment", "none")], [("reserve_inventory", "asked")], []]

"""Verification: what is kept agrees with the journals (R25, R27), whatever the orders are doing, and what does not is found."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.app import restore
from orchestrator.app.ports import Changes
from orchestrator.files import shipped_definition
from orchestrator.saga.definition import read
from orchestrator.store import tables, verify
from orchestrator.wiring import load_definitions
from tests.app.house import House, answer, placed


def findings(house: House) -> list[tuple[str, str]]:
    """(order id, what) of everything that does not agree."""
    report = restore.verify(verify.journals(house.engine), verify.Projection(), verify.counter_sums(house.engine))
    return [(finding.order_id, finding.what) for finding in report.findings]


def fill(house: House) -> None:
    """Orders that wait, are undone, have ended; found by a label."""
    labelled = read(
        Path(shipped_definition("order").file).read_text().replace("version: 1", "version: 2\nlabels: [currency]"), "order.yaml"
    )
    house.store.register(load_definitions(None, extra=[labelled]))
    for order_id in ("done", "waits", "refused"):
        house.handle(placed(order_id))
    house.handle(answer("done", "reserve_inventory", "InventoryReserved"))
    house.handle(answer("done", "take_payment", "PaymentTaken"))
    house.handle(answer("done", "email_invoice", "InvoiceEmailed"))
    house.handle(answer("refused", "reserve_inventory", "InventoryReserved"))
    house.handle(answer("refused", "take_payment", "PaymentDeclined"))


def test_orders_under_way_are_clean_too(house: House) -> None:
    """If it failed, every waiting order would be reported, and a real finding be lost among them."""
    fill(house)
    assert [house.order(order_id).direction for order_id in ("done", "waits", "refused")] == ["ended", "forward", "undoing"]

    assert findings(house) == []


def test_a_deadline_that_was_put_off_is_no_finding(house: House) -> None:
    """If it failed, a deadline that waits for a mended definition would look like damage."""
    fill(house)
    [name] = [name for name in house.order("waits").deadlines if name.startswith("reply:")]
    with house.store.transaction() as transaction:
        transaction.write(Changes(put_off=[("waits", name, transaction.now() + timedelta(minutes=1))]))

    assert findings(house) == []


DAMAGES: dict[str, tuple[sa.Delete | sa.Update, str]] = {
    "a deadline is gone": (sa.delete(tables.deadlines), "the armed deadlines differ from the journal"),
    "a deadline has moved": (
        sa.update(tables.deadlines).values(generation=tables.deadlines.c.generation + 1),
        "the armed deadlines differ from the journal",
    ),
    "a label is gone": (sa.delete(tables.order_labels), "the labels differ from the journal"),
    "a label says something else": (sa.update(tables.order_labels).values(value="USD"), "the labels differ from the journal"),
    "the row is gone": (sa.delete(tables.orders), "the order's row differs from its journal"),
    "the row says something else": (sa.update(tables.orders).values(attempts=7), "the order's row differs from its journal"),
    "the document is gone": (sa.delete(tables.order_data), "the stored order differs from its journal"),
    "the document says something else": (sa.update(tables.order_data).values(document=b"{}"), "the stored order differs from its journal"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_does_not_agree_with_the_journal_is_found(house: House, damage: str) -> None:
    """If it failed, a damaged order would go on from what never happened."""
    statement, what = DAMAGES[damage]
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(statement.where(statement.table.c.order_id == "waits"))

    assert ("waits", what) in findings(house)
    assert {order_id for order_id, _ in findings(house)} <= {"waits", ""}


def test_labels_of_no_order_are_found(house: House) -> None:
    """If it failed, a list by a label could be slowed down by what nobody sees."""
    fill(house)
    row = {"order_id": "nobody", "name": "currency", "value": "EUR", "opened_at": house.store.now()}
    with house.engine.begin() as connection:
        connection.execute(sa.insert(tables.order_labels), row)

    assert findings(house) == [("nobody", "An order without a journal.")]


@pytest.mark.parametrize(
    "statement",
    [
        sa.delete(tables.journal).where(tables.journal.c.seq == 1),
        sa.update(tables.journal).where(tables.journal.c.seq == 1).values(effects=b"{}"),
    ],
    ids=["an entry is gone", "an entry was altered"],
)
def test_a_damaged_journal_is_found(house: House, statement: sa.Delete | sa.Update) -> None:
    """If it failed, the history would be what anybody makes of it."""
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(statement.where(tables.journal.c.order_id == "done"))

    assert {order_id for order_id, _ in findings(house)} == {"done"}


def test_a_wrong_counter_is_found(house: House) -> None:
    """If it failed, the dashboards would count orders that do not exist."""
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(sa.update(tables.counters).values(n=tables.counters.c.n + 1))

    assert {order_id for order_id, _ in findings(house)} == {""}

"""Verification: what is kept agrees with the journals (R25, R27), whatever the orders are doing, and what does not is found."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.app import restore
from orchestrator.app.ports import Changes
from orchestrator.app.replay import SNAPSHOT_EVERY
from orchestrator.contract import canonical
from orchestrator.files import shipped_definition
from orchestrator.loading import load_definitions
from orchestrator.saga.definition import read
from orchestrator.store import tables, upkeep, verify
from tests.app.house import House, answer, long_order, placed


def report_of(house: House, *, deep: bool = False) -> restore.Report:
    """What a verification sees."""
    with upkeep.opened(house.url, lambda: house.clock) as engine:
        return upkeep.verify_all(engine, deep=deep)


def findings(house: House, *, deep: bool = False) -> list[tuple[str, str]]:
    """(order id, what) of everything that does not agree."""
    return [(finding.order_id, finding.what) for finding in report_of(house, deep=deep).findings]


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
    "a message that was never written": (
        sa.update(tables.outbox).values(message_type="ReserveEverything", outbox_id="id-x"),
        "the outbox holds ReserveEverything (id-x), which entry 1 did not write",
    ),
    "a message of an entry to come": (
        sa.update(tables.outbox).values(seq=9, outbox_id="id-x"),
        "the outbox holds ReserveInventory (id-x), which entry 9 did not write",
    ),
    "the row is gone": (sa.delete(tables.orders), "the order's row is missing"),
    "the row says something else": (sa.update(tables.orders).values(attempts=7), "the order's row differs from its journal"),
    "the document is gone": (sa.delete(tables.order_data), "the stored order is missing"),
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


def park(house: House, order_id: str, *, source: str = "inventory") -> None:
    """A message in the table of those that wait for their order to open, whatever the order does."""
    event = {"specversion": "1.0", "id": "m", "source": source, "type": "InventoryReserved", "subject": order_id, "data": {}}
    times = {"parked_at": house.store.now(), "expires_at": house.store.now() + timedelta(hours=24)}
    row = {"order_id": order_id, "source": "inventory", "message_id": "m", "message_type": "InventoryReserved", **times}
    with house.engine.begin() as connection:
        connection.execute(sa.insert(tables.parked), row | {"envelope": canonical.encode(event)})


def test_a_message_that_waits_for_an_open_order_is_found(house: House) -> None:
    """If it failed, an answer would lie there until it expires, and its order never know."""
    fill(house)
    park(house, "waits")
    assert findings(house) == [("waits", "InventoryReserved (m of inventory) waits for the order to open, and it is open")]


def test_a_message_that_waits_for_its_order_is_no_finding_unless_it_is_another(house: House) -> None:
    """If it failed, every early event would be reported, or one that can never be applied would not."""
    fill(house)
    park(house, "to-come")
    assert findings(house) == []
    assert report_of(house).orders == 3
    park(house, "other", source="payment")
    assert findings(house) == [("other", "the parked InventoryReserved (m of inventory) is not what its row says")]


@pytest.mark.parametrize("seq", [SNAPSHOT_EVERY, 10_000])
def test_a_wrong_snapshot_is_found_and_a_missing_one_is_none(small_house: House, seq: int) -> None:
    """If it failed, the past would be shown as somebody wrote it; or every order older than the snapshots be reported."""
    long_order(small_house)
    snapshots = tables.snapshots
    with small_house.engine.begin() as connection:
        at = snapshots.c.seq == SNAPSHOT_EVERY
        connection.execute(sa.update(snapshots).where(at).values(document=b"{}", seq=seq))
    what = "differs from the journal" if seq == SNAPSHOT_EVERY else "which the journal does not have"
    [(order_id, found)] = findings(small_house)
    assert order_id == "long"
    assert found.endswith(what)
    with small_house.engine.begin() as connection:
        connection.execute(sa.delete(snapshots))
    assert findings(small_house) == []


def test_orders_that_move_while_it_runs_are_told_and_are_no_finding(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, nobody could verify a running installation; or what it says would sound as if nothing had moved."""
    fill(house)
    house.clock += timedelta(seconds=1)
    monkeypatch.setattr(verify, "BATCH", 1)

    def move(done: int, total: int) -> None:
        # "waits" comes last, and "done" was read by then.
        house.handle(answer("waits", "reserve_inventory", "InventoryReserved"))
        house.handle(answer("done", "email_invoice", "InvoiceEmailed", message_id="again"))

    with upkeep.opened(house.url, lambda: house.clock) as engine:
        report = upkeep.verify_all(engine, progress=move)
    assert report.findings == ()
    assert report.moving == 2


def test_an_order_that_moves_between_two_of_its_tables_is_read_as_it_stood_at_one_moment(house: House) -> None:
    """If it failed, a verification of a busy installation would report orders of which nothing is wrong."""
    fill(house)
    kept = verify.journals(house.engine)
    one = next(kept)
    assert one.order_id == "done"
    house.handle(answer("waits", "reserve_inventory", "InventoryReserved"))
    # The rest of the page is as it was when the page was begun: rows and journal alike.
    rest = {one.order_id: (one.row or {}).get("seq") == len(list(one.lines)) for one in kept}
    assert rest == {"refused": True, "waits": True}
    house.handle(answer("waits", "take_payment", "PaymentTaken"))


def test_no_more_findings_are_kept_than_a_screen_can_show(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a database that is all wrong would be told in more memory than there is."""
    monkeypatch.setattr(restore, "FINDINGS_MAX", 2)
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(sa.update(tables.orders).values(attempts=7))
    report = report_of(house)
    assert (len(report.findings), report.more, report.found) == (2, 1, 3)


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


def test_a_counter_that_an_order_explains_stops_nothing(house: House) -> None:
    """If it failed, an operator would stop everything for one damaged row, whose rebuilding corrects the counters, too."""
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(sa.update(tables.orders).values(state="taking_payment").where(tables.orders.c.order_id == "waits"))
    mends = {one.mend for one in upkeep.verify_all(house.engine).findings if not one.order_id}
    assert mends == {"first rebuild the orders above, then verify again"}
    upkeep.rebuild_order(house.engine, "waits", actor="test")
    assert findings(house) == []
    with house.engine.begin() as connection:
        connection.execute(sa.update(tables.counters).values(n=tables.counters.c.n + 1))
    mends = {one.mend for one in upkeep.verify_all(house.engine).findings}
    assert mends == {"stop `serve` and `worker`, then escrow rebuild"}

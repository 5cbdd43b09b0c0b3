"""Rebuilding: what the journal says is what is there again, byte for byte (R25), and nothing else is touched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import repeat
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.app.ports import Changes
from orchestrator.app.rebuild import Rebuilt
from orchestrator.app.work import Work
from orchestrator.config import Settings
from orchestrator.errors import Conflict, SettingsError, StoreBusy
from orchestrator.loading import load_definitions
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import counters as store_counters
from orchestrator.store import schema, spans, tables, upkeep, verify
from orchestrator.store.tables import counters, deadlines, journal, order_data, order_labels, orders, snapshots
from orchestrator.wiring import make_process
from tests.app.house import House, answer, long_order, placed
from tests.app.test_restore import fill, findings, park
from tests.support.services import fresh_postgres

OPENED = sa.select(orders.c.opened_at).limit(1).scalar_subquery()
NO_BUS: Any = None
REBUILT = (orders, order_data, order_labels, deadlines, snapshots)


def live(house: House) -> None:
    """Orders of every kind: on their way, held, undone, ended, long; found by a label."""
    fill(house)
    house.handle(placed("held"))
    hold = OperatorAct(act="hold", actor="ann", reason="look", seq=1, arguments={"until": house.store.now() + timedelta(hours=1)})
    house.handle(Work(order_id="held", input=hold))
    long_order(house)


def dump(house: House, tables_: Sequence[sa.Table] = REBUILT) -> dict[str, list[Any]]:
    """Every row of these tables."""
    with house.engine.connect() as connection:
        return {table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr) for table in tables_}


def counts(house: House) -> dict[tuple[str, str, str], int]:
    """The counters' sums."""
    return verify.counter_sums(house.engine)[0]


def rebuild(house: House, order_id: str | None = None, *, processes: int = 1, progress: upkeep.Progress | None = None) -> Rebuilt:
    """All of them, or one."""
    with upkeep.opened(house.url, lambda: house.clock) as engine:
        if order_id is not None:
            return upkeep.rebuild_order(engine, order_id, actor="test")
        return upkeep.rebuild_all(engine, actor="test", processes=processes, progress=progress)


def change(house: House, *statements: sa.Executable) -> None:
    """Do something to the database behind the back of the house."""
    with house.engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)


def audited(house: House) -> list[tuple[str, str | None, str]]:
    """(act, order id, detail) of the audit."""
    a = tables.audit.c
    with house.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(a.act, a.order_id, a.detail).order_by(a.audit_id))]


def test_everything_comes_back_from_the_journal_alone(house: House) -> None:
    """If it failed, an installation that lost its tables would go on as another one (R25)."""
    live(house)
    before, counted = dump(house), counts(house)
    assert all(before.values())
    change(house, *(sa.delete(table) for table in (*REBUILT, counters)))

    result = rebuild(house)

    assert (result.orders, result.mended, result.findings, result.recounted) == (5, 5, (), True)
    assert dump(house) == before
    assert counts(house) == counted
    assert findings(house) == []
    assert [row[0] for row in audited(house)] == ["rebuild"]


def test_what_is_right_is_not_touched(house: House) -> None:
    """If it failed, a rebuild would cost a rewriting of the whole database, and forget how often a deadline was put off."""
    live(house)
    [name] = [name for name in house.order("waits").deadlines if name.startswith("reply:")]
    with house.store.transaction() as transaction:
        transaction.write(Changes(put_off=[("waits", name, transaction.now() + timedelta(minutes=1))]))
    before = dump(house, (*REBUILT, counters, journal, tables.outbox))

    result = rebuild(house)

    assert (result.orders, result.mended, result.recounted) == (5, 0, False)
    assert dump(house, (*REBUILT, counters, journal, tables.outbox)) == before


@pytest.mark.parametrize(
    "damage",
    [
        sa.delete(orders),
        sa.update(orders).values(state="completed", status="completed", attempts=9),
        sa.delete(order_data),
        sa.update(order_data).values(document=b"{}"),
        sa.delete(deadlines),
        sa.update(deadlines).values(generation=99),
        sa.delete(order_labels),
        sa.insert(order_labels).values(order_id="waits", name="of", value="nothing", opened_at=OPENED),
    ],
    ids=str,
)
@pytest.mark.parametrize("counted", [False, True], ids=["", "counted"])
def test_one_order_is_mended_while_others_run(house: House, damage: Any, counted: bool) -> None:
    """If it failed, an order damaged by hand would need an outage to be mended, or its neighbours would change with it."""
    live(house)
    house.store.beat("worker-1", "worker", None)
    before = dump(house)
    change(house, damage if isinstance(damage, sa.Insert) else damage.where(damage.table.c.order_id == "waits"))
    if counted:
        # The counters agree with the damaged row; otherwise with the journal, as after a slip by hand.
        with house.engine.begin() as connection:
            store_counters.reset(connection)

    result = rebuild(house, "waits")

    assert (result.orders, result.mended_orders) == (1, ("waits",))
    assert dump(house) == before
    assert findings(house) == []
    assert audited(house) == [("rebuild", "waits", "Its rows were written anew from its journal.")]
    house.handle(answer("waits", "reserve_inventory", "InventoryReserved"))
    assert house.order("waits").state == "taking_payment"


def test_an_order_of_which_nothing_is_wrong_is_left_and_one_that_nobody_knows_is_none(house: House) -> None:
    """If it failed, a slip in an id would look like a success."""
    live(house)
    assert rebuild(house, "waits").mended == 0
    assert rebuild(house, "nobody") == Rebuilt()
    assert audited(house) == []


def test_a_damaged_journal_is_left_as_it_is_and_named(house: House) -> None:
    """If it failed, the last that is known of an order would be replaced by half of its history."""
    live(house)
    j = journal.c
    change(
        house,
        sa.delete(journal).where(j.order_id == "done", j.seq == 2),
        sa.delete(journal).where(j.order_id == "waits"),
        sa.delete(orders).where(orders.c.order_id == "refused"),
    )
    before = {name: [row for row in rows if row[0] in {"done", "waits"}] for name, rows in dump(house).items()}

    result = rebuild(house)

    assert [(finding.order_id, finding.what) for finding in result.findings] == [
        ("done", "done: entry 2 is missing from the journal. It was left as it is."),
        ("waits", "An order without a journal. It was left as it is."),
    ]
    assert {name: [row for row in rows if row[0] in {"done", "waits"}] for name, rows in dump(house).items()} == before
    assert result.mended_orders == ("refused",)
    assert {order_id for order_id, _ in findings(house)} == {"done", "waits"}


def test_messages_that_an_order_took_when_it_opened_wait_no_longer(house: House) -> None:
    """If it failed, a restored table would keep alarming about messages that were applied; or one that was not would be lost."""
    live(house)
    park(house, "waits")
    taken = sa.select(journal.c.message_id).where(journal.c.order_id == "waits", journal.c.seq == 1).scalar_subquery()
    change(house, sa.update(tables.parked).values(source="shop", message_id=taken))
    park(house, "to-come")

    assert rebuild(house).unparked == 1

    assert [row[1] for row in dump(house, (tables.parked,))["parked"]] == ["to-come"]


def test_it_refuses_while_processes_run(house: House) -> None:
    """If it failed, workers would move orders that are being laid out from what their journals said before."""
    live(house)
    house.store.beat("worker-7", "worker", None)
    before = dump(house)
    with pytest.raises(Conflict, match=r"Escrow is running: worker-7\. Fix: stop every"):
        rebuild(house)
    assert dump(house) == before
    upkeep.refuse_unfinished(house.engine)


@pytest.mark.real
def test_a_rebuild_that_was_killed_is_run_again_and_nothing_starts_before() -> None:
    """If it failed, a worker would take an order that is not written yet for one that was never opened."""
    with fresh_postgres() as url:
        house = House(url)
        live(house)
        before, counted = dump(house), counts(house)
        change(house, *(sa.delete(table) for table in (*REBUILT, counters)))

        def die(done: int, total: int) -> None:
            assert (done, total) == (done, done)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rebuild(house, progress=die)
        assert dump(house) == before
        assert counts(house) == {}
        with pytest.raises(SettingsError, match="run `escrow rebuild` to its end"):
            make_process(Settings(database_url=url), house.engine, load_definitions(None), NO_BUS, role="worker", consume=True)
        assert rebuild(house).mended == 0
        assert counts(house) == counted
        upkeep.refuse_unfinished(house.engine)
        house.close()


def test_on_sqlite_all_of_it_is_one_transaction(small_house: House) -> None:
    """If it failed, an embedded installation that was killed meanwhile would be left half rebuilt."""
    live(small_house)
    change(small_house, *(sa.delete(table) for table in REBUILT))

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(small_house, progress=die)
    assert not any(dump(small_house).values())
    upkeep.refuse_unfinished(small_house.engine)
    assert rebuild(small_house).mended == 5


@pytest.mark.real
def test_no_order_moves_and_no_second_rebuild_runs_meanwhile() -> None:
    """If it failed, a process that starts at this moment would move an order on from rows that are about to be replaced (R19)."""
    with fresh_postgres() as url:
        house = House(url)
        live(house)
        refused: list[type[Exception]] = []

        def interfere(done: int, total: int) -> None:
            with pytest.raises(Conflict, match="Another `escrow rebuild` is running"):
                rebuild(house)
            with pytest.raises(StoreBusy) as caught:
                house.handle(answer("waits", "reserve_inventory", "InventoryReserved"))
            refused.append(caught.type)

        rebuild(house, progress=interfere)
        assert refused == [StoreBusy]
        assert house.order("waits").seq == 1
        house.close()


@pytest.mark.real
@pytest.mark.slow
def test_several_processes_do_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a large installation would be verified in part, or rebuilt otherwise than a small one."""
    monkeypatch.setattr(upkeep, "ALONE_BELOW", 0)
    monkeypatch.setattr(spans, "ENTRIES", 5)
    monkeypatch.setattr(upkeep, "REBUILT_AT_ONCE", 5)
    with fresh_postgres() as url:
        house = House(url)
        live(house)
        for number in range(30):
            house.handle(placed(f"o-{number}"))
        before, counted = dump(house), counts(house)
        change(house, *(sa.delete(table) for table in (*REBUILT, counters)))
        seen: list[tuple[int, int]] = []

        result = rebuild(house, processes=2, progress=lambda done, total: seen.append((done, total)))

        assert (result.orders, result.mended, result.findings) == (35, 35, ())
        assert len(seen) > 5
        assert seen[-1] == (result.entries, result.entries)
        assert dump(house) == before
        assert counts(house) == counted
        change(house, sa.update(orders).where(orders.c.order_id == "o-7").values(attempts=7))
        with upkeep.opened(house.url, lambda: house.clock) as engine:
            report = upkeep.verify_all(engine, deep=True, processes=2)
        assert (report.orders, report.entries, report.decided) == (35, result.entries, result.entries)
        assert [finding.order_id for finding in report.findings] == ["o-7"]
        schema.check(house.engine)
        house.close()


@pytest.mark.parametrize("entries", [1, 2, 7, 10_000])
def test_pieces_cover_every_order_once(small_house: House, entries: int) -> None:
    """If it failed, an order at the edge of a piece would be left out, or gone through twice."""
    live(small_house)
    change(small_house, sa.delete(journal).where(journal.c.order_id == "waits"))
    seen = [one.order_id for span in spans.spans(small_house.engine, repeat(entries)) for one in verify.journals(small_house.engine, span)]
    assert seen == ["done", "held", "long", "refused", "waits"]

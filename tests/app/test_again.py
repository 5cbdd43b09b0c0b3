"""Deciding again: the recorded inputs must give the recorded entries (R25), and what an older release wrote is told from what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from orchestrator.app.replay import LINE
from orchestrator.app.restore import Report
from orchestrator.app.work import Work
from orchestrator.contract import canonical
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.inputs import DeadlineDue, OperatorAct
from orchestrator.store import tables, upkeep
from tests.app.house import House, answer, placed
from tests.app.test_migrate import migrate, register_second
from tests.app.test_restore import fill, report_of


def rewrite(house: House, order_id: str, **changes: Any) -> None:
    """Change the last entry of an order, give it the hash that it must then have, and all that follows from the journal with it."""
    entry = replace(house.queries.history(order_id, limit=1000)[-1], **changes)
    entry = replace(entry, hash=entry_hash({name: getattr(entry, name) for name in LINE if name != "hash"}))
    j = tables.journal.c
    with house.engine.begin() as connection:
        values = {name: getattr(entry, name) for name in LINE}
        connection.execute(sa.update(tables.journal).where(j.order_id == order_id, j.seq == entry.seq).values(values))
    with upkeep.opened(house.url, lambda: house.clock) as engine:
        upkeep.rebuild_order(engine, order_id, actor="test")
    assert report_of(house).findings == ()


def told(report: Report) -> list[tuple[str, str]]:
    """(order id, what) of each finding."""
    return [(finding.order_id, finding.what) for finding in report.findings]


def test_orders_of_every_kind_are_decided_as_they_were(house: House) -> None:
    """If it failed, a deep verification would report orders of which nothing is wrong."""
    house.handle(placed("waits"), placed("moved"), placed("refused"))
    house.handle(answer("refused", "reserve_inventory", "InventoryRejected"))
    register_second(house)
    migrate(house, "moved", 2)
    house.handle(answer("moved", "reserve_inventory", "InventoryReserved"))
    house.handle(answer("moved", "take_payment", "PaymentTaken", source="invoice"))
    hold = OperatorAct(act="hold", actor="ann", reason="look", seq=house.order("waits").seq)
    house.handle(Work(order_id="waits", input=hold))
    [name] = [name for name in house.order("moved").deadlines if name.startswith("reply:")]
    due = DeadlineDue(name=name, generation=house.order("moved").deadlines[name].generation, excused=True)
    house.handle(Work(order_id="moved", input=due))

    report = report_of(house, deep=True)

    assert told(report) == []
    assert (report.decided, report.other_form) == (report.entries, 0)
    assert report.decided >= 8


def test_a_history_that_was_rewritten_whole_is_found(house: House) -> None:
    """If it failed, whoever can write the database could make an order do what its inputs never said."""
    fill(house)
    patch = canonical.load(house.queries.history("waits")[-1].patch)
    rewrite(house, "waits", patch=canonical.encode(patch | {"data": patch["data"] | {"amount_minor": 1}}))

    assert told(report_of(house, deep=True)) == [("waits", "entry 1 (OrderPlaced): decided again, it changes the order otherwise")]


def test_another_verdict_and_other_messages_are_named(house: House) -> None:
    """If it failed, nobody would know where to look."""
    fill(house)
    rewrite(house, "refused", verdict="ignored")
    effects = canonical.load(house.queries.history("waits")[-1].effects)
    rewrite(house, "waits", effects=canonical.encode(effects | {"alerts": ["silence: it is silent"]}))

    assert told(report_of(house, deep=True)) == [
        ("refused", "entry 3 (PaymentDeclined): decided again, its verdict is moved, and ignored is recorded"),
        ("waits", "entry 1 (OrderPlaced): decided again, what it sends and announces differs"),
    ]


def test_an_entry_that_says_the_same_in_another_form_is_no_finding(house: House) -> None:
    """If it failed, every order of an older release would be reported after an upgrade, and damage be lost among them."""
    fill(house)
    written = canonical.load(house.queries.history("waits")[-1].input)
    rewrite(house, "waits", input=canonical.encode(written | {"of_an_older_release": True}))
    report = report_of(house, deep=True)
    assert told(report) == []
    assert (report.other_form, report.other_form_orders) == (1, ("waits",))


def test_an_input_that_cannot_be_read_is_said_to_be_of_another_form(house: House) -> None:
    """If it failed, one old entry would end the verification of all."""
    fill(house)
    rewrite(house, "done", input=b'{"of_another_release":true}')
    report = report_of(house, deep=True)
    assert told(report) == []
    assert (report.other_form, report.other_form_orders) == (1, ("done",))


def test_a_version_that_is_gone_is_said(house: House) -> None:
    """If it failed, an order would be decided by rules that it was never pinned to, or the verification end there."""
    fill(house)
    with house.engine.begin() as connection:
        connection.execute(sa.delete(tables.definitions).where(tables.definitions.c.version == 2))
    found = told(report_of(house, deep=True))
    assert {order_id for order_id, _ in found} == {"done", "waits", "refused"}
    assert found[0][1].endswith("cannot be decided again: The definition order version 2 is not registered.")

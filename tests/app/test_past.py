"""What the journals tell of a participant: all it was sent, once each, with the first answer; enough to be what it was (R29)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.app.past import NAMED_MAX, Summary, Told
from orchestrator.contract import COMMAND_TOO_LATE, command_id, undo_id
from orchestrator.contract.replay import ReplayedCommand, ReplayedFact, encode_replay
from orchestrator.loading import load_definitions
from orchestrator.store.tables import journal
from participants.kit.database import connect
from tests.app.house import DATA, House, answer, long_order, placed
from tests.app.street import Street, event, make
from tests.participants.replays import contents, replay_to

RESERVED = command_id("o-1", 0, "reserve_inventory", 1)


@pytest.fixture
def street(small_house: House, tmp_path: Path) -> Iterator[Street]:
    """The shipped saga."""
    made = Street(small_house, tmp_path, ("inventory", "payment", "invoice"))
    yield made
    made.close()


def shape(told: list[Told]) -> list[tuple[str, str | None, str | None]]:
    """(type, answer's type, outcome) of each."""
    return [
        (one.message.type, one.answer.type if one.answer else None, one.outcome)
        if isinstance(one, ReplayedCommand)
        else (one.message.type, None, "fact")
        for one in told
    ]


def assert_rebuilt(street: Street, name: str, tmp_path: Path, *, choreographed: bool = False, without: tuple[str, ...] = ()) -> None:
    """A new participant that is told its past has the tables of the old one."""
    told, summary = street.past_of(name)
    assert (summary.damaged, summary.causes_unknown) == ([], 0)
    engine = connect(f"sqlite:///{tmp_path}/{name}-again.db")
    again = make(name, engine, tmp_path / "again", choreographed=choreographed)
    replay_to(again, [encode_replay(one) for one in told])
    assert contents(engine, without=without) == contents(street.engines[name], without=without)
    assert contents(engine), "there is something to compare"
    engine.dispose()


def test_a_command_comes_once_with_its_first_answer(street: Street) -> None:
    """If it failed, a participant would be told of attempts as of commands, or of another answer than the order went on by."""
    street.away = {"inventory"}
    street.say(placed("o-1"))
    for _ in range(2):
        street.pass_s(40)
    again = answer("o-1", "reserve_inventory", "InventoryReserved", message_id="of a copy")
    street.come_back("inventory")
    street.say(again)
    told, summary = street.past_of("inventory")
    assert shape(told) == [("ReserveInventory", "InventoryReserved", "done")]
    (one,) = told
    assert isinstance(one, ReplayedCommand)
    assert (one.message.commandid, one.message.attempt, one.message.data["lines"]) == (RESERVED, 1, DATA["lines"])
    assert one.answer is not None
    assert one.answer.id != "of a copy"
    assert (summary.orders, summary.commands, summary.undos, summary.unanswered) == (1, 1, 0, 0)


def test_what_was_undone_refused_and_left_unanswered(street: Street) -> None:
    """If it failed, a participant would keep what was given back, or do anew what nobody knows the outcome of."""
    street.say(placed("o-1", data=DATA | {"amount_minor": 5_000}))
    street.say(placed("o-2", data=DATA | {"lines": [{"sku": "none", "quantity": 1}]}))
    street.away = {"inventory"}
    street.say(placed("o-3"))
    told, summary = street.past_of("inventory")
    assert shape(told) == [
        ("ReserveInventory", "InventoryReserved", "done"),
        ("ReleaseInventory", "InventoryReleased", "undone"),
        ("ReserveInventory", "InventoryRejected", "refused"),
        ("ReserveInventory", None, None),
    ]
    assert (summary.commands, summary.undos, summary.unanswered) == (3, 1, 1)
    assert shape(street.past_of("payment")[0]) == [("TakePayment", "PaymentDeclined", "refused")]
    assert street.past_of("nobody")[0] == []


def test_a_late_answer_and_one_that_was_too_late(street: Street) -> None:
    """If it failed, a success that came after its undo would be forgotten, or a command that never ran be carried out."""
    for order_id in ("late", "too-late"):
        street.away = {"inventory"}
        street.say(placed(order_id))
        street.say(event("shop", "OrderCancelRequested", order_id, {}))
        street.come_back("inventory", backwards=order_id == "too-late")
    assert ("InventoryReserved", "late") in street.house.verdicts("late")
    told = {
        order_id: [one for one in street.past_of("inventory")[0] if one.message.subject == order_id] for order_id in ("late", "too-late")
    }
    undone = ("ReleaseInventory", "InventoryReleased", "undone")
    assert shape(told["late"]) == [("ReserveInventory", "InventoryReserved", "done"), undone]
    assert shape(told["too-late"]) == [undone, ("ReserveInventory", COMMAND_TOO_LATE, "too_late")]


def test_tables_and_ledgers_are_as_before(street: Street, tmp_path: Path) -> None:
    """If it failed, a participant that lost its database would be another one than Escrow knows."""
    for number in range(5):
        street.say(placed(f"o-{number}"))
    street.say(placed("dear", data=DATA | {"amount_minor": 5_000}))
    street.say(placed("none", data=DATA | {"lines": [{"sku": "none", "quantity": 1}]}))
    street.away = {"inventory"}
    for order_id in ("early", "earlier"):
        street.say(placed(order_id))
        street.say(event("shop", "OrderCancelRequested", order_id, {}))
    street.come_back("inventory", backwards=True)
    street.away = {"inventory"}
    street.say(placed("waits"))
    for name in ("inventory", "payment"):
        assert_rebuilt(street, name, tmp_path)
    assert_rebuilt(street, "invoice", tmp_path, without=("mailed",))


def test_what_a_choreography_did_by_itself_is_told(small_house: House, tmp_path: Path) -> None:
    """If it failed, a participant that nobody asked would have nothing to be told, and forget all it did."""
    small_house.store.register(load_definitions(None, shipped=["order_watched"]))
    street = Street(small_house, tmp_path, ("inventory", "invoice", "orders"), choreographed=True)
    for number in range(3):
        street.tell("orders", "OrderPlaced", f"o-{number}", {**DATA, "order_id": f"o-{number}"})
    street.tell("orders", "OrderPlaced", "back", {**DATA, "order_id": "back", "customer_email": "nobody"})
    street.away = {"invoice"}
    street.tell("orders", "OrderPlaced", "asked", {**DATA, "order_id": "asked"})
    for _ in range(3):
        street.pass_s(70)
    street.come_back("invoice")
    told, _ = street.past_of("inventory")
    assert [one[0] for one in shape(told)].count("OrderPlaced") == 5
    assert all(one.message.commandid is None for one in told if one.message.type == "OrderPlaced")
    assert ("RestoreInventory", "InventoryRestored", "undone") in shape(told)
    of_invoice = shape(street.past_of("invoice")[0])
    assert of_invoice.count(("InventoryUpdated", "InvoiceEmailed", "done")) == 3
    assert ("EmailInvoice", "InvoiceEmailed", "done") in of_invoice
    assert_rebuilt(street, "inventory", tmp_path, choreographed=True)
    assert_rebuilt(street, "invoice", tmp_path, choreographed=True, without=("mailed",))
    street.close()


def test_a_cause_that_no_journal_has_is_counted(small_house: House, tmp_path: Path) -> None:
    """If it failed, work that cannot be told would be missing without a word; or an answer without `commandid` be taken for a fact."""
    small_house.store.register(load_definitions(None, shipped=["order_watched"]))
    street = Street(small_house, tmp_path, ())
    street.say(placed("o-1"))
    updated = {"order_id": "o-1", "reservation_id": "R"}
    street.say(event("inventory", "InventoryUpdated", "o-1", updated, causationid="unheard of"))
    assert (street.past_of("inventory")[0], street.past_of("inventory")[1].causes_unknown) == ([], 1)
    street.say(placed("o-2"))
    street.say(event("inventory", "InventoryUpdated", "o-2", updated | {"order_id": "o-2"}, causationid="placed-o-2"))
    told, summary = street.past_of("inventory")
    assert (shape(told), summary.causes_unknown) == ([("OrderPlaced", "InventoryUpdated", "done")], 1)
    street.close()


def test_facts_and_notices_are_told(small_house: House, tmp_path: Path) -> None:
    """If it failed, a bank would not know its deposits, nor an agent whom it has chased."""
    small_house.store.register(load_definitions(None, shipped=["house_closing"]))
    street = Street(small_house, tmp_path, ("agent", "bank", "registry"))
    due_at = (small_house.clock + timedelta(days=19)).isoformat()
    for closing in ("h-1", "h-2"):
        data = {"closing_id": closing, "property_id": f"p-{closing}", "price_minor": 100, "funds_due_at": due_at}
        street.tell("agent", "ClosingOpened", closing, data)
    street.pass_s(2 * 86_400 + 1)
    for closing in ("h-1", "h-2"):
        for name in ("BuyerSigned", "SellerSigned"):
            street.tell("agent", name, closing, {})
    street.tell("bank", "FundsReceived", "h-1", {"amount_minor": 10}, "too little")
    street.tell("bank", "FundsReceived", "h-1", {"amount_minor": 100}, "enough")
    assert small_house.order("h-1").state == "closed"
    told, summary = street.past_of("bank")
    assert shape(told) == [
        ("FundsReceived", None, "fact"),
        ("ReturnDeposit", "DepositReturned", "undone"),
        ("FundsReceived", None, "fact"),
        ("PaySeller", "SellerPaid", "done"),
    ]
    assert summary.facts == 2
    assert ("ChaseSignatures", None, None) in shape(street.past_of("agent")[0])
    for name in ("agent", "bank", "registry"):
        assert_rebuilt(street, name, tmp_path, without=("digest",))
    street.close()


def test_a_time_limits_it(street: Street) -> None:
    """If it failed, a participant restored to noon would be told of the morning, which it has, or not of the afternoon."""
    street.say(placed("o-1"))
    noon = street.house.clock + timedelta(hours=1)
    street.house.clock = noon
    street.say(placed("o-2"), event("shop", "OrderCancelRequested", "o-9", {}))
    assert [one.message.subject for one in street.past_of("inventory", noon)[0]] == ["o-2"]
    assert street.past_of("inventory", noon)[1].orders == 1
    assert street.past_of("inventory", datetime(2030, 1, 1, tzinfo=UTC))[0] == []


def test_what_was_under_way_at_the_time_is_told(street: Street) -> None:
    """If it failed, work that was asked for before noon and done after it would be missing, and said to be of an unknown cause."""
    street.away = {"inventory"}
    street.say(placed("asked"))
    street.say(placed("asked-too"))
    street.say(placed("early"), event("shop", "OrderCancelRequested", "early", {}))
    noon = street.house.clock + timedelta(seconds=10)
    street.house.clock = noon
    street.come_back("inventory", backwards=True)
    street.away = {"inventory"}
    street.house.clock += timedelta(seconds=10)
    street.say(placed("later"))
    told, summary = street.past_of("inventory", noon)
    assert {(one.message.subject, *each) for one, each in zip(told, shape(told), strict=True)} == {
        ("asked", "ReserveInventory", "InventoryReserved", "done"),
        ("asked-too", "ReserveInventory", "InventoryReserved", "done"),
        ("early", "ReleaseInventory", "InventoryReleased", "undone"),
        ("early", "ReserveInventory", COMMAND_TOO_LATE, "too_late"),
        ("later", "ReserveInventory", None, None),
    }
    assert summary.causes_unknown == 0
    evening = street.house.clock + timedelta(seconds=10)
    assert street.past_of("inventory", evening)[0] == []


def test_what_was_refused_or_is_no_answer_is_none(small_house: House, tmp_path: Path) -> None:
    """If it failed, an event of somebody else, or one that says nothing about the command, would pass for its answer."""
    street = Street(small_house, tmp_path, ())
    street.say(placed("o-1"))
    street.say(answer("o-1", "reserve_inventory", "InventoryReserved", source="payment", message_id="of another"))
    street.say(event("inventory", "InventoryReleased", "o-1", {}, commandid=RESERVED, message_id="no answer"))
    street.say(event("inventory", "InventoryReserved", "o-1", {}, commandid=undo_id(RESERVED), message_id="no confirmation"))
    assert shape(street.past_of("inventory")[0]) == [("ReserveInventory", None, None)]
    street.say(answer("o-1", "reserve_inventory", "InventoryReserved", message_id="the answer"))
    assert shape(street.past_of("inventory")[0]) == [("ReserveInventory", "InventoryReserved", "done")]
    street.close()


def test_a_damaged_journal_is_named_and_its_neighbours_are_told(house: House, tmp_path: Path) -> None:
    """If it failed, one damaged order would keep a participant from its state; or be left out without a word."""
    street = Street(house, tmp_path, ())
    for order_id in ("o-1", "o-2", "o-3"):
        street.say(placed(order_id))
    long_order(house, entries=30)
    with house.engine.begin() as connection:
        connection.execute(sa.update(journal).where(journal.c.order_id == "o-2").values(reason="altered"))
    told, summary = street.past_of("inventory")
    assert sorted(one.message.subject for one in told) == ["long", "o-1", "o-3"]
    ((order_id, why),) = summary.damaged
    assert (order_id, "was altered" in why) == ("o-2", True)
    street.close()


def test_a_summary_names_so_many_and_counts_the_rest() -> None:
    """If it failed, a database that is damaged all over would fill the memory, or its number be wrong."""
    summary = Summary()
    for number in range(NAMED_MAX + 5):
        summary.damage(f"o-{number}", "altered")
    assert (len(summary.damaged), summary.more) == (NAMED_MAX, 5)
    fact: Any = ReplayedFact(message=event("bank", "FundsReceived", "h-1", {}).input.envelope)  # type: ignore[union-attr]
    summary.count(fact)
    assert summary.facts == 1

"""A restored database is brought up to what the recorder has: byte for byte where the chain goes on, by its inputs where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.app import record
from orchestrator.app.handle import Context
from orchestrator.app.ports import OutboxMessage
from orchestrator.app.record import Heard, Item
from orchestrator.app.recover import Staged, Tally, fold_in, handle_again
from orchestrator.app.work import Work
from orchestrator.contract import RECORD, encode
from orchestrator.saga.inputs import OperatorAct
from orchestrator.store import upkeep
from orchestrator.store.recovery import Guard, RecoveryShelf, standing
from orchestrator.store.transaction import SqlStore
from tests.app.conftest import KINDS, opened
from tests.app.house import House, answer, placed


@pytest.fixture(params=KINDS)
def restored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """A second installation, which stands for what was restored: empty."""
    with opened(request.param, tmp_path / "restored.db") as house:
        yield house


class Life:
    """An installation whose recorder is a list: what its batches record, and the messages that came."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.context: Context = replace(house.context, records=True)
        self.items: list[Item] = []

    def handle(self, *works: Work) -> None:
        """One batch, recorded as the broker and the worker would."""
        self.items += [Heard(wire=work.delivery.wire) for work in works if work.delivery is not None]
        self.items += recorded(self.house.handle(*works, context=self.context).outbox)


def recorded(outbox: Sequence[OutboxMessage]) -> list[Item]:
    return [item for message in outbox if message.content_type == RECORD for item in record.read(message.body)]


@pytest.fixture
def life(small_house: House) -> Life:
    """Orders of several kinds, recorded."""
    house = small_house
    life = Life(house)
    life.handle(placed("done"), placed("waits"), placed("aborted"))
    for step, event in (("reserve_inventory", "InventoryReserved"), ("take_payment", "PaymentTaken"), ("email_invoice", "InvoiceEmailed")):
        life.handle(answer("done", step, event))
    life.handle(answer("waits", "reserve_inventory", "InventoryReserved"))
    life.handle(Work(order_id="aborted", input=abort(house, "aborted")))
    life.handle(answer("nobody", "reserve_inventory", "InventoryReserved"))
    return life


def abort(house: House, order_id: str) -> OperatorAct:
    return OperatorAct(act="abort", actor="ann", reason="the customer called", seq=house.order(order_id).seq)


def recover(house: House, items: Sequence[Item], *, killed_after: int | None = None) -> Tally:
    """Recover; twice when it is killed after so many items."""
    shelf, tally = RecoveryShelf(house.engine), Tally()
    context = replace(house.context, store=SqlStore(house.engine, shard=1, recovers=True))
    staged = [Staged(key=(place, 0), item=item) for place, item in enumerate(items)]
    shelf.lay_down(staged, {"next": len(staged)})

    def die(_: int) -> None:
        raise KeyboardInterrupt

    if killed_after is not None:
        with pytest.raises(KeyboardInterrupt):
            fold_in(context, shelf, tally, die)
        shelf.lay_down(staged[killed_after:], {"next": len(staged)})
    fold_in(context, shelf, tally, lambda _: None)
    handle_again(context, shelf, tally, lambda _: None, require_user_id=False)
    assert shelf.count() == 0
    Guard(house.engine, None).finish(None)
    assert upkeep.verify_all(house.engine).findings == ()
    return tally


def histories(house: House) -> dict[str, list[str]]:
    return {order_id: [entry.hash for entry in house.queries.history(order_id)] for order_id in ("done", "waits", "aborted")}


def test_everything_comes_back_byte_for_byte(life: Life, restored: House) -> None:
    """If it failed, an accepted order would be missing, or another than it was, after the database was lost."""
    tally = recover(restored, life.items)
    assert histories(restored) == histories(life.house)
    for order_id in ("done", "waits", "aborted"):
        assert restored.order(order_id) == life.house.order(order_id)
    assert (tally.opened, tally.moved, tally.uncertain) == (3, 0, [])
    assert restored.queries.parked_count() == 1, "what came for an order that does not exist waits for it again"
    assert set(tally.messages) <= {"duplicate", "parked"}


def test_what_a_backup_has_is_found_known_and_goes_on(life: Life, restored: House) -> None:
    """If it failed, recovery would need an empty database, or do twice what the backup has."""
    backup = next(place for place, item in enumerate(life.items) if not isinstance(item, Heard) and item.seq == 2) + 1
    recover(restored, life.items[:backup])
    tally = recover(restored, life.items)
    assert histories(restored) == histories(life.house)
    assert (tally.opened, tally.moved) == (0, 3)
    assert tally.known == 4


def test_it_can_be_killed_and_run_again(life: Life, restored: House) -> None:
    """If it failed, a second failure in the hour of the first would lose everything."""
    recover(restored, life.items, killed_after=2)
    assert histories(restored) == histories(life.house)
    assert recover(restored, life.items).folded == 0, "and once more, when all is done"
    assert histories(restored) == histories(life.house)


def test_past_a_gap_the_inputs_are_decided_anew(life: Life, restored: House) -> None:
    """If it failed, one record that was never written would cost all that came after it."""
    gap = next(place for place, item in enumerate(life.items) if not isinstance(item, Heard) and (item.order_id, item.seq) == ("done", 2))
    tally = recover(restored, [*life.items[:gap], *life.items[gap + 1 :]])
    assert restored.order("done").state == "completed"
    assert restored.verdicts("done") == life.house.verdicts("done")
    assert histories(restored)["waits"] == histories(life.house)["waits"]
    assert tally.messages["moved"] == 3
    assert tally.uncertain == []


def test_an_act_past_a_gap_is_done_again_on_the_order_as_it_stands(life: Life, restored: House) -> None:
    """If it failed, what an operator decided in the lost hour would be forgotten without a word."""
    opening = next(
        place for place, item in enumerate(life.items) if not isinstance(item, Heard) and (item.order_id, item.seq) == ("aborted", 1)
    )
    tally = recover(restored, [*life.items[:opening], *life.items[opening + 1 :]])
    assert tally.acts == 1
    assert restored.order("aborted").state == "undoing_reserve_inventory"
    assert restored.queries.history("aborted")[1].reason == "the customer called"


def recover_and_record(house: House, items: Sequence[Item]) -> tuple[Tally, list[Item]]:
    """Recover, and give what the recorder is told of it."""
    house.context = replace(house.context, records=True)
    tally = recover(house, items)
    with house.store.transaction() as tx:
        return tally, recorded(tx.take_over([""], "worker-9"))


@pytest.fixture
def forced(small_house: House) -> list[Item]:
    """What the recorder has of an order that an operator forced back to its first step, without the entry before that act."""
    life = Life(small_house)
    life.handle(placed("o"))
    life.handle(answer("o", "reserve_inventory", "InventoryReserved"))
    force = OperatorAct(act="force", actor="ann", reason="count again", seq=2, arguments={"to": "reserving_inventory"})
    life.handle(Work(order_id="o", input=force))
    return [item for item in life.items if isinstance(item, Heard) or item.seq != 2]


@pytest.mark.parametrize("more_is_lost", [False, True])
def test_an_act_is_done_again_once_however_often_it_is_recovered(
    forced: list[Item], restored: House, tmp_path: Path, *, more_is_lost: bool
) -> None:
    """If it failed, a database that is lost twice before its next backup would do an operator's act twice."""
    restored.clock += timedelta(hours=1)
    tally, told = recover_and_record(restored, forced)
    assert (tally.acts, restored.order("o").epoch) == (1, 1)
    if more_is_lost:
        told = [item for item in told if isinstance(item, Heard) or item.kind == "act"]
    again = House(f"sqlite:///{tmp_path}/again.db")
    again.clock = restored.clock + timedelta(hours=1)
    tally = recover(again, [*forced, *told])
    assert (again.order("o").epoch, tally.acts) == (1, int(more_is_lost))
    assert [name for name, _ in again.verdicts("o")].count("force") == 1
    assert upkeep.verify_all(again.engine, deep=True).findings == ()
    again.close()


def test_an_act_that_was_recorded_twice_is_done_again_once(forced: list[Item], restored: House) -> None:
    """If it failed, a record that was sent twice, as any message may be, would do an operator's act twice."""
    tally = recover(restored, [*forced, forced[-1]])
    assert (tally.acts, restored.order("o").epoch) == (1, 1)
    assert recover(restored, forced).acts == 0, "and none, when it is run again"


def test_an_act_that_does_not_fit_any_more_is_told(life: Life, restored: House) -> None:
    """If it failed, an operator would believe that the order was aborted."""
    restored.handle(placed("aborted", message_id="another", data=None))
    for step, event in (("reserve_inventory", "InventoryReserved"), ("take_payment", "PaymentTaken"), ("email_invoice", "InvoiceEmailed")):
        restored.handle(answer("aborted", step, event, message_id=f"another-{event}"))
    tally = recover(restored, life.items)
    assert tally.acts == 0
    [(order_id, what)] = tally.uncertain
    assert order_id == "aborted"
    assert what.startswith("abort by ann was not done again: ")


def test_orders_that_went_on_after_the_restore_keep_what_they_did(life: Life, restored: House) -> None:
    """If it failed, a recovery that comes late would overwrite what happened meanwhile."""
    restored.handle(placed("waits", message_id="again"))
    before = [entry.hash for entry in restored.queries.history("waits")]
    recover(restored, life.items)
    assert [entry.hash for entry in restored.queries.history("waits")][: len(before)] == before
    assert restored.order("waits").state == "taking_payment"


def test_a_parked_message_whose_order_did_not_take_it_is_not_lost(small_house: House, restored: House) -> None:
    """If it failed, an event that had expired before its order opened would be in no journal, not parked, and not quarantined."""
    early = answer("late", "reserve_inventory", "InventoryReserved")
    restored.handle(early)
    life = Life(small_house)
    life.handle(placed("late"))
    tally = recover(restored, life.items)
    assert restored.verdicts("late") == [("OrderPlaced", "moved"), ("InventoryReserved", "moved")]
    assert restored.queries.parked_count() == 0
    assert (tally.messages["moved"], tally.messages["duplicate"]) == (1, 1)


def test_a_parked_message_that_its_order_took_is_applied_once(small_house: House, restored: House) -> None:
    """If it failed, an event would be applied twice, or wait for ever for an order that is open."""
    early = answer("late", "reserve_inventory", "InventoryReserved")
    restored.handle(early)
    life = Life(small_house)
    life.handle(early)
    life.handle(placed("late"))
    recover(restored, life.items)
    assert [entry.hash for entry in restored.queries.history("late")] == [entry.hash for entry in small_house.queries.history("late")]
    assert restored.queries.parked_count() == 0


def test_a_parked_message_that_cannot_be_applied_any_more_is_quarantined(small_house: House, restored: House) -> None:
    """If it failed, an event from somebody who was not asked would be dropped without a word."""
    restored.handle(answer("late", "reserve_inventory", "InventoryReserved", source="payment"))
    life = Life(small_house)
    life.handle(placed("late"))
    tally = recover(restored, life.items)
    assert [row.reason for row in restored.queries.quarantine()[0]] == ["wrong_source"]
    assert (tally.messages["quarantined"], len(tally.uncertain)) == (1, 1)
    assert restored.queries.parked_count() == 0


def test_what_was_announced_is_announced_again_under_its_own_id(life: Life, restored: House) -> None:
    """If it failed, somebody who waits for OrderCompleted would wait for ever; or take two for two."""
    recover(restored, life.items)
    with restored.store.transaction() as tx:
        left = tx.take_over(["done"], "worker-9")
    assert [message.message_type for message in left] == ["OrderCompleted"]


def test_a_message_that_nobody_can_read_is_quarantined_again(life: Life, restored: House) -> None:
    """If it failed, one stray message would end the recovery."""
    stray = Heard(wire=replace(encode(placed("x").input.envelope), content_type="text/plain"))  # type: ignore[union-attr]
    tally = recover(restored, [*life.items, stray])
    assert tally.messages["quarantined"] == 1
    assert [row.reason for row in restored.queries.quarantine()[0]] == ["malformed"]


def test_what_stands_is_counted_for_a_person(life: Life, restored: House) -> None:
    """If it failed, a recovery would end in a traceback, or not say what is asked again."""
    recover(restored, life.items)
    stands = standing(restored.engine)
    assert (stands.orders, stands.parked, stands.outstanding) == (3, ["nobody"], {"inventory": 1, "payment": 1})


def test_an_item_that_cannot_be_made_an_input_is_quarantined_and_the_rest_is_recovered(life: Life, restored: House) -> None:
    """If it failed, one entry that this release cannot read would end every recovery, and no process could start."""
    entry = next(item for item in life.items if not isinstance(item, Heard) and (item.order_id, item.seq) == ("waits", 2))
    tally = recover(restored, [*life.items, replace(entry, seq=9, input=b'{"from":"a later release"}')])
    assert histories(restored) == histories(life.house)
    assert (tally.messages["quarantined"], len(tally.uncertain)) == (1, 1)
    assert [row.reason for row in restored.queries.quarantine()[0]] == ["internal_error"]

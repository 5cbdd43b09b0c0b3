"""handle(batch): one commit, nothing lost, nothing applied twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.app.fire import due_work
from orchestrator.app.work import Work
from orchestrator.contract import Envelope
from orchestrator.errors import Conflict, MalformedMessage, StoreUnavailable
from orchestrator.loading import load_definitions
from orchestrator.saga import decide as decide_module
from orchestrator.saga import definition
from orchestrator.saga.decide import decide
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct, SentLate
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.store.transaction import SqlStore, SqlTransaction
from tests.app.house import House, answer, envelope_of, message, placed, said, unreadable_delivery


def test_a_whole_saga_in_batches_ends_completed(house: House) -> None:
    """If it failed, the main job would not be done."""
    handled = house.handle(placed("o1"), placed("o2"))
    assert said(handled.outbox) == [("o1", "ReserveInventory"), ("o2", "ReserveInventory")]
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"), answer("o2", "reserve_inventory", "InventoryRejected"))
    house.handle(answer("o1", "take_payment", "PaymentTaken", data={"payment_id": "p1"}))
    handled = house.handle(answer("o1", "email_invoice", "InvoiceEmailed"))
    assert said(handled.outbox) == [("o1", "OrderCompleted")]
    assert [house.order(order_id).status for order_id in ("o1", "o2")] == ["completed", "compensated"]
    assert {key: n for key, n in house.queries.counts().items() if n} == {
        ("order", "completed", "completed"): 1,
        ("order", "compensated", "compensated"): 1,
    }


def test_a_copy_of_a_message_is_counted_and_not_journaled(house: House) -> None:
    """If it failed, a redelivery would be applied twice, or fill the journal (R15)."""
    house.handle(placed("o1"))
    reply = answer("o1", "reserve_inventory", "InventoryReserved")
    again = answer("o1", "reserve_inventory", "InventoryReserved")
    handled = house.handle(reply, again)
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    assert [outcome.decision.verdict for _, outcome in handled.outcomes if outcome.decision] == ["moved", "duplicate"]
    assert house.verdicts("o1") == [("OrderPlaced", "moved"), ("InventoryReserved", "moved")]


def test_the_same_id_with_another_body_is_quarantined(house: House) -> None:
    """If it failed, a sender's reused id would hide a message, or be applied (R15)."""
    house.handle(placed("o1"))
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved", message_id="m1"))
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved", message_id="m1", data={"other": 1}))
    rows, _ = house.queries.quarantine()
    assert [row.reason for row in rows] == ["id_reused"]
    assert house.verdicts("o1")[-1] == ("InventoryReserved", "refused")


def test_two_sources_may_use_one_id(house: House) -> None:
    """If it failed, one sender's ids would hide another's messages."""
    house.handle(placed("o1", message_id="m1"))
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved", message_id="m1"))
    assert house.order("o1").state == "taking_payment"


def test_what_comes_before_the_order_is_parked_and_applied_when_it_opens(house: House) -> None:
    """If it failed, an event that overtook its order's opening would be lost (R15, R19)."""
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    assert house.queries.parked_count() == 1
    handled = house.handle(placed("o1"))
    assert house.queries.parked_count() == 0
    assert house.order("o1").state == "taking_payment"
    assert ("o1", "TakePayment") in said(handled.outbox)


def test_an_event_that_meets_its_opening_in_one_batch_is_applied(house: House) -> None:
    """If it failed, the two would pass each other inside a batch."""
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"), placed("o1"))
    assert house.order("o1").state == "taking_payment"


def test_an_unknown_type_is_ignored_without_a_trace_in_any_journal(house: House) -> None:
    """If it failed, a neighbour's chatter on the bus would fill our tables."""
    house.handle(placed("o1"))
    stranger = Envelope(id="x", source="weather", type="RainFell", subject="o1", data={})
    handled = house.handle(message(stranger), message(Envelope(id="y", source="weather", type="RainFell", subject="nobody", data={})))
    assert [outcome.decision.verdict for _, outcome in handled.outcomes if outcome.decision] == ["ignored", "ignored"]
    assert len(house.verdicts("o1")) == 1
    assert house.queries.parked_count() == 0


def test_what_cannot_be_read_is_quarantined_once_and_stops_nobody(house: House) -> None:
    """If it failed, one bad message would block its neighbours, or be lost."""
    bad = [Work(order_id=None, input=None, delivery=unreadable_delivery(b"?"), unreadable=MalformedMessage("no")) for _ in range(2)]
    house.handle(bad[0], placed("o1"))
    house.handle(bad[1])
    rows, _ = house.queries.quarantine()
    assert [(row.reason, row.count) for row in rows] == [("malformed", 2)]
    assert house.order("o1").state == "reserving_inventory"


def test_every_attempt_of_a_command_says_the_same(small_house: House) -> None:
    """If it failed, a participant would see two bodies under one command id and refuse the second (R6)."""
    house = small_house
    first = house.handle(placed("o1")).outbox[0]
    bodies = [envelope_of(first)]
    sent_before = [first]
    for _ in range(6):
        house.clock += timedelta(minutes=2)
        house.handle(confirmed=[sent.outbox_id for sent in sent_before])
        fired = house.handle(*due_work(house.store, 10, heard_since=first.created_at))
        sent_before = fired.outbox
        bodies += [envelope_of(sent) for sent in fired.outbox if sent.message_type == "ReserveInventory"]
    assert [body.attempt for body in bodies] == [1, 2, 3, 4]
    assert len({body.commandid for body in bodies}) == 1
    assert all(body.data == bodies[0].data for body in bodies)
    assert len({body.id for body in bodies}) == len(bodies)


def test_a_deadline_is_not_due_while_its_command_is_unconfirmed(small_house: House) -> None:
    """If it failed, a broker's outage would be taken for a participant's silence (R5)."""
    house = small_house
    sent = house.handle(placed("o1")).outbox[0]
    house.clock += timedelta(seconds=31)
    assert due_work(house.store, 10, heard_since=sent.created_at) == []
    house.handle(confirmed=[sent.outbox_id])
    assert [work.order_id for work in due_work(house.store, 10, heard_since=sent.created_at)] == ["o1"]


def test_a_late_confirm_counts_the_deadline_from_then(small_house: House) -> None:
    """If it failed, a command that lay in the outbox would have no time to be answered (R5)."""
    house = small_house
    sent = house.handle(placed("o1")).outbox[0]
    house.clock += timedelta(minutes=5)
    assert sent.command_id is not None
    house.handle(Work(order_id="o1", input=SentLate(command_id=sent.command_id)), confirmed=[sent.outbox_id])
    assert house.order("o1").deadlines["reply:reserve_inventory.0.1"].due_at == house.clock + timedelta(seconds=30)
    assert house.queries.outbox_size() == 0


def test_a_reply_deadline_armed_before_anyone_heard_is_excused(small_house: House) -> None:
    """If it failed, our own outage would cost participants their attempts (R9)."""
    house = small_house
    sent = house.handle(placed("o1")).outbox[0]
    house.clock += timedelta(minutes=1)
    house.handle(confirmed=[sent.outbox_id])
    house.handle(*due_work(house.store, 10, heard_since=house.clock))
    ask = house.order("o1").asks["reserve_inventory.0.1"]
    assert (ask.forward, ask.attempts) == ("asked", 1)


def test_a_reply_before_its_deadline_in_one_batch_wins(small_house: House) -> None:
    """If it failed, a reply that had come would lose against a deadline handled with it (R9)."""
    house = small_house
    sent = house.handle(placed("o1")).outbox[0]
    house.clock += timedelta(seconds=31)
    due = Work(order_id="o1", input=DeadlineDue(name="reply:reserve_inventory.0.1", generation=2))
    handled = house.handle(due, answer("o1", "reserve_inventory", "InventoryReserved"), confirmed=[sent.outbox_id])
    assert [outcome.decision.verdict for _, outcome in handled.outcomes if outcome.decision] == ["moved", "ignored"]
    assert house.order("o1").state == "taking_payment"


def test_a_worker_that_writes_for_an_order_sends_the_older_messages_first(house: House) -> None:
    """If it failed, an undo could leave before the command it undoes (R17)."""
    house.handle(placed("o1"))
    second = house.as_worker("worker-2")
    act = OperatorAct(act="abort", actor="op", reason="test", seq=1)
    handled = house.handle(Work(order_id="o1", input=act), context=second)
    assert said(handled.outbox) == [("o1", "ReserveInventory"), ("o1", "ReleaseInventory")]
    assert {sent.owner for sent in handled.outbox} == {"worker-2"}


def test_an_answer_takes_its_command_out_of_the_outbox(house: House) -> None:
    """If it failed, an answered command would be sent again by an adopter (R17)."""
    house.handle(placed("o1"))
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    adopted = house.handle(answer("o1", "take_payment", "PaymentTaken"), context=house.as_worker("worker-2")).outbox
    assert said(adopted) == [("o1", "EmailInvoice")]


def test_a_dry_run_changes_nothing(house: House) -> None:
    """If it failed, looking at a plan would carry it out (R21)."""
    house.handle(placed("o1"))
    act = OperatorAct(act="abort", actor="op", reason="test", seq=1)
    handled = house.handle(Work(order_id="o1", input=act, dry_run=True))
    planned = handled.outcomes[0][1].order
    assert planned is not None
    assert planned.state == "undoing_reserve_inventory"
    assert handled.outbox == []
    assert house.order("o1").state == "reserving_inventory"


def test_an_act_on_an_order_that_is_not_there_finds_nothing(house: House) -> None:
    """If it failed, a slip of the pen would make an order, or an error of ours."""
    handled = house.handle(Work(order_id="nobody", input=OperatorAct(act="abort", actor="op", reason="test", seq=1)))
    assert handled.outcomes[0][1].order is None


def test_a_bug_of_ours_sets_one_message_aside_and_spares_its_neighbours(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, one message could stop the line, or vanish."""
    house.handle(placed("o1"), placed("o2"))

    def wrong_for_o1(rulebook: Rulebook, order: Order | None, input_: Input, now: datetime, **_: object) -> Decision:
        if order is not None and order.order_id == "o1":
            raise ZeroDivisionError("planted")
        return decide(rulebook, order, input_, now)

    monkeypatch.setattr(decide_module, "decide", wrong_for_o1)
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"), answer("o2", "reserve_inventory", "InventoryReserved"))
    rows, _ = house.queries.quarantine()
    assert [(row.reason, row.order_id) for row in rows] == [("internal_error", "o1")]
    assert [house.order(order_id).state for order_id in ("o1", "o2")] == ["reserving_inventory", "taking_payment"]


def test_a_database_that_is_away_for_a_moment_is_not_charged_to_a_message(small_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition is read on a connection of its own: otherwise good messages would go to the quarantine when there is none free."""

    def away(*_: object) -> bytes:
        raise StoreUnavailable("too many connections")

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "stored_definition", away)
        with pytest.raises(StoreUnavailable):
            small_house.handle(placed("o1"))
    assert small_house.queries.quarantine()[0] == []
    small_house.handle(placed("o1"))
    assert small_house.order("o1").state == "reserving_inventory"


def test_a_deadline_that_makes_us_raise_is_put_off_and_comes_back(small_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a bug would be hit in a hot loop, or the deadline would be forgotten."""
    house = small_house
    sent = house.handle(placed("o1")).outbox[0]
    house.handle(confirmed=[sent.outbox_id])
    house.clock += timedelta(seconds=31)
    works = due_work(house.store, 10, heard_since=sent.created_at)
    with monkeypatch.context() as patched:
        patched.setattr(decide_module, "decide", lambda *_, **__: 1 / 0)
        house.handle(*works)
    assert due_work(house.store, 10, heard_since=sent.created_at) == []
    house.clock += timedelta(seconds=2)
    assert len(due_work(house.store, 10, heard_since=sent.created_at)) == 1


def test_an_opening_with_other_data_is_quarantined_and_with_equal_data_a_duplicate(house: House) -> None:
    """If it failed, one id could stand for two orders (R16)."""
    house.handle(placed("o1"))
    house.handle(placed("o1", message_id="again"))
    house.handle(placed("o1", message_id="other", data={"amount_minor": 1}))
    assert house.verdicts("o1") == [("OrderPlaced", "moved"), ("OrderPlaced", "duplicate"), ("OrderPlaced", "refused")]
    assert [row.reason for row in house.queries.quarantine()[0]] == ["order_exists"]


def test_an_order_over_rest_that_is_refused_leaves_nothing_behind(house: House) -> None:
    """If it failed, a caller's mistake, which it is told of, would look like a message that an operator must see to (R16)."""
    house.handle(placed("o1"))
    work = replace(placed("o1", message_id="other", data={"amount_minor": 1}), delivery=None, definition=("order", 1))
    [(_, outcome)] = house.handle(work).outcomes
    assert isinstance(outcome.error, Conflict)
    assert outcome.decision is not None
    assert (outcome.decision.verdict, outcome.decision.quarantine, outcome.order) == ("refused", None, house.order("o1"))
    assert house.verdicts("o1") == [("OrderPlaced", "moved")]
    assert house.queries.quarantine()[0] == []


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_parked_message_hides_no_other_of_its_id(house: House, in_one_batch: bool) -> None:
    """If it failed, the second of two messages under one id would be dropped without a trace (R15)."""
    first, copy, other = (answer("o1", "reserve_inventory", "InventoryReserved", message_id="m1", data={"n": n}) for n in (1, 1, 2))
    batches = [[first, copy, other]] if in_one_batch else [[first], [copy], [other]]
    outcomes = [outcome for batch in batches for _, outcome in house.handle(*batch).outcomes]
    assert [outcome.decision.verdict for outcome in outcomes if outcome.decision] == ["parked", "duplicate", "refused"]
    assert [(row.reason, row.order_id) for row in house.queries.quarantine()[0]] == [("id_reused", "o1")]
    house.handle(placed("o1"))
    assert house.order("o1").replies == {"reserve_inventory": {"n": 1}}


def test_what_becomes_of_parked_messages_is_told_like_all_else(house: House) -> None:
    """If it failed, messages would be quarantined, and commands sent, that no counter and no log line knows of."""
    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"), answer("o1", "take_payment", "PaymentTaken", source="thief"))
    outcomes = house.handle(placed("o1")).outcomes
    assert [outcome.decision.verdict for _, outcome in outcomes if outcome.decision] == ["moved", "moved", "refused"]
    assert [command.name for _, outcome in outcomes if outcome.decision for command in outcome.decision.commands] == [
        "ReserveInventory",
        "TakePayment",
    ]
    [row], _ = house.queries.quarantine()
    assert [outcome.decision.quarantine for _, outcome in outcomes if outcome.decision][-1] == row.reason == "wrong_source"


def test_a_parked_message_that_makes_us_raise_goes_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a bug in an early event would cost the order that it came too early for."""

    def wrong_for_replies(rulebook: Rulebook, order: Order | None, input_: Input, now: datetime, **_: object) -> Decision:
        return decide(rulebook, None, input_, now) if order is None else 1 / 0  # type: ignore[return-value]

    house.handle(answer("o1", "reserve_inventory", "InventoryReserved"))
    monkeypatch.setattr(decide_module, "decide", wrong_for_replies)
    house.handle(placed("o1"))
    assert (house.order("o1").state, house.queries.parked_count()) == ("reserving_inventory", 0)
    [row], _ = house.queries.quarantine()
    assert (row.reason, row.message_type) == ("internal_error", "InventoryReserved")


def test_a_parked_message_may_be_larger_as_it_is_kept(house: House) -> None:
    """If it failed, an order could not open for a message that was taken in another form."""
    early = answer("o1", "reserve_inventory", "InventoryReserved", data={"x": [1e15] * 6_000})
    house.handle(early)
    house.handle(placed("o1"))
    assert house.order("o1").state == "taking_payment"


def test_a_copy_that_its_sender_stamped_anew_is_a_copy(house: House) -> None:
    """If it failed, a library that traces every sending would fill the quarantine with true copies."""
    house.handle(placed("o1"))
    reply = answer("o1", "reserve_inventory", "InventoryReserved")
    assert isinstance(reply.input, Message)
    again = replace(reply.input.envelope, time=datetime(2026, 11, 21, tzinfo=UTC), traceparent="00-1-2-01", causationid="c")
    house.handle(reply)
    [(_, outcome)] = house.handle(message(again)).outcomes
    assert outcome.decision is not None
    assert outcome.decision.verdict == "duplicate"


def test_unknown_types_cost_one_look_a_batch(small_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a neighbour's chatter would slow down every order."""
    house = small_house
    looks: list[bool] = []
    is_writing = False
    known_types, transaction = SqlStore.known_types, SqlStore.transaction

    def counted(store: SqlStore) -> frozenset[str]:
        looks.append(is_writing)
        return known_types(store)

    @contextmanager
    def noted(store: SqlStore) -> Iterator[SqlTransaction]:
        nonlocal is_writing
        with transaction(store) as tx:
            is_writing = True
            yield tx
        is_writing = False

    monkeypatch.setattr(SqlStore, "known_types", counted)
    monkeypatch.setattr(SqlStore, "transaction", noted)
    house.handle(*(message(Envelope(id=f"{n}", source="weather", type=f"Rain{n}", subject="o1", data={})) for n in range(20)))
    assert looks == [False]


def test_a_type_that_another_release_registers_is_known_at_once(house: House) -> None:
    """If it failed, a worker of the old release would ignore, or park, what the new one registered (R30)."""
    gift = message(Envelope(id="g", source="shop", type="GiftPlaced", subject="g1", data={"order_id": "g1"}))
    assert [outcome.decision.verdict for _, outcome in house.handle(gift).outcomes if outcome.decision] == ["ignored"]
    text = Path(definition.__file__).parent.parent.joinpath("definitions", "order.yaml").read_text(encoding="utf-8")
    text = text.replace("definition: order", "definition: gift").replace("OrderPlaced", "GiftPlaced")
    house.store.register(load_definitions(None, extra=[definition.read(text, "gift.yaml")]))
    house.handle(gift)
    assert house.order("g1").definition == "gift"

"""Watched steps: others bring them about, and they are asked only when those stay silent (R1, R6, R9, R11, R12, R22, R23)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.contract import COMMAND_TOO_LATE, canonical, command_id, first_command_id, undo_id
from orchestrator.saga.decision import Decision
from orchestrator.saga.order import Ask
from orchestrator.saga.standing import waiting_on
from tests.saga.listening import ORDER_WATCHED_RULES, WATCHED_RULES
from tests.saga.world import DATA, Story, compiled, story

STOCK, LABEL, BILL, SEND = ("inventory", "StockTaken"), ("printer", "LabelPrinted"), ("bank", "Billed"), ("post", "Sent")
SHELF = {"shelf": 3}


def placed() -> Story:
    """An order of the shipped definition: updating_inventory is watched, and emailing_invoice is still to come."""
    return story(rulebook=ORDER_WATCHED_RULES)


def shipping(*done: str) -> Story:
    """An order with four watched steps, of which these have come about, and one that is asked."""
    told = story(rulebook=WATCHED_RULES)
    for step in done:
        rule = WATCHED_RULES.by_name[step]
        heard(told, rule.done_on, rule.participant, data=SHELF)
    return told


def billing() -> Story:
    """An order that has come to its watched pivot."""
    told = shipping("stock", "label")
    told.answer("weigh")
    assert told.order.state == "bill"
    return told


def heard(told: Story, type_: str, source: str, *, commandid: str | None = None, data: dict[str, Any] | None = None) -> Decision:
    """An event comes, by default without a commandid, as others' events do."""
    return told.feed(told.message(type_, source=source, commandid=commandid, data=data))


def ledger(told: Story) -> dict[str, tuple[str, str]]:
    """How each ask stands, both ways."""
    return {ask.key: (ask.forward, ask.undo) for ask in told.order.asks.values()}


def test_a_choreography_runs_to_its_end_and_nothing_is_asked() -> None:
    """Else Escrow does again what others do."""
    told = placed()
    heard(told, "InventoryUpdated", "inventory")
    heard(told, "InvoiceEmailed", "invoice", data={"invoice": 7})
    assert (told.order.status, told.sent, told.announced) == ("completed", [], ["OrderCompleted"])
    assert told.order.replies == {"update_inventory": {}, "email_invoice": {"invoice": 7}}


def test_the_first_ask_has_the_id_that_is_known_without_us() -> None:
    """Else a participant's work and our command are two, and our undo names nothing (R6)."""
    told = placed()
    ask = told.ask("update_inventory")
    assert (ask.epoch, ask.round, ask.forward, ask.attempts) == (0, 1, "idle", 0)
    assert ask.command_id == first_command_id("o1", "update_inventory") == command_id("o1", 0, "update_inventory", 1)
    told.silence("update_inventory")
    assert [(command.command_id, command.attempt, command.data) for command in told.last.commands] == [(ask.command_id, 1, dict(told.data))]


@pytest.mark.parametrize("named", [True, False], ids=["with commandid", "without"])
def test_an_event_of_the_present_step_moves_the_order(named: bool) -> None:
    """Else events of a choreography are lost, with or without the id that the kit gives them (R1)."""
    told = placed()
    commandid = first_command_id("o1", "update_inventory") if named else None
    assert heard(told, "InventoryUpdated", "inventory", commandid=commandid).verdict == "moved"
    assert told.order.state == "emailing_invoice"


@pytest.mark.parametrize("named", [True, False], ids=["with commandid", "without"])
def test_an_event_of_a_step_to_come_is_kept_and_applied_when_it_is_reached(named: bool) -> None:
    """Else what came early is lost, and asked for once more (R1, R15)."""
    told = placed()
    commandid = first_command_id("o1", "email_invoice") if named else None
    early = heard(told, "InvoiceEmailed", "invoice", commandid=commandid, data={"invoice": 7})
    assert (early.verdict, told.order.state, list(told.order.parked)) == ("parked", "updating_inventory", ["2"])
    assert (told.journal[-1].message_id, told.journal[-1].cause_seq) == ("m2", None)
    heard(told, "InventoryUpdated", "inventory")
    assert (told.order.status, told.order.parked) == ("completed", {})
    assert (told.journal[-1].message_id, told.journal[-1].cause_seq, told.journal[-1].name) == (None, 2, "InvoiceEmailed")


def test_an_early_refusal_counts_when_the_order_comes_to_it() -> None:
    """Else an order waits for a step that will never be done."""
    told = placed()
    assert heard(told, "InvoiceRejected", "invoice").verdict == "parked"
    heard(told, "InventoryUpdated", "inventory")
    assert (told.order.cause, told.sent) == ("refused", ["RestoreInventory"])
    assert not told.order.pivot_passed


def test_of_an_early_refusal_and_an_early_success_the_first_counts_and_the_other_is_undone() -> None:
    """Else two words of a participant leave the order between them."""
    told = placed()
    heard(told, "InvoiceRejected", "invoice")
    heard(told, "InvoiceEmailed", "invoice")
    heard(told, "InventoryUpdated", "inventory")
    assert told.sent == ["RestoreInventory", "CancelInvoice"]
    assert ledger(told)["email_invoice.0.1"] == ("done", "asked")


@pytest.mark.parametrize(
    ("type_", "source", "commandid", "verdict", "quarantine"),
    [
        ("InventoryUpdated", "stranger", None, "refused", "wrong_source"),
        ("InvoiceEmailed", "inventory", None, "refused", "wrong_source"),
        ("InvoiceEmailed", "invoice", "other", "refused", "unknown_command"),
        ("InvoiceEmailed", "inventory", first_command_id("o1", "email_invoice"), "refused", "wrong_source"),
        ("InventoryUpdated", "invoice", first_command_id("o1", "email_invoice"), "ignored", None),
        ("InventoryUpdated", "inventory", command_id("o1", 0, "update_inventory", 2), "refused", "unknown_command"),
        ("InventoryRestored", "inventory", None, "refused", "no_commandid"),
        ("InventoryRestored", "inventory", undo_id(first_command_id("o1", "update_inventory")), "refused", "unknown_command"),
        (COMMAND_TOO_LATE, "invoice", first_command_id("o1", "email_invoice"), "ignored", None),
        ("InvoiceCancelled", "invoice", first_command_id("o1", "email_invoice"), "ignored", None),
        ("Nothing", "inventory", None, "ignored", None),
    ],
)
def test_what_does_not_fit_changes_nothing(type_: str, source: str, commandid: str | None, verdict: str, quarantine: str | None) -> None:
    """Else anyone's event moves the order, or is kept for a step that it does not answer (R1)."""
    told = placed()
    before = told.order
    decision = heard(told, type_, source, commandid=commandid)
    assert (decision.verdict, decision.quarantine) == (verdict, quarantine)
    assert (told.order.asks, told.order.deadlines, told.order.parked) == (before.asks, before.deadlines, {})


def test_the_event_of_before_the_command_is_a_duplicate() -> None:
    """Else an answer to our command and the event that it repeats move the order twice."""
    told = placed()
    told.silence("update_inventory")
    told.answer("update_inventory")
    seen = told.order
    assert heard(told, "InventoryUpdated", "inventory").verdict == "duplicate"
    assert (told.order.state, told.order.asks) == (seen.state, seen.asks)


def test_the_event_itself_answers_the_command_that_was_sent_meanwhile() -> None:
    """Else the order waits for an answer that is there."""
    told = placed()
    told.silence("update_inventory")
    assert heard(told, "InventoryUpdated", "inventory").answered == (first_command_id("o1", "update_inventory"),)
    assert told.order.state == "emailing_invoice"


def test_an_event_twice_too_early_counts_once() -> None:
    """Else the second one is kept for a turn that never comes."""
    told = placed()
    heard(told, "InvoiceEmailed", "invoice", data={"invoice": 1})
    heard(told, "InvoiceEmailed", "invoice", data={"invoice": 2})
    heard(told, "InventoryUpdated", "inventory")
    assert [decision.verdict for decision in told.decisions[-2:]] == ["moved", "duplicate"]
    assert (told.order.replies["email_invoice"], told.order.parked) == ({"invoice": 1}, {})


def test_an_order_keeps_sixteen_early_events_and_a_human_sees_the_others() -> None:
    """Else one order grows without end, or what does not fit is gone."""
    told = placed()
    for _ in range(16):
        assert heard(told, "InvoiceEmailed", "invoice").verdict == "parked"
    decision = heard(told, "InvoiceEmailed", "invoice")
    assert (decision.verdict, decision.quarantine, len(told.order.parked)) == ("refused", "parked_full", 16)
    heard(told, "InventoryUpdated", "inventory")
    assert (told.order.status, told.order.parked) == ("completed", {})


def test_what_is_kept_survives_a_refused_guard_only_as_that_refusal() -> None:
    """Else an early event that its guard refuses is tried for ever, or taken without the guard."""
    told = story(rulebook=compiled(GUARDED_LATER), data={**DATA, "x": 1})
    assert heard(told, "BDone", "b", data={"ok": False}).verdict == "parked"
    heard(told, "ADone", "a")
    assert [decision.verdict for decision in told.decisions[-2:]] == ["moved", "refused"]
    assert (told.order.state, told.order.parked, ledger(told)["b.0.1"]) == ("b", {}, ("idle", "none"))
    told.silence("b")
    assert told.sent == ["DoB"]


GUARDED_LATER = """
definition: guarded
version: 1
opens_on: Opened
key: order_id
patience: 1h
steps:
  - {step: a, ask: a, command: DoA, send: on_silence, done_on: ADone, deadline: 1m, undo: {command: UndoA, done_on: AUndone, deadline: 1m}}
  - {step: b, ask: b, command: DoB, send: on_silence, done_on: BDone, done_when: event.ok, with: {x: order.x}, deadline: 1m,
     undo: {command: UndoB, with: {x: order.x}, done_on: BUndone, deadline: 1m}}
"""


def test_turning_back_counts_what_was_kept_and_undoes_all_in_reverse_of_the_definition() -> None:
    """Else what others did before their turn stays, or is undone before what was built on it (R11)."""
    told = shipping("stock")
    heard(told, "Sent", "post")
    heard(told, "Billed", "bank")
    told.act("abort")
    assert told.order.parked == {}
    assert ledger(told) == {
        "stock.0.1": ("done", "none"),
        "label.0.1": ("unknown", "none"),
        "weigh.0.1": ("unknown", "none"),
        "bill.0.1": ("done", "none"),
        "send.0.1": ("done", "asked"),
    }
    undone = []
    while told.order.direction == "undoing":
        [ask] = [ask for ask in told.order.asks.values() if ask.undo_is_open]
        undone.append(ask.step)
        told.answer(ask.step, undo=True)
    assert undone == ["send", "bill", "label", "stock"]
    assert (told.order.status, told.announced) == ("compensated", ["ShippingOff"])


def test_what_was_kept_is_journaled_before_the_input_that_turns_the_order_back() -> None:
    """Else the history does not say why an effect was undone (R15)."""
    told = placed()
    heard(told, "InvoiceEmailed", "invoice")
    told.act("abort")
    kept, abort = told.journal[-2:]
    assert (kept.name, kept.cause_seq, kept.verdict, abort.name) == ("InvoiceEmailed", 2, "moved", "abort")
    assert canonical.load(kept.input)["at_last"] is True
    assert (told.order.direction, told.sent) == ("undoing", ["CancelInvoice"])


def test_a_refusal_that_was_kept_is_no_effect() -> None:
    """Else a step that its participant refused is undone."""
    told = placed()
    heard(told, "InvoiceRejected", "invoice")
    told.act("abort")
    assert (ledger(told)["email_invoice.0.1"], told.sent) == (("refused", "none"), ["RestoreInventory"])


@pytest.mark.parametrize("how", ["abort", "event", "patience", "refused", "silence"])
def test_whatever_turns_the_order_back_stops_what_others_may_still_do(how: str) -> None:
    """Else a choreography goes on after its order was undone (R11)."""
    told = placed()
    turns = {
        "abort": lambda: told.act("abort"),
        "event": lambda: heard(told, "OrderCancelRequested", "shop"),
        "patience": lambda: told.due("patience"),
        "refused": lambda: heard(told, "InventoryRejected", "inventory"),
        "silence": lambda: [told.silence("update_inventory"), told.exhaust("update_inventory")][-1],
    }
    turns[how]()
    invoice: Ask = told.ask("email_invoice")
    assert (invoice.forward, invoice.undo, invoice.epoch, invoice.round) == ("unknown", "asked", 0, 1)
    assert [(command.name, command.undoes) for command in told.last.commands] == [
        ("CancelInvoice", first_command_id("o1", "email_invoice"))
    ]
    told.answer("email_invoice", undo=True)
    if how != "refused":
        assert told.last.commands[-1].undoes == first_command_id("o1", "update_inventory")
        told.answer("update_inventory", undo=True)
    assert told.order.status == "compensated"


def test_a_success_after_the_tombstone_is_undone_once_more() -> None:
    """Else what others did all the same stays (R14)."""
    told = placed()
    told.act("abort")
    decision = heard(told, "InvoiceEmailed", "invoice")
    assert (decision.verdict, [(command.name, command.attempt) for command in decision.commands]) == ("late", [("CancelInvoice", 2)])
    told.answer("email_invoice", undo=True)
    told.answer("update_inventory", undo=True)
    assert heard(told, "InventoryUpdated", "inventory").verdict == "late"
    assert (told.order.state, told.order.status, told.sent[-1]) == ("compensated", "undoing", "RestoreInventory")
    told.answer("update_inventory", undo=True)
    assert told.order.status == "compensated"
    assert told.announced == ["OrderCancelled"]


def test_a_watched_pivot_is_passed_when_it_is_reached() -> None:
    """Else an order that others are already completing is undone (R12)."""
    told = billing()
    assert (told.order.pivot_passed, told.last.commands, "patience" in told.order.deadlines) == (True, (), False)
    assert told.act("abort").problem == "conflict"
    assert heard(told, "ShippingCancelled", "shop").verdict == "late"


def test_before_it_is_reached_the_pivots_own_undo_stops_it() -> None:
    """Else a pivot that was done too early stays, though its order was undone (R11)."""
    told = shipping()
    heard(told, "Billed", "bank")
    told.act("abort")
    told.answer("send", undo=True)
    assert told.last.commands[0].name == "Credit"
    assert not told.order.pivot_passed


def test_a_pivot_that_stays_silent_is_asked_without_end() -> None:
    """Else an order is given up behind its point of no return."""
    told = billing()
    told.silence("bill")
    assert told.sent[-1] == "Bill"
    for _ in range(4):
        told.silence("bill")
        told.due(f"retry:{told.ask('bill').key}")
    assert (told.order.status, told.ask("bill").forward, told.ask("bill").attempts) == ("stuck", "asked", 5)
    heard(told, "Billed", "bank")
    assert told.order.state == "send"


def test_a_pivot_that_is_refused_turns_the_order_back() -> None:
    """Else nobody can undo what came before it."""
    told = billing()
    heard(told, "BillRefused", "bank")
    assert (told.order.direction, told.order.pivot_passed, told.sent[-1]) == ("undoing", False, "CallBack")


def test_a_refusal_after_the_pivot_waits_for_a_human_who_asks_by_command() -> None:
    """Else an order hangs, or a refused step is watched for ever."""
    told = billing()
    heard(told, "Billed", "bank")
    heard(told, "SendRefused", "post")
    assert told.order.status == "stuck"
    told.act("retry")
    ask = told.ask("send")
    assert (ask.epoch, ask.round, ask.forward, told.sent[-1]) == (0, 2, "asked", "Send")
    told.answer("send")
    assert told.order.state == "completed"


def test_silence_that_nobody_could_hear_asks_nothing() -> None:
    """Else an outage of ours sends commands for what others have done (R9)."""
    told = placed()
    told.due("reply:update_inventory.0.1", excused=True)
    assert (told.sent, told.ask("update_inventory").forward) == ([], "idle")
    assert "reply:update_inventory.0.1" in told.order.deadlines
    told.silence("update_inventory")
    assert told.sent == ["UpdateInventory"]


def test_a_hold_stops_the_watch_and_not_the_events() -> None:
    """Else a held order is asked about, or misses what happens (R23)."""
    told = placed()
    told.wait(seconds=20)
    told.act("hold")
    assert told.order.deadlines["reply:update_inventory.0.1"].remaining_ms == 10_000
    assert heard(told, "InvoiceEmailed", "invoice").verdict == "parked"
    told.wait(hours=1)
    told.act("release")
    told.wait(seconds=9)
    assert told.order.deadlines["reply:update_inventory.0.1"].due_at is not None
    told.act("hold")
    heard(told, "InventoryUpdated", "inventory")
    assert (told.order.status, told.order.deadlines) == ("completed", {})


def test_what_a_command_cannot_compute_when_others_stay_silent_turns_the_order_back() -> None:
    """Else a missing field stops the order for ever, behind a deadline that fires again and again."""
    told = story(rulebook=compiled(GUARDED_LATER))
    heard(told, "ADone", "a")
    decision = told.silence("b")
    assert (told.order.cause, told.order.direction) == ("expression", "undoing")
    assert "order.x" in (decision.reason or "")
    assert [(command.name, command.data) for command in decision.commands] == [("UndoB", {"x": None})]
    assert decision.alerts


def test_after_the_pivot_what_cannot_be_computed_calls_a_human_and_is_tried_again() -> None:
    """Else a living order has nobody who brings it on (R27)."""
    text = GUARDED_LATER.replace("send: on_silence, done_on: ADone", "pivot: true, send: on_silence, done_on: ADone")
    told = story(rulebook=compiled(text))
    heard(told, "ADone", "a")
    decision = told.silence("b")
    assert (told.order.cause, told.order.direction, len(decision.alerts)) == ("expression", "forward", 1)
    assert told.act("retry").problem == "conflict"
    assert told.silence("b").alerts
    heard(told, "BDone", "b", data={"ok": True})
    assert told.order.status == "completed"


def test_a_retry_asks_at_once_by_command() -> None:
    """Else an operator waits for a silence they know of."""
    told = placed()
    told.act("retry")
    assert [(command.name, command.command_id) for command in told.last.commands] == [
        ("UpdateInventory", first_command_id("o1", "update_inventory"))
    ]
    assert told.ask("update_inventory").forward == "asked"


def test_a_skip_goes_on_and_what_comes_of_it_is_known_and_undone() -> None:
    """Else a step that was passed over while it was watched is forgotten (R22)."""
    told = shipping()
    told.act("skip", step="stock")
    assert (told.order.state, ledger(told)["stock.0.1"]) == ("prepare", ("unknown", "none"))
    assert heard(told, "StockTaken", "inventory", data=SHELF).verdict == "moved"
    assert (told.order.state, ledger(told)["stock.0.1"]) == ("prepare", ("done", "none"))
    told.act("abort")
    for step in ("send", "bill", "label", "stock"):
        told.answer(step, undo=True)
    assert told.order.status == "compensated"


def test_a_force_past_watched_steps_keeps_them_for_the_way_back() -> None:
    """Else a choreography that an operator overtook can never be stopped (R11, R22)."""
    told = shipping()
    heard(told, "LabelPrinted", "printer")
    told.act("force", to="bill")
    assert told.order.parked == {}
    assert ledger(told)["stock.0.1"] == ("unknown", "asked")
    assert ledger(told)["weigh.1.1"] == ("skipped", "none")
    assert ledger(told)["bill.0.1"] == ("idle", "none")
    heard(told, "BillRefused", "bank")
    assert {ask.step for ask in told.order.asks.values() if ask.undo_is_open} == {"stock", "send"}


def test_a_force_over_steps_that_were_not_reached_leaves_them_to_others() -> None:
    """Else what others do later is an event that nobody knows, or is undone though the order goes on."""
    told = shipping()
    told.act("force", to="bill")
    assert ledger(told)["label.0.1"] == ("unknown", "none")
    assert heard(told, "LabelPrinted", "printer").verdict == "moved"
    assert ledger(told)["label.0.1"] == ("done", "none")


def test_a_force_back_to_a_watched_step_asks_it_by_command() -> None:
    """Else the order waits for an event that has come already."""
    told = shipping("stock")
    told.act("force", to="stock")
    asks = [ask for ask in told.order.asks.values() if ask.step == "stock"]
    assert [(ask.key, ask.forward, ask.undo) for ask in asks] == [("stock.0.1", "done", "asked"), ("stock.1.1", "asked", "none")]
    assert heard(told, "StockTaken", "inventory", data=SHELF).verdict == "duplicate"
    told.answer("stock", data=SHELF)
    assert told.order.state == "prepare"


def test_a_force_to_the_end_leaves_nothing_kept() -> None:
    """Else an ended order goes on keeping events."""
    told = placed()
    heard(told, "InvoiceEmailed", "invoice")
    told.act("force", to="completed")
    assert (told.order.state, told.order.parked, ledger(told)["email_invoice.0.1"]) == ("completed", {}, ("done", "none"))
    told.answer("update_inventory", undo=True)
    assert told.order.status == "completed"


def test_an_abandoned_order_lists_what_others_may_still_do_and_keeps_nothing() -> None:
    """Else an effect of a choreography is left standing and nobody is told (R10)."""
    told = placed()
    heard(told, "InvoiceEmailed", "invoice")
    told.act("abandon", admin=True)
    assert canonical.load(told.journal[-1].effects)["left_standing"] == ["update_inventory.0.1", "email_invoice.0.1"]
    decision = heard(told, "InventoryUpdated", "inventory")
    assert (decision.verdict, told.order.parked) == ("late", {})
    assert (decision.reason or "").startswith("left_standing")


def test_beside_a_step_that_is_asked_a_watched_one_joins() -> None:
    """Else a block waits for ever, or goes on too soon."""
    told = shipping("stock")
    assert [wait["step"] for wait in waiting_on(WATCHED_RULES, told.order)] == ["label", "weigh"]
    told.answer("weigh")
    assert told.order.state == "prepare"
    heard(told, "LabelPrinted", "printer")
    assert told.order.state == "bill"


def test_the_same_message_again_is_no_second_event() -> None:
    """Else a redelivery of an early event is kept twice."""
    told = placed()
    message = told.message("InvoiceEmailed", source="invoice")
    told.feed(message)
    decision = told.feed(replace(message, seen="same"))
    assert (decision.verdict, decision.entry, len(told.order.parked)) == ("duplicate", None, 1)

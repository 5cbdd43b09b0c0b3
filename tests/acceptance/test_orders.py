"""How orders end: done, refused, silent, aborted. Real participants, or the test in their place."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.contract import Envelope, command_id, undo_id
from tests.acceptance.installation import Installation
from tests.acceptance.stories import ATTEMPTS, BRISK, CALM, ORDER, SWIFT
from tests.support.processes import eventually

pytestmark = pytest.mark.real

#: How late a deadline may fire here, in seconds: two cores are shared with everything else.
TOLERANCE_S = 1.5


def test_an_order_goes_from_placed_to_invoiced(escrow: Installation) -> None:
    """Nothing would work: each participant does its part once, and the end is announced once."""
    heard = escrow.played.listen()
    before = escrow.totals("inventory")["reserved"]
    order_id = escrow.place(ORDER)
    order = escrow.wait(order_id, "completed", state="completed")
    assert order["waiting_on"] == []
    assert order["cause"] is None
    assert [name for name, _, _ in escrow.sendings(order_id)] == ["ReserveInventory", "TakePayment", "EmailInvoice"]
    assert escrow.totals("inventory")["reserved"] == before + 1
    eventually(lambda: escrow.played.heard(heard, order_id) == ["OrderCompleted"], what="the announcement")


def test_an_order_is_opened_by_its_event(escrow: Installation) -> None:
    """A shop that only knows the bus could place no orders."""
    order_id = escrow.new_id()
    escrow.played.say(escrow.opening(ORDER, order_id))
    eventually(lambda: escrow.api.get(f"/v1/orders/{order_id}").status_code == 200, 30, what="it opens")
    escrow.wait(order_id, "completed")


def test_a_refused_payment_undoes_the_reservation(escrow: Installation) -> None:
    """Stock would stay reserved for an order that was never paid."""
    heard = escrow.played.listen()
    held = escrow.totals("inventory")["stock_held"]
    order_id = escrow.place(ORDER, amount_minor=-1)
    order = escrow.wait(order_id, "compensated", state="compensated")
    assert order["cause"] == "refused"
    assert [name for name, _, _ in escrow.sendings(order_id)] == ["ReserveInventory", "TakePayment", "ReleaseInventory"]
    assert escrow.totals("inventory")["stock_held"] == held
    eventually(lambda: escrow.played.heard(heard, order_id) == ["OrderCancelled"], what="the announcement")


def test_silence_is_asked_again_at_the_right_times_and_then_undone(escrow: Installation) -> None:
    """Orders would be given up too early, too late or never; and the silent step, which may have been done, would stand."""
    order_id = escrow.place(BRISK)
    for attempt in range(1, ATTEMPTS + 1):
        command = escrow.played.asked("ReserveInventory", order_id, attempt=attempt)
        assert command.commandid == command_id(order_id, 0, "reserve_inventory", 1)
    undo = escrow.played.asked("ReleaseInventory", order_id)
    assert (undo.commandid, undo.undoes) == (undo_id(str(command.commandid)), command.commandid)
    escrow.played.reply(undo)
    order = escrow.wait(order_id, "compensated")
    assert order["cause"] == "silence"

    times = [at for name, _, at in escrow.sendings(order_id) if name == "ReserveInventory"]
    times.append(next(at for name, _, at in escrow.sendings(order_id) if name == "ReleaseInventory"))
    backoffs = [BRISK.first_s * 2**sent for sent in range(ATTEMPTS - 1)] + [0]
    for before, after, backoff in zip(times, times[1:], backoffs, strict=False):
        least = timedelta(seconds=BRISK.deadline_s + backoff / 2)
        most = timedelta(seconds=BRISK.deadline_s + backoff + TOLERANCE_S)
        assert least <= after - before <= most, times


def test_a_participant_that_stalls_and_comes_back_ends_with_nothing_held(escrow: Installation) -> None:
    """What it did with the commands that had queued up would never be undone."""
    held = escrow.totals("inventory")["stock_held"]
    escrow.tell("inventory", stall=True)
    try:
        order_id = escrow.place(SWIFT)
        waiting = escrow.wait(order_id, "undoing", state="undoing_reserve_inventory")["waiting_on"]
        assert [wait["participant"] for wait in waiting] == ["inventory"]
    finally:
        escrow.tell("inventory")
    escrow.wait(order_id, "compensated")
    assert escrow.totals("inventory")["stock_held"] == held


def test_a_participant_that_answers_twice_or_for_another_order_harms_nobody(escrow: Installation) -> None:
    """A copy would be applied again, or a stray answer would move somebody else's order."""
    escrow.tell("payment", twice=True)
    try:
        order_id = escrow.place(ORDER)
        escrow.wait(order_id, "completed")
    finally:
        escrow.tell("payment")
    assert [entry["to_state"] for entry in escrow.history(order_id)].count("emailing_invoice") == 1
    escrow.tell("payment", wrong_order=True)
    try:
        misled = escrow.place(ORDER)
        escrow.wait_state(misled, "taking_payment")
    finally:
        escrow.tell("payment")
    assert escrow.act(misled, "retries").status_code == 200
    escrow.wait(misled, "completed")


def test_an_abort_event_undoes_the_order(escrow: Installation) -> None:
    """A customer could not cancel."""
    order_id, command = escrow.calm_order_at_payment()
    escrow.played.say(Envelope(id=f"cancel-{order_id}", source="shop", type="OrderCancelRequested", subject=order_id, data={}))
    refund = escrow.played.asked("RefundPayment", order_id)
    assert refund.undoes == command.commandid
    assert refund.data["payment_id"] is None
    assert escrow.played.commands("ReleaseInventory", order_id) == []
    escrow.played.reply(refund)
    escrow.play_through(order_id, "ReleaseInventory")
    assert escrow.wait(order_id, "compensated")["cause"] == "aborted"


def test_a_silent_pivot_is_asked_without_limit(escrow: Installation) -> None:
    """An order past its point of no return would be undone, though the customer may have the invoice."""
    order_id = escrow.place(BRISK)
    escrow.play_through(order_id, "ReserveInventory", "TakePayment")
    escrow.wait(order_id, "stuck", state="emailing_invoice")
    assert escrow.act(order_id, "aborts").status_code == 409
    command = escrow.played.asked("EmailInvoice", order_id, attempt=ATTEMPTS + 1)
    escrow.played.reply(command)
    escrow.wait(order_id, "completed")
    assert "ReleaseInventory" not in {name for name, _, _ in escrow.sendings(order_id)}


def test_a_refused_pivot_undoes_everything_before_it(escrow: Installation) -> None:
    """The customer would have paid for an order that cannot be invoiced."""
    order_id = escrow.place(CALM)
    escrow.play_through(order_id, "ReserveInventory", "TakePayment")
    escrow.played.refuse(escrow.played.asked("EmailInvoice", order_id))
    refund = escrow.played.asked("RefundPayment", order_id)
    assert str(refund.data["payment_id"]).startswith("P-")
    escrow.played.reply(refund)
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")


def test_an_undo_that_keeps_failing_is_stuck_until_an_operator_confirms_it(escrow: Installation) -> None:
    """A human would not be called, or could not end it by doing the undo by hand."""
    order_id = escrow.place(BRISK)
    escrow.play_through(order_id, "ReserveInventory")
    escrow.played.refuse(escrow.played.asked("TakePayment", order_id))
    order = escrow.wait(order_id, "stuck", state="undoing_reserve_inventory")
    assert order["cause"] == "undo_silent"
    escrow.played.asked("ReleaseInventory", order_id, attempt=3)
    escrow.do(order_id, "confirmations", step="reserve_inventory")
    escrow.wait(order_id, "compensated")

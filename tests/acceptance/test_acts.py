"""What operators do, on orders that really wait for somebody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.stories import BRISK
from tests.support.processes import eventually

pytestmark = pytest.mark.real


def test_force_while_a_command_is_outstanding_undoes_that_command(escrow: Installation) -> None:
    """What the participant may have done with it would stand, beside what is asked anew."""
    order_id, payment = escrow.calm_order_at_payment()
    answer = escrow.act(order_id, "transitions", to="emailing_invoice")
    assert answer.status_code == 200, answer.text
    refund = escrow.played.asked("RefundPayment", order_id)
    assert refund.undoes == payment.commandid
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "undoing", state="completed")
    escrow.played.reply(refund)
    order = escrow.wait(order_id, "completed")
    assert (order["epoch"], order["cause"]) == (1, "forced")


def test_force_back_over_a_done_step_undoes_it_and_asks_anew(escrow: Installation) -> None:
    """The step would be done twice and undone never."""
    order_id, payment = escrow.calm_order_at_payment()
    assert escrow.act(order_id, "transitions", to="reserving_inventory").status_code == 200
    release = escrow.played.asked("ReleaseInventory", order_id)
    refund = escrow.played.asked("RefundPayment", order_id)
    again = escrow.played.asked("ReserveInventory", order_id, epoch=1)
    assert again.commandid != release.undoes
    assert refund.undoes == payment.commandid
    for command in (release, refund, again):
        escrow.played.reply(command)
    # Who forces sends again what lies unforgotten in the outbox: a copy of the first TakePayment may come before the second (R17).
    escrow.played.reply(escrow.played.asked("TakePayment", order_id, epoch=1))
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_an_act_on_an_order_that_has_moved_on_does_nothing(escrow: Installation) -> None:
    """An operator would act on what was true a moment ago."""
    order_id, payment = escrow.calm_order_at_payment()
    seq = escrow.order(order_id)["seq"]
    assert escrow.act(order_id, "aborts", seq=seq - 1).status_code == 412
    blind = escrow.api.post(f"/v1/admin/orders/{order_id}/aborts", json={"reason": "no If-Match"})
    assert blind.status_code == 428
    assert escrow.order(order_id)["seq"] == seq
    escrow.played.reply(payment)
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_a_dry_run_shows_the_plan_and_does_nothing(escrow: Installation) -> None:
    """A plan would be carried out, or would not be what happens."""
    order_id, payment = escrow.calm_order_at_payment()
    before = escrow.history(order_id)
    plan = escrow.act(order_id, "aborts", dry_run=True).json()
    assert (plan["dry_run"], plan["to_state"]) == (True, "undoing_take_payment")
    assert [command["name"] for command in plan["commands"]] == ["RefundPayment"]
    assert escrow.history(order_id) == before
    done = escrow.act(order_id, "aborts").json()
    assert done["commands"] == plan["commands"]
    escrow.played.reply(payment)
    escrow.played.reply(escrow.played.asked("RefundPayment", order_id, attempt=2))
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")


def test_a_hold_stops_the_clocks_but_not_the_facts(escrow: Installation) -> None:
    """A held order would be undone behind the operator's back, or replies to it would be lost."""
    order_id = escrow.place(BRISK)
    reserve = escrow.played.asked("ReserveInventory", order_id)
    escrow.do(order_id, "holds")
    until = datetime.now(UTC) + timedelta(seconds=BRISK.deadline_s * 2)
    sent = len(escrow.sendings(order_id))
    eventually(lambda: datetime.now(UTC) > until, what="its deadline would have passed")
    assert escrow.order(order_id)["status"] == "held"
    assert len(escrow.sendings(order_id)) == sent
    escrow.played.reply(reserve)
    payment = escrow.played.asked("TakePayment", order_id)
    assert escrow.order(order_id)["status"] == "held"
    assert escrow.act(order_id, "releases").status_code == 200
    escrow.played.asked("TakePayment", order_id, attempt=2)
    escrow.played.reply(payment)
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_an_abandoned_order_ends_and_lists_what_stands(escrow: Installation) -> None:
    """The hard stop would not stop, or would hide what it leaves behind."""
    order_id, _ = escrow.calm_order_at_payment()
    plan = escrow.act(order_id, "abandonments").json()
    assert plan["to_state"] == "abandoned"
    assert sorted(key.partition(".")[0] for key in plan["left_standing"]) == ["reserve_inventory", "take_payment"]
    order = escrow.wait(order_id, "abandoned", state="abandoned")
    assert order["waiting_on"] == []
    assert escrow.played.commands("ReleaseInventory", order_id) == []


def test_patience_that_ends_undoes_an_order_that_still_waits(escrow: Installation) -> None:
    """An order would wait for ever on a participant that answers everybody but it; or an operator could not cut its wait short."""
    order_id, payment = escrow.calm_order_at_payment()
    escrow.do(order_id, "deadlines", name="patience", due_at="2026-01-01T00:00:00Z")
    order = escrow.wait_state(order_id, "undoing_take_payment")
    assert order["cause"] == "patience"
    refund = escrow.played.asked("RefundPayment", order_id)
    assert refund.undoes == payment.commandid
    escrow.played.reply(refund)
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")


def test_a_skipped_step_that_was_asked_is_undone_if_the_order_ever_is(escrow: Installation) -> None:
    """An operator's skip would hide what the participant may have done."""
    order_id, payment = escrow.calm_order_at_payment()
    escrow.do(order_id, "skips", step="take_payment")
    invoice = escrow.played.asked("EmailInvoice", order_id)
    assert invoice.data["payment_id"] is None
    escrow.played.refuse(invoice)
    refund = escrow.played.asked("RefundPayment", order_id)
    assert refund.undoes == payment.commandid
    escrow.played.reply(refund)
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")

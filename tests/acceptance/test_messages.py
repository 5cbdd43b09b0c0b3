"""Messages that come early, late, twice, wrong, or for nobody."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, attempt_message_id, command_id
from tests.acceptance.installation import Installation
from tests.acceptance.stories import BRISK, CALM, DATA, ORDER
from tests.support.processes import eventually

pytestmark = pytest.mark.real


@pytest.mark.parametrize("offset_s", [-0.15, 0.0, 0.1])
def test_a_reply_just_before_at_or_after_its_deadline_counts(escrow: Installation, offset_s: float) -> None:
    """Whoever wins the order's lock, a success would be lost, applied twice, or undone."""
    order_id = escrow.place(BRISK)
    command = escrow.played.asked("ReserveInventory", order_id)
    due_at = datetime.fromisoformat(escrow.order(order_id)["deadline_at"])
    eventually(lambda: (datetime.now(UTC) - due_at).total_seconds() >= offset_s, 5, what="the deadline")
    escrow.played.reply(command)
    escrow.play_through(order_id, "TakePayment", "EmailInvoice")
    escrow.wait(order_id, "completed")
    assert escrow.verdicts(order_id, "InventoryReserved") == ["moved"]
    assert len([name for name, _, _ in escrow.sendings(order_id) if name == "ReserveInventory"]) <= 2


def test_a_success_after_its_undo_was_sent_is_undone_again(escrow: Installation) -> None:
    """A participant that did the command after the undo had passed it would keep the money."""
    order_id, payment = escrow.calm_order_at_payment()
    assert escrow.act(order_id, "aborts").status_code == 200
    first = escrow.played.asked("RefundPayment", order_id, attempt=1)
    escrow.played.reply(payment)
    second = escrow.played.asked("RefundPayment", order_id, attempt=2)
    assert (second.commandid, second.undoes, second.data) == (first.commandid, first.undoes, first.data)
    escrow.played.reply(second)
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")
    assert escrow.verdicts(order_id, "PaymentTaken") == ["late"]


def test_a_success_after_the_orders_end_is_undone(escrow: Installation) -> None:
    """An order that has ended would be deaf to what was done for it since."""
    order_id, payment = escrow.calm_order_at_payment()
    escrow.act(order_id, "aborts")
    escrow.play_through(order_id, "RefundPayment", "ReleaseInventory")
    escrow.wait(order_id, "compensated")
    escrow.played.reply(payment)
    escrow.wait(order_id, "undoing", state="compensated")
    escrow.played.reply(escrow.played.asked("RefundPayment", order_id, attempt=2))
    escrow.wait(order_id, "compensated", state="compensated")


def test_a_command_copied_after_its_undo_is_not_carried_out(escrow: Installation) -> None:
    """A copy that the broker kept back would reserve stock for an order that is over."""
    order_id = escrow.place(ORDER, amount_minor=-1)
    escrow.wait(order_id, "compensated")
    held = escrow.totals("inventory")["stock_held"]
    asked = command_id(order_id, 0, "reserve_inventory", 1)
    data = {"order_id": order_id, "lines": DATA["lines"]}
    copy = Envelope(
        id=attempt_message_id(asked, 1), source="escrow", type="ReserveInventory", subject=order_id, data=data, commandid=asked, attempt=1
    )
    escrow.played.command("inventory", copy)
    escrow.wait_verdicts(order_id, COMMAND_TOO_LATE, "late")
    assert escrow.order(order_id)["status"] == "compensated"
    assert escrow.totals("inventory")["stock_held"] == held


def test_copies_of_an_event_are_applied_once(escrow: Installation) -> None:
    """The same message again, or its content under a new id, would move the order twice."""
    order_id = escrow.place(CALM)
    command = escrow.played.asked("ReserveInventory", order_id)
    event = escrow.played.reply(command)
    escrow.wait_state(order_id, "taking_payment")
    escrow.played.say(event)
    escrow.played.reply(command)
    escrow.wait_verdicts(order_id, "InventoryReserved", "moved", "duplicate")
    escrow.play_through(order_id, "TakePayment", "EmailInvoice")
    escrow.wait(order_id, "completed")
    assert escrow.played.commands("TakePayment", order_id) == []


def test_one_id_of_two_sources_is_two_messages(escrow: Installation) -> None:
    """Two services that count their messages from 1 would shadow each other's."""
    order_id = escrow.place(CALM)
    escrow.played.answer("ReserveInventory", order_id, id="1")
    escrow.played.answer("TakePayment", order_id, id="1")
    escrow.wait_state(order_id, "emailing_invoice")
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_one_id_with_another_body_is_quarantined(escrow: Installation) -> None:
    """A participant that reuses ids would be misread as repeating itself."""
    order_id = escrow.place(CALM)
    command = escrow.played.asked("ReserveInventory", order_id)
    event = escrow.played.reply(command)
    escrow.wait_state(order_id, "taking_payment")
    escrow.played.reply(command, id=event.id, data={"other": True})
    eventually(lambda: escrow.quarantined(order=order_id, reason="id_reused"), what="the quarantine")
    assert escrow.order(order_id)["state"] == "taking_payment"
    escrow.play_through(order_id, "TakePayment", "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_a_confirmation_that_overtakes_its_success_is_put_right(escrow: Installation) -> None:
    """Events out of order would leave an effect that nobody knows of."""
    order_id, payment = escrow.calm_order_at_payment()
    escrow.act(order_id, "aborts")
    escrow.play_through(order_id, "RefundPayment")
    escrow.wait_state(order_id, "undoing_reserve_inventory")
    escrow.played.reply(payment)
    escrow.played.reply(escrow.played.asked("RefundPayment", order_id, attempt=2))
    escrow.play_through(order_id, "ReleaseInventory")
    escrow.wait(order_id, "compensated")


def test_an_event_for_an_unknown_order_waits_for_its_opening(escrow: Installation) -> None:
    """A reply that overtakes the opening would be lost, or open an order of its own."""
    order_id = escrow.new_id()
    early = early_reply(order_id)
    escrow.played.say(early)
    after = escrow.place(CALM)
    escrow.play_through(after)
    escrow.wait(after, "completed")
    assert escrow.api.get(f"/v1/orders/{order_id}").status_code == 404
    escrow.played.say(escrow.opening(CALM, order_id))
    escrow.play_through(order_id, "TakePayment", "EmailInvoice")
    escrow.wait(order_id, "completed")
    assert escrow.verdicts(order_id, "InventoryReserved") == ["moved"]


def test_an_event_that_meets_its_orders_opening_is_applied(escrow: Installation) -> None:
    """Two workers, one with the opening and one with the reply: the reply would stay parked for ever."""
    order_ids = [escrow.new_id() for _ in range(15)]
    for order_id in order_ids:
        escrow.played.say(escrow.opening(CALM, order_id))
        escrow.played.say(early_reply(order_id))
    for order_id in order_ids:
        escrow.play_through(order_id, "TakePayment", "EmailInvoice")
        escrow.wait(order_id, "completed")


def test_what_cannot_be_read_is_quarantined_and_blocks_nobody(escrow: Installation) -> None:
    """One bad message would stop the line, or be dropped without a trace."""
    mark = escrow.new_id("bad")
    structured = "application/cloudevents+json"
    bad = [
        (f"{{{mark}".encode(), structured, "malformed"),
        (f'["{mark}"]'.encode(), structured, "malformed"),
        (mark.encode(), "text/plain", "malformed"),
        (f'{{"a": "{mark}{"x" * 70_000}"}}'.encode(), structured, "oversized"),
    ]
    for body, content_type, _ in bad:
        escrow.played.publish(body, content_type=content_type)
    order_id = escrow.place(ORDER)
    escrow.wait(order_id, "completed")

    def look() -> bool:
        rows = [escrow.api.get(f"/v1/quarantine/{row['quarantine_id']}").json() for row in escrow.quarantined()]
        found = sorted(row["reason"] for row in rows if mark in (row.get("body") or ""))
        assert [reason.partition("_")[0] for reason in found] == sorted(reason for _, _, reason in bad), found
        return True

    eventually(look, what="four rows in the quarantine")


def test_a_command_without_a_queue_is_kept_and_its_deadline_does_not_run(escrow: Installation) -> None:
    """A participant that is being set up would be taken for silent, or its command would be gone."""
    escrow.played.close_queue("post")
    try:
        order_id = escrow.place(BRISK)
        escrow.play_through(order_id, "ReserveInventory", "TakePayment")
        escrow.wait_state(order_id, "emailing_invoice")
        due_at = datetime.fromisoformat(escrow.order(order_id)["waiting_on"][0]["deadline_at"])
        eventually(lambda: (datetime.now(UTC) - due_at).total_seconds() > 1, what="its deadline has passed")
        assert [attempt for name, attempt, _ in escrow.sendings(order_id) if name == "EmailInvoice"] == [1]
    finally:
        escrow.played.open_queue("post")
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")


def test_a_quarantined_message_is_replayed_once(escrow: Installation) -> None:
    """An operator could not apply what came at the wrong moment, or would apply it twice."""
    order_id = escrow.place(CALM)
    reserve = escrow.played.asked("ReserveInventory", order_id)
    early = Envelope(
        id=f"early-{order_id}",
        source="till",
        type="PaymentTaken",
        subject=order_id,
        data={"payment_id": "P-1"},
        commandid=command_id(order_id, 0, "take_payment", 1),
    )
    escrow.played.say(early)
    row = eventually(lambda: escrow.quarantined(order=order_id), what="the quarantine")[0]
    assert row["reason"] == "unknown_command"
    address = f"/v1/admin/quarantine/{row['quarantine_id']}/replays"
    assert escrow.api.post(address, json={"reason": "too early"}).status_code == 409
    escrow.played.reply(reserve)
    escrow.wait_state(order_id, "taking_payment")
    replayed = escrow.api.post(address, json={"reason": "now it fits"})
    assert replayed.json()["verdict"] == "moved", replayed.text
    escrow.wait_state(order_id, "emailing_invoice")
    assert escrow.api.post(address, json={"reason": "again"}).status_code == 409
    escrow.played.say(early)
    escrow.play_through(order_id, "EmailInvoice")
    escrow.wait(order_id, "completed")
    assert escrow.verdicts(order_id, "PaymentTaken").count("moved") == 1


def early_reply(order_id: str) -> Envelope:
    """The answer to an order's first command, whose id is known before the order is."""
    asked = command_id(order_id, 0, "reserve_inventory", 1)
    return Envelope(id=f"r-{order_id}", source="stock", type="InventoryReserved", subject=order_id, data={}, commandid=asked)

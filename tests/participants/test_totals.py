"""Stock and money add up whatever comes, in whatever order, however often."""

from __future__ import annotations

import tempfile
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.contract import Envelope, encode
from participants import inventory, invoice, payment
from participants.kit.database import connect
from participants.kit.participant import Participant
from tests.participants.support import ask, talk_to, undo_of

#: (order, is it the undo, attempt): short, so that copies and undos of one order meet often.
STEPS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 3)), max_size=25)
#: Sizes of the batches that the steps are cut into.
CUTS = st.lists(st.integers(1, 6), min_size=25, max_size=25)
INVOICE = {"customer_email": "a@example.com", "amount_minor": 1999, "currency": "EUR", "lines": [{"sku": "apple", "quantity": 2}]}


def play(participant: Participant, messages: list[Envelope], cuts: list[int]) -> list[str]:
    """Hand over the messages in batches; the types of the answers."""
    types: list[str] = []
    for size in cuts:
        replies = participant.handle([encode(message) for message in messages[:size]])
        types += [reply.message.event_type for reply in replies]
        messages = messages[size:]
    assert not messages
    return types


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, cuts=CUTS)
def test_stock_adds_up(steps: list[tuple[int, bool, int]], cuts: list[int]) -> None:
    """A unit lost or sold twice under some order of copies and undos would be Escrow's promise broken by its own sample."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/participant.db")
        participant = inventory.build(engine, stock={"apple": 7})
        messages: list[Envelope] = []
        undone: set[int] = set()
        for order, is_undo, attempt in steps:
            lines = {"lines": [{"sku": "apple", "quantity": order + 1}]}
            do, undo = ("ReserveInventory", "ReleaseInventory") if order % 2 else ("UpdateInventory", "RestoreInventory")
            command = ask(do, f"o-{order}", lines, attempt=attempt)
            messages.append(undo_of(undo, command, attempt=attempt) if is_undo else command)
            undone |= {order} if is_undo else set()
        assert len(play(participant, messages, cuts)) == len(steps)
        totals = participant.totals()
        engine.dispose()
    assert totals["applied_twice"] == 0
    assert totals["stock_initial"] == totals["stock_available"] + totals["stock_held"]
    assert totals["released"] <= len(undone)
    assert totals["stock_available"] >= 0


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, cuts=CUTS)
def test_money_adds_up(steps: list[tuple[int, bool, int]], cuts: list[int]) -> None:
    """A cent taken twice, or refunded twice, under some order of copies and undos."""
    with tempfile.TemporaryDirectory() as folder:
        engine = connect(f"sqlite:///{folder}/participant.db")
        participant = payment.build(engine, limit_minor=4)
        messages: list[Envelope] = []
        undone: set[int] = set()
        asked: set[int] = set()
        for order, is_undo, attempt in steps:
            command = ask("TakePayment", f"o-{order}", {"amount_minor": order + 1, "currency": "EUR"}, attempt=attempt)
            messages.append(undo_of("RefundPayment", command, attempt=attempt) if is_undo else command)
            (undone if is_undo else asked).add(order)
        assert len(play(participant, messages, cuts)) == len(steps)
        totals = participant.totals()
        engine.dispose()
    assert totals["applied_twice"] == 0
    assert totals["balance_minor"] == totals["taken_minor"] - totals["refunded_minor"]
    # Amounts up to the limit are taken; what was asked and never undone is in the account, and nothing else.
    assert totals["balance_minor"] == sum(order + 1 for order in asked - undone if order + 1 <= 4)


def test_invoices_are_numbered_without_a_gap(engine: sa.Engine, tmp_path: Path) -> None:
    """Tax offices ask for gapless numbers: neither a copy, a refusal nor a rolled back batch may use one up."""
    participant = invoice.build(engine, mail_dir=tmp_path / "mail")
    messages = [
        ask("EmailInvoice", f"o-{n}", INVOICE if n % 3 else {"customer_email": "nobody"}, attempt=k) for n in range(9) for k in (1, 2)
    ]
    play(participant, messages, [4] * 5)
    participant.settle()
    assert participant.totals() == {"emailed": 6, "last_number": 6, "credited": 0, "last_credit_note": 0, "applied_twice": 0}
    subjects = {message_from_bytes(path.read_bytes(), policy=default)["Subject"] for path in (tmp_path / "mail").glob("*.eml")}
    assert subjects == {f"Invoice {n}" for n in range(1, 7)}


def test_a_cancelled_invoice_is_credited_once(engine: sa.Engine, tmp_path: Path) -> None:
    """An invoice in the customer's hands is not called back: without its credit note, or with two, the books are wrong."""
    folder = tmp_path / "mail"
    participant = invoice.build(engine, mail_dir=folder)
    talk = talk_to(participant)
    commands = [ask("EmailInvoice", f"o-{n}", INVOICE) for n in range(3)]
    for command in commands:
        talk(command)
    for attempt in (1, 2):
        for command in commands[1:]:
            (cancelled,) = talk(undo_of("CancelInvoice", command, attempt=attempt))
            assert cancelled.type == "InvoiceCancelled"
    assert cancelled.data == {"order_id": "o-2", "reversed": True, "invoice_number": 3, "credit_note_number": 2}
    talk(undo_of("CancelInvoice", ask("EmailInvoice", "o-9", INVOICE)))  # never e-mailed: no credit note
    assert participant.totals() == {"emailed": 3, "last_number": 3, "credited": 2, "last_credit_note": 2, "applied_twice": 0}
    mails = {path.name: message_from_bytes(path.read_bytes(), policy=default) for path in folder.iterdir()}
    assert len(mails) == 5
    note = mails[invoice.mail_name(str(commands[2].commandid), "credit_note")]
    assert (note["To"], note["Subject"]) == ("a@example.com", "Credit note 2")
    assert note.get_content().strip() == "Credit note 2 cancels invoice 3 for order o-2"
    for path in folder.iterdir():
        path.unlink()
    talk(ask("EmailInvoice", "o-0", INVOICE))
    assert list(folder.iterdir()) == []


def test_a_mail_whose_writing_was_cut_short_is_written_at_the_next_start(engine: sa.Engine, tmp_path: Path) -> None:
    """A crash between commit and writing must not lose the e-mail that the reply promises, nor leave half of one."""
    folder = tmp_path / "mail"
    command = ask("EmailInvoice", "o-1", INVOICE)
    invoice.build(engine, mail_dir=folder).handle([encode(command)])
    assert list(folder.iterdir()) == []
    restarted = invoice.build(engine, mail_dir=folder)
    restarted.settle()
    (path,) = folder.iterdir()
    assert path.name == invoice.mail_name(str(command.commandid))
    mail = message_from_bytes(path.read_bytes(), policy=default)
    assert mail["To"] == "a@example.com"
    assert "Total: 19.99 EUR" in mail.get_content()


def test_a_written_mail_is_not_written_again(engine: sa.Engine, tmp_path: Path) -> None:
    """A mail that was picked up from the folder must not come back with every batch, nor after a restart."""
    folder = tmp_path / "mail"
    participant = invoice.build(engine, mail_dir=folder)
    talk = talk_to(participant)
    talk(ask("EmailInvoice", "o-1", INVOICE))
    for path in folder.iterdir():
        path.unlink()
    talk(ask("EmailInvoice", "o-1", INVOICE))
    invoice.build(engine, mail_dir=folder).settle()
    assert list(folder.iterdir()) == []


def test_a_refund_needs_no_payment_id(engine: sa.Engine) -> None:
    """Escrow does not know the payment id of a payment whose reply it never heard: it must be refunded all the same."""
    talk = talk_to(payment.build(engine))
    command = ask("TakePayment", "o-1", {"amount_minor": 5, "currency": "EUR"})
    (taken,) = talk(command)
    (refunded,) = talk(undo_of("RefundPayment", command))
    assert refunded.data["payment_id"] == taken.data["payment_id"]
    assert refunded.data["reversed"] is True


@pytest.mark.parametrize("text", ["apple", "apple=", "=5", "apple=-1", "apple=1.5", "a b=1", "apple=99999999999999"])
def test_stock_on_the_command_line_is_checked(text: str) -> None:
    """A typing error must be refused, not become an empty shelf."""
    with pytest.raises(typer.BadParameter):
        inventory.read_stock([text])

"""R20, row by row, for each sample service on both databases; and what is R20 to reactions and facts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.contract import Envelope, Wire, decode, encode
from participants import inventory, invoice, payment
from participants.kit import conformance, conformance_facts, conformance_replay
from participants.kit.answers import Refusal, Reply
from participants.kit.conformance import CHECKS, NotConforming, Subject
from participants.kit.conformance_facts import FactSubject
from participants.kit.conformance_replay import ReplaySubject
from participants.kit.participant import Command, Participant, Tx
from tests.participants.conftest import SUBJECTS
from tests.participants.support import ask, talk_to, undo_of

LINES = {"lines": [{"sku": "apple", "quantity": 2}]}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Callable[[Subject], None], subject: Subject) -> None:
    """Escrow's undo and retry rest on these rows: broken, orders are applied twice, or called compensated when they are not."""
    if check in conformance.checks(subject):
        check(subject)
    else:
        assert subject.undo is None or subject.reacts_to is None


@pytest.mark.parametrize("check", conformance_replay.CHECKS, ids=lambda check: check.__name__)
def test_the_contract_of_replays(check: Callable[[ReplaySubject], None], replay_subject: ReplaySubject) -> None:
    """A participant that lost its state is one again by these rules: broken, orders rest on what is not there, or are done twice."""
    if check in conformance_replay.checks(replay_subject.live()):
        check(replay_subject)
    else:
        assert replay_subject.live().undo is None


@pytest.mark.parametrize("check", conformance_facts.CHECKS, ids=lambda check: check.__name__)
def test_the_contract_of_facts(check: Callable[[FactSubject], None], fact_subject: FactSubject) -> None:
    """Escrow undoes what came from outside by these rules: broken, a deposit stays in the account, or is returned twice."""
    check(fact_subject)


@pytest.mark.parametrize("check", conformance_facts.CHECKS, ids=lambda check: check.__name__)
def test_the_suite_finds_a_teller_without_a_memory(check: Callable[[FactSubject], None], fact_subject: FactSubject) -> None:
    """A conformance suite that passes everything would be worthless."""
    told: list[Envelope] = []

    def tell(order_id: str, data: Mapping[str, object], fact_id: str) -> list[Envelope]:
        message_id = fact_subject.message_id(order_id, fact_id)
        told.append(Envelope(id=message_id, source="bank", type="FundsReceived", subject=order_id, data=data))
        return told[-1:]

    with pytest.raises(NotConforming):
        check(replace(fact_subject, tell=tell, totals=lambda: {"told": len(told)}))


@pytest.mark.parametrize("check", conformance_replay.CHECKS, ids=lambda check: check.__name__)
def test_the_suite_finds_one_that_does_not_listen(
    check: Callable[[ReplaySubject], None], sqlite_engine: sa.Engine, engine: sa.Engine
) -> None:
    """A conformance suite that passes everything would be worthless."""
    deaf = ReplaySubject(
        live=lambda: SUBJECTS["inventory"](sqlite_engine, Path()).subject,
        rebuilt=lambda _past: SUBJECTS["inventory"](engine, Path()).subject,
    )
    if check in {conformance_replay.what_was_not_answered_is_left_alone, conformance_replay.a_refusal_stands_again}:
        return  # whom nothing is told does nothing, and refuses as before
    with pytest.raises(NotConforming):
        check(deaf)


def test_the_suite_finds_a_participant_without_a_memory() -> None:
    """A conformance suite that passes everything would be worthless."""

    def talk(sent: Envelope) -> list[Envelope]:
        executed.append(sent)
        return [Envelope(id=str(len(executed)), source="x", type="Done", subject=sent.subject, data={}, commandid=sent.commandid)]

    executed: list[Envelope] = []
    forgetful = Subject(
        name="x",
        talk=talk,
        command="Do",
        data={},
        refused_data={},
        done_on="Done",
        refused_on="Refused",
        undo="Undo",
        undone_on="Done",
        totals=lambda: {"executed": len(executed)},
        reacts_to="Happened",
    )
    for check in CHECKS:
        with pytest.raises(NotConforming):
            check(forgetful)


def test_a_reply_names_its_cause(engine: sa.Engine) -> None:
    """Without the echo Escrow could not tell which ask is answered."""
    command = ask("ReserveInventory", "o-1", LINES)
    (reply,) = talk_to(inventory.build(engine))(command)
    assert (reply.commandid, reply.subject, reply.source, reply.causationid) == (command.commandid, "o-1", "inventory", command.id)


def test_copies_and_undo_in_one_batch(engine: sa.Engine) -> None:
    """A batch sees its own earlier rows: else a copy in the same batch would run twice, or an undo would miss its command."""
    participant = inventory.build(engine, stock={"apple": 10})
    command = ask("ReserveInventory", "o-1", LINES)
    again = ask("ReserveInventory", "o-1", LINES, attempt=2)
    replies = participant.handle([encode(e) for e in (command, again, undo_of("ReleaseInventory", command), again)])
    types = [reply.message.event_type for reply in replies]
    assert types == ["InventoryReserved", "InventoryReserved", "InventoryReleased", "CommandTooLate"]
    assert participant.totals()["stock_available"] == 10


def test_one_failing_command_does_not_lose_its_neighbours(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A bug that one order meets must leave that order silent, and no other; and nothing of it may be kept."""
    table = sa.Table("things", sa.MetaData(), sa.Column("name", sa.String, primary_key=True))
    participant = Participant("thing", engine, metadata=table.metadata)

    @participant.command("Do", refused_by="Refused")
    def do(tx: Tx, command: Command) -> Reply | Refusal:
        tx.connection.execute(sa.insert(table).values(name=command.order_id))
        if command.data.get("poison"):
            raise RuntimeError("a bug")
        return Reply("Done")

    wires = [encode(ask("Do", f"o-{n}", {"poison": n in {3, 4}})) for n in range(8)]
    with caplog.at_level(logging.ERROR):
        replies = participant.handle(wires)
    assert [reply.message.order_id for reply in replies] == [f"o-{n}" for n in (0, 1, 2, 5, 6, 7)]
    assert {record.order_id for record in caplog.records} == {"o-3", "o-4"}  # type: ignore[attr-defined]
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 6


@pytest.mark.parametrize(
    "wire",
    [
        Wire(content_type="application/cloudevents+json", headers={}, body=b"{"),
        encode(ask("Unknown", "o-1", {})),
        Wire(content_type="text/plain", headers={}, body=b"hello"),
    ],
)
def test_a_message_that_is_no_command_is_passed_over(sqlite_engine: sa.Engine, wire: Wire) -> None:
    """Garbage in the queue must not stop the commands behind it."""
    good = encode(ask("ReserveInventory", "o-1", LINES))
    assert [reply.message.order_id for reply in inventory.build(sqlite_engine).handle([wire, good])] == ["o-1"]


def test_an_undo_that_names_another_orders_command_is_not_carried_out(sqlite_engine: sa.Engine) -> None:
    """A wrong `undoes` must not release what another order holds."""
    participant = inventory.build(sqlite_engine)
    command = ask("ReserveInventory", "o-1", LINES)
    participant.handle([encode(command)])
    stray = undo_of("ReleaseInventory", ask("ReserveInventory", "o-2", LINES))
    other = replace(stray, undoes=command.commandid)
    assert participant.handle([encode(other)]) == []
    assert participant.totals()["released"] == 0


def test_a_reply_too_large_to_send_undoes_its_effect(sqlite_engine: sa.Engine) -> None:
    """A reply that Escrow would quarantine must not be stored as the answer for ever."""
    participant = Participant("thing", sqlite_engine)
    sizes = iter([70_000, 10])

    @participant.command("Do")
    def do(_tx: Tx, _command: Command) -> Reply:
        return Reply("Done", {"text": "x" * next(sizes)})

    assert participant.handle([encode(ask("Do", "o-1", {}))]) == []
    assert len(participant.handle([encode(ask("Do", "o-1", {}))])) == 1


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"lines": []},
        {"lines": "apple"},
        {"lines": [{"sku": "a", "quantity": 0}]},
        {"lines": [{"sku": "a", "quantity": True}]},
        {"lines": [{"sku": "a", "quantity": 1.5}]},
        {"lines": [{"sku": ["a"], "quantity": 1}]},
        {"lines": [{"sku": "a", "quantity": 10**30}]},
    ],
)
def test_inventory_refuses_lines_that_make_no_sense(sqlite_engine: sa.Engine, data: dict[str, object]) -> None:
    """Bad data is a refusal that undoes the order at once, not a silence that costs all its attempts."""
    (reply,) = talk_to(inventory.build(sqlite_engine))(ask("ReserveInventory", "o-1", data))
    assert (reply.type, reply.data["reason"]) == ("InventoryRejected", "lines_not_valid")


@pytest.mark.parametrize(
    "data", [{}, {"amount_minor": 1.0, "currency": "EUR"}, {"amount_minor": -1, "currency": "EUR"}, {"amount_minor": 1, "currency": "eur"}]
)
def test_payment_declines_amounts_that_make_no_sense(sqlite_engine: sa.Engine, data: dict[str, object]) -> None:
    """Floats, negative amounts and odd currencies must never be booked."""
    (reply,) = talk_to(payment.build(sqlite_engine))(ask("TakePayment", "o-1", data))
    assert (reply.type, reply.data["reason"]) == ("PaymentDeclined", "amount_not_valid")


@pytest.mark.parametrize("address", ["", "a", "a@", "a..b@x.com", ".a@x.com", "a@x.com\r\nBcc: b@x.com", "a@-", "ä@x.com", None, 5])
def test_invoice_rejects_addresses_that_cannot_stand_in_a_header(sqlite_engine: sa.Engine, tmp_path: Path, address: object) -> None:
    """A header injected by an address would send mail to others; an address that raises would be a pivot silent for ever."""
    data = {"customer_email": address, "amount_minor": 1, "currency": "EUR"}
    (reply,) = talk_to(invoice.build(sqlite_engine, mail_dir=tmp_path / "mail"))(ask("EmailInvoice", "o-1", data))
    assert reply.type == "InvoiceRejected"


def test_the_same_command_in_two_processes_at_once_runs_once(engine: sa.Engine) -> None:
    """Copies that meet two processes of one participant must find each other's row, not raise, and never run twice."""
    participants = [inventory.build(engine, stock={"apple": 100}) for _ in range(2)]
    barrier = threading.Barrier(2)
    wires = [encode(ask("ReserveInventory", f"o-{n}", LINES)) for n in range(10)]
    answers: list[list[bytes]] = []

    def work(participant: Participant) -> None:
        barrier.wait(5)
        while True:
            try:
                answers.append([reply.message.wire.body for reply in participant.handle(wires)])
            except sa.exc.OperationalError:
                continue
            return

    threads = [threading.Thread(target=work, args=[participant]) for participant in participants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert participants[0].totals() == {
        "reserved": 10,
        "released": 0,
        "applied_twice": 0,
        "stock_held": 20,
        "stock_initial": 100,
        "stock_available": 80,
    }


def test_the_stored_message_reads_back(sqlite_engine: sa.Engine) -> None:
    """What lies in the outbox must be the very message, or a restart would publish another one under its id."""
    participant = payment.build(sqlite_engine)
    (reply,) = participant.handle([encode(ask("TakePayment", "o-1", {"amount_minor": 5, "currency": "EUR"}))])
    assert participant.unsent() == [reply]
    assert decode(reply.message.wire).data["amount_minor"] == 5

"""Engines on both databases, and the sample services as subjects of the conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from orchestrator.contract import Envelope, Wire, decode
from participants import bank, inventory, invoice, payment, registry
from participants.kit.conformance import Subject, Talk
from participants.kit.conformance_facts import FactSubject
from participants.kit.conformance_replay import ReplaySubject
from participants.kit.database import connect
from participants.kit.facts import FactRefusedError, fact_message_id
from participants.kit.participant import Participant
from tests.participants.replays import replay_to
from tests.participants.support import talk_to
from tests.support.services import fresh_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        engine = connect(f"sqlite:///{tmp_path / 'engine.db'}")
        yield engine
        engine.dispose()
        return
    with fresh_postgres() as url:
        engine = connect(url)
        yield engine
        engine.dispose()


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty SQLite database."""
    engine = connect(f"sqlite:///{tmp_path / 'participant.db'}")
    yield engine
    engine.dispose()


class Sample(NamedTuple):
    """A service, and how it is put through the conformance suite."""

    participant: Participant
    subject: Subject


def _inventory(engine: sa.Engine, _folder: Path) -> Sample:
    return _sample(
        inventory.build(engine, stock={"none": 0}),
        command="ReserveInventory",
        data={"lines": [{"sku": "apple", "quantity": 2}, {"sku": "pear", "quantity": 1}]},
        refused_data={"lines": [{"sku": "none", "quantity": 1}]},
        events=("InventoryReserved", "InventoryRejected"),
        undo=("ReleaseInventory", "InventoryReleased"),
    )


def _payment(engine: sa.Engine, _folder: Path) -> Sample:
    return _sample(
        payment.build(engine, limit_minor=10_000),
        command="TakePayment",
        data={"amount_minor": 1999, "currency": "EUR"},
        refused_data={"amount_minor": 10_001, "currency": "EUR"},
        events=("PaymentTaken", "PaymentDeclined"),
        undo=("RefundPayment", "PaymentRefunded"),
    )


def _inventory_watched(engine: sa.Engine, _folder: Path) -> Sample:
    apples: dict[str, object] = {"lines": [{"sku": "apple", "quantity": 2}]}
    return _sample(
        inventory.build(engine, stock={"none": 0}, choreographed=True),
        command="UpdateInventory",
        data=apples,
        refused_data={"lines": [{"sku": "none", "quantity": 1}]},
        events=("InventoryUpdated", "InventoryRejected"),
        undo=("RestoreInventory", "InventoryRestored"),
        reacts_to=("OrderPlaced", "update_inventory", {**apples, "amount_minor": 5, "currency": "EUR"}),
    )


def _invoice(engine: sa.Engine, folder: Path) -> Sample:
    order: dict[str, object] = {"customer_email": "a@example.com", "amount_minor": 1999, "currency": "EUR", "lines": []}
    return _sample(
        invoice.build(engine, mail_dir=folder / "mail", choreographed=True),
        command="EmailInvoice",
        data=order,
        refused_data={**order, "customer_email": "nobody"},
        events=("InvoiceEmailed", "InvoiceRejected"),
        undo=("CancelInvoice", "InvoiceCancelled"),
        reacts_to=("InventoryUpdated", "email_invoice", {**order, "reservation_id": "R-1"}),
    )


def _bank(engine: sa.Engine, _folder: Path) -> Sample:
    return _sample(
        bank.build(engine),
        command="PaySeller",
        data={"price_minor": 100},
        refused_data={"price_minor": 101},
        events=("SellerPaid", "PaymentRejected"),
        undo=(None, None),
    )


def _registry(engine: sa.Engine, _folder: Path) -> Sample:
    return _sample(
        registry.build(engine),
        command="RecordDeed",
        data={"property_id": "house-1"},
        refused_data={"property_id": "no house"},
        events=("DeedRecorded", "DeedRejected"),
        undo=("StrikeDeed", "DeedStruck"),
    )


def _sample(
    participant: Participant,
    *,
    command: str,
    data: dict[str, object],
    refused_data: dict[str, object],
    events: tuple[str, str],
    undo: tuple[str | None, str | None],
    reacts_to: tuple[str, str, dict[str, object]] | None = None,
) -> Sample:
    event, step, event_data = reacts_to or (None, command, {})
    subject = Subject(
        name=participant.name,
        talk=_talk_after_deposit(participant) if "FundsReceived" in participant.facts else talk_to(participant),
        command=command,
        data=data,
        refused_data=refused_data,
        done_on=events[0],
        refused_on=events[1],
        undo=undo[0],
        undone_on=undo[1],
        totals=_all_totals(participant),
        reacts_to=event,
        step=step,
        event_data=event_data,
    )
    return Sample(participant, subject)


def _talk_after_deposit(participant: Participant) -> Talk:
    """A bank pays out only what it holds: each closing has a deposit of 100 before it is asked."""
    talk = talk_to(participant)

    def with_deposit(envelope: Envelope) -> list[Envelope]:
        participant.happened("FundsReceived", envelope.subject, {"amount_minor": 100}, envelope.subject)
        return talk(envelope)

    return with_deposit


def _all_totals(participant: Participant) -> Callable[[], dict[str, int]]:
    """Without the sums that grow when a SKU is first heard of, or a deposit comes."""
    beside = {"stock_initial", "stock_available", "deposits", "received_minor", "held_minor"}
    return lambda: {name: value for name, value in participant.totals().items() if name not in beside}


SUBJECTS = {
    "inventory": _inventory,
    "inventory_watched": _inventory_watched,
    "payment": _payment,
    "invoice": _invoice,
    "bank": _bank,
    "registry": _registry,
}


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, engine: sa.Engine, tmp_path: Path) -> Subject:
    """Each sample service on each database."""
    return SUBJECTS[request.param](engine, tmp_path).subject


@pytest.fixture(params=SUBJECTS)
def replay_subject(request: pytest.FixtureRequest, engine: sa.Engine, sqlite_engine: sa.Engine, tmp_path: Path) -> ReplaySubject:
    """Each sample service: the one that had a past on SQLite, the one that is told of it on each database."""
    make = SUBJECTS[request.param]

    def rebuilt(past: Sequence[Wire]) -> Subject:
        sample = make(engine, tmp_path / "rebuilt")
        replay_to(sample.participant, past)
        return sample.subject

    return ReplaySubject(live=lambda: make(sqlite_engine, tmp_path / "live").subject, rebuilt=rebuilt)


@pytest.fixture
def fact_subject(engine: sa.Engine) -> FactSubject:
    """The one sample service whose fact can be undone, on each database."""
    participant = bank.build(engine)

    def tell(order_id: str, data: Mapping[str, Any], fact_id: str) -> list[Envelope] | None:
        try:
            participant.happened("FundsReceived", order_id, data, fact_id)
        except FactRefusedError:
            return None
        return [decode(event.message.wire) for event in participant.reported()]

    return FactSubject(
        name="bank",
        tell=tell,
        talk=talk_to(participant),
        message_id=lambda _order_id, fact_id: fact_message_id("bank", "FundsReceived", fact_id),
        fact="FundsReceived",
        data={"amount_minor": 100},
        other_data={"amount_minor": 101},
        undo="ReturnDeposit",
        undone_on="DepositReturned",
        totals=participant.totals,
    )

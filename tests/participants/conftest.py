"""Engines on both databases, and the three sample services as subjects of the conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from participants import inventory, invoice, payment
from participants.kit.conformance import Subject
from participants.kit.database import connect
from participants.kit.participant import Participant
from tests.participants.support import talk_to
from tests.support.services import fresh_postgres


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        engine = connect(f"sqlite:///{tmp_path / 'participant.db'}")
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


def _inventory(engine: sa.Engine, _folder: Path) -> Subject:
    return _subject(
        inventory.build(engine, stock={"none": 0}),
        command="ReserveInventory",
        data={"lines": [{"sku": "apple", "quantity": 2}, {"sku": "pear", "quantity": 1}]},
        refused_data={"lines": [{"sku": "none", "quantity": 1}]},
        events=("InventoryReserved", "InventoryRejected"),
        undo=("ReleaseInventory", "InventoryReleased"),
    )


def _payment(engine: sa.Engine, _folder: Path) -> Subject:
    return _subject(
        payment.build(engine, limit_minor=10_000),
        command="TakePayment",
        data={"amount_minor": 1999, "currency": "EUR"},
        refused_data={"amount_minor": 10_001, "currency": "EUR"},
        events=("PaymentTaken", "PaymentDeclined"),
        undo=("RefundPayment", "PaymentRefunded"),
    )


def _invoice(engine: sa.Engine, folder: Path) -> Subject:
    return _subject(
        invoice.build(engine, mail_dir=folder / "mail"),
        command="EmailInvoice",
        data={"customer_email": "a@example.com", "amount_minor": 1999, "currency": "EUR", "lines": []},
        refused_data={"customer_email": "nobody", "amount_minor": 1999, "currency": "EUR"},
        events=("InvoiceEmailed", "InvoiceRejected"),
        undo=(None, None),
    )


def _subject(
    participant: Participant,
    *,
    command: str,
    data: dict[str, object],
    refused_data: dict[str, object],
    events: tuple[str, str],
    undo: tuple[str | None, str | None],
) -> Subject:
    return Subject(
        name=participant.name,
        talk=talk_to(participant),
        command=command,
        data=data,
        refused_data=refused_data,
        done_on=events[0],
        refused_on=events[1],
        undo=undo[0],
        undone_on=undo[1],
        totals=_all_totals(participant),
    )


def _all_totals(participant: Participant) -> Callable[[], dict[str, int]]:
    """Without the sums that grow when a SKU is first heard of."""
    return lambda: {name: value for name, value in participant.totals().items() if name not in {"stock_initial", "stock_available"}}


@pytest.fixture(params=[_inventory, _payment, _invoice], ids=["inventory", "payment", "invoice"])
def subject(request: pytest.FixtureRequest, engine: sa.Engine, tmp_path: Path) -> Subject:
    """Each sample service on each database."""
    made: Subject = request.param(engine, tmp_path)
    return made

"""The store on both databases, and orders to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
import sqlalchemy as sa

from orchestrator.app.ports import Changes, OutboxMessage
from orchestrator.contract import ESCROW_NAMESPACE_UUID, canonical
from orchestrator.saga.decision import Entry
from orchestrator.saga.inputs import DeadlineDue, to_document
from orchestrator.saga.order import Ask, Deadline, Order
from orchestrator.store import schema
from orchestrator.store.engine import make_engine
from orchestrator.store.tables import metadata
from orchestrator.store.transaction import SqlStore
from tests.support.services import fresh_postgres


def utc_now() -> datetime:
    """The clock of these tests: real, because PostgreSQL's is."""
    return datetime.now(UTC)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A migrated PostgreSQL database for the whole run."""
    with fresh_postgres() as url:
        schema.upgrade(url)
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database of each kind."""
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path}/escrow.db"
        schema.upgrade(path)
        yield path
        return
    address: str = request.getfixturevalue("postgres_url")
    yield address
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE " + ", ".join(metadata.tables)))
    engine.dispose()


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """An engine on it."""
    made = make_engine(url, clock=utc_now)
    yield made
    made.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> SqlStore:
    """The store on it."""
    return SqlStore(engine, shard=3)


class World:
    """Makes orders and what belongs to them; all times are relative to one instant."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._made = 0

    def unique(self) -> str:
        """A new id."""
        self._made += 1
        return str(uuid5(ESCROW_NAMESPACE_UUID, f"test {self._made}"))

    def order(self, order_id: str, *, state: str = "reserving", due_in_s: float = 30.0, opened_ago_s: float = 0.0) -> Order:
        """A running order that waits for inventory, on seq 1."""
        opened = self.now - timedelta(seconds=opened_ago_s)
        ask = Ask(
            step="reserve",
            participant="inventory",
            epoch=0,
            round=1,
            position=0,
            rank=0,
            command_id=f"command-of-{order_id}",
            attempts=2,
            body_seq=1,
            since=opened,
        )
        deadline = Deadline(
            name=f"reply:{ask.key}",
            generation=1,
            armed_at=opened,
            due_at=self.now + timedelta(seconds=due_in_s),
            participant="inventory",
            command_id=ask.command_id,
        )
        return Order(
            order_id=order_id,
            definition="order",
            version=1,
            state=state,
            direction="forward",
            seq=1,
            opened_at=opened,
            updated_at=opened,
            state_entered_at=opened,
            data={"order_id": order_id, "note": "Grüße"},
            labels={},
            replies={},
            turns={},
            asks={ask.key: ask},
            deadlines={deadline.name: deadline},
            hash="00",
        )

    def entry(self, order: Order, *, message_id: str | None = None, cause_seq: int | None = None) -> Entry:
        """The journal entry of the order's present seq."""
        input_ = canonical.encode({"message": {"id": message_id}} if message_id else to_document(DeadlineDue(name="d", generation=1)))
        return Entry(
            order_id=order.order_id,
            seq=order.seq,
            at=order.updated_at,
            kind="message" if message_id else "deadline",
            source="inventory" if message_id else None,
            message_id=message_id,
            cause_seq=cause_seq,
            name="InventoryReserved",
            verdict="moved",
            from_state=None,
            to_state=order.state,
            input=input_,
            patch=b"{}",
            effects=canonical.encode({"seq": order.seq}),
            prev_hash="",
            hash="00",
        )

    def message(self, order: Order, *, owner: str | None, seq: int = 1, place: int = 0, age_s: float = 0.0) -> OutboxMessage:
        """A command of the order in the outbox."""
        outbox_id = self.unique()
        return OutboxMessage(
            outbox_id=outbox_id,
            order_id=order.order_id,
            seq=seq,
            place=place,
            command_id=f"command-of-{order.order_id}",
            participant="inventory",
            owner=owner,
            exchange="escrow.commands",
            routing_key="inventory",
            message_id=str(UUID(outbox_id)),
            message_type="ReserveInventory",
            content_type="application/cloudevents+json",
            headers={"attempt": 1},
            body=b"{}",
            created_at=self.now - timedelta(seconds=age_s),
            mandatory=True,
        )


@pytest.fixture
def world(store: SqlStore) -> World:
    """Orders around the database's present."""
    return World(store.now())


@pytest.fixture
def put(store: SqlStore, world: World) -> Callable[..., Order]:
    """Write a new order with its first entry and deadline, and messages if any."""

    def write(order: Order, *messages: OutboxMessage) -> Order:
        changes = Changes(opened=[order], entries=[world.entry(order)], outbox=list(messages))
        changes.armed.extend((order.order_id, deadline) for deadline in order.deadlines.values())
        with store.transaction() as transaction:
            transaction.lock_orders([order.order_id])
            transaction.write(changes)
        return order

    return write


def moved(order: Order, state: str) -> Order:
    """The order, one entry later."""
    return replace(order, state=state, seq=order.seq + 1)


def explained(engine: sa.Engine, ask: Callable[[], object]) -> str:
    """The plan of the one statement of a question."""
    asked: list[tuple[str, Any]] = []

    def listener(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", listener)
    ask()
    sa.event.remove(engine, "before_cursor_execute", listener)
    [(statement, parameters)] = [one for one in asked if one[0].startswith("SELECT")]
    explain = "EXPLAIN" if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    with engine.connect() as connection:
        return str(connection.exec_driver_sql(f"{explain} {statement}", parameters).all())

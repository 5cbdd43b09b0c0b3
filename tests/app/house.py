"""What the tests of the use cases stand in: a store, a registry, and messages in a few words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.app.circuit import Circuit
from orchestrator.app.handle import Context, handle
from orchestrator.app.ports import Delivery, OutboxMessage
from orchestrator.app.registry import Registry
from orchestrator.app.replay import SNAPSHOT_EVERY
from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.contract import Envelope, Topology, Wire, command_id, decode, encode, undo_id
from orchestrator.loading import load_definitions
from orchestrator.saga.inputs import Message
from orchestrator.saga.order import Order
from orchestrator.store import schema
from orchestrator.store.engine import make_engine
from orchestrator.store.queries import Queries
from orchestrator.store.transaction import SqlStore

DATA: dict[str, Any] = {"lines": [{"sku": "apple", "quantity": 2}], "amount_minor": 500, "currency": "EUR", "customer_email": "a@b.example"}
SOURCES = {"reserve_inventory": "inventory", "take_payment": "payment", "email_invoice": "invoice"}


class House:
    """One worker's use cases. `clock` moves SQLite's time."""

    def __init__(self, url: str, store: type[SqlStore] = SqlStore) -> None:
        self.url = url
        self.clock = datetime(2026, 11, 21, tzinfo=UTC)
        schema.upgrade(url)
        self.engine = make_engine(url, clock=lambda: self.clock)
        self.store = store(self.engine, shard=1)
        self.store.register(load_definitions(None))
        self.registry = Registry(self.store)
        self.queries = Queries(self.engine)
        self._ids = itertools.count(1)
        self.context = self.as_worker("worker-1")

    def as_worker(self, owner: str) -> Context:
        """The context of a worker of this name."""
        return Context(
            store=self.store,
            registry=self.registry,
            topology=Topology(),
            owner=owner,
            new_id=lambda: f"id-{next(self._ids)}",
            parked_for=timedelta(hours=24),
            circuit=Circuit(orders_min=10),
        )

    def handle(self, *works: Work, context: Context | None = None, confirmed: Sequence[str] = ()) -> Handled:
        """One batch."""
        return handle(context or self.context, works, confirmed=confirmed)

    def order(self, order_id: str) -> Order:
        """The order as stored."""
        order = self.queries.order(order_id)
        assert order is not None
        return order

    def verdicts(self, order_id: str) -> list[tuple[str, str]]:
        """(name, verdict) of each journal entry."""
        return [(entry.name, entry.verdict) for entry in self.queries.history(order_id)]

    def close(self) -> None:
        self.engine.dispose()


@dataclass(frozen=True)
class Gateway:
    """The way into a house: each work is a batch."""

    house: House

    @property
    def registry(self) -> Registry:
        return self.house.registry

    def submit(self, work: Work) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(self.house.handle(work).outcomes[0][1])
        return future

    def quarantined_wire(self, quarantine_id: str) -> Wire | None:
        row = self.house.queries.quarantined(quarantine_id)
        return None if row is None else row.wire

    def new_id(self) -> str:
        return self.house.context.new_id()

    def now(self) -> datetime:
        return self.house.clock


def message(envelope: Envelope) -> Work:
    """A message as it comes from the bus."""
    delivery = Delivery(wire=encode(envelope), tag=1, link_epoch=1, redelivered=False)
    return Work(order_id=envelope.subject, input=Message(envelope=envelope), delivery=delivery)


def unreadable_delivery(body: bytes) -> Delivery:
    """Something that is no CloudEvent."""
    return Delivery(wire=Wire(content_type="text/plain", headers={}, body=body), tag=1, link_epoch=1, redelivered=False)


def placed(order_id: str, *, message_id: str = "", data: dict[str, Any] | None = None) -> Work:
    """OrderPlaced, from the shop."""
    body = (DATA if data is None else data) | {"order_id": order_id}
    return message(Envelope(id=message_id or f"placed-{order_id}", source="shop", type="OrderPlaced", subject=order_id, data=body))


def answer(
    order_id: str, step: str, name: str, *, undo: bool = False, message_id: str = "", data: dict[str, Any] | None = None, **more: Any
) -> Work:
    """What a participant says to the first ask of a step, or to its undo."""
    asked = command_id(order_id, 0, step, 1)
    envelope = Envelope(
        id=message_id or f"{name}-{order_id}",
        source=more.get("source", SOURCES[step]),
        type=name,
        subject=order_id,
        data=data or {},
        commandid=undo_id(asked) if undo else asked,
    )
    return message(envelope)


def said(outbox: Sequence[OutboxMessage]) -> list[tuple[str, str]]:
    """(order id, message type) of what is to be published."""
    return [(sent.order_id, sent.message_type) for sent in outbox]


def envelope_of(sent: OutboxMessage) -> Envelope:
    """What an outbox row says."""
    return decode(Wire(content_type=sent.content_type, headers=sent.headers, body=sent.body))


def long_order(house: House, order_id: str = "long", entries: int = 2 * SNAPSHOT_EVERY + 7) -> None:
    """An order of so many entries, in batches that end before, on and after the multiples."""
    house.handle(placed(order_id))
    house.handle(answer(order_id, "reserve_inventory", "InventoryReserved"))
    again = [answer(order_id, "reserve_inventory", "InventoryReserved", message_id=f"again-{n}") for n in range(entries - 3)]
    for start in range(0, len(again), 21):
        house.handle(*again[start : start + 21])
    house.handle(answer(order_id, "take_payment", "PaymentTaken"))

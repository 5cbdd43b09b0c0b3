"""A small installation behind the API under test: the real use cases and the real store on SQLite. Its line is one lock; no bus."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from orchestrator.app.circuit import Circuit
from orchestrator.app.handle import Context, handle
from orchestrator.app.ports import Changes, Quarantined
from orchestrator.app.registry import Registry
from orchestrator.app.work import Outcome, Work
from orchestrator.contract import Topology, Wire, canonical
from orchestrator.saga import definition
from orchestrator.saga.order import Order
from orchestrator.store import audit, idempotency
from orchestrator.store.definitions import Registration
from orchestrator.store.engine import make_engine
from orchestrator.store.queries import Queries
from orchestrator.store.tables import audit as audit_table
from orchestrator.store.tables import metadata
from orchestrator.store.tokens import Tokens
from orchestrator.store.transaction import SqlStore
from orchestrator.web.services import Readiness, Services

START = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
ROLES = ("viewer", "client", "operator", "admin")
ORDER_YAML = Path(definition.__file__).parent.parent / "definitions" / "order.yaml"


class FailingQueries(Queries):
    """The read side, which can be told to fail."""

    failure: Exception | None = None

    def order(self, order_id: str) -> Order | None:
        if self.failure is not None:
            raise self.failure
        return super().order(order_id)


class World:
    """The gateway of `app.operate`, and everything else that `Services` asks for."""

    def __init__(self, directory: Path) -> None:
        self.clock = START
        self.checks = {"database": True, "broker": True}
        self.needed = frozenset({"database"})
        self._ids = 0
        self._lock = threading.Lock()
        self.engine = make_engine(f"sqlite:///{directory}/escrow.db", clock=self.now)
        metadata.create_all(self.engine)
        self.store = SqlStore(self.engine, shard=0)
        self.store.register([registration()])
        self.registry = Registry(self.store)
        self.queries = FailingQueries(self.engine)
        self.tokens = Tokens(self.engine)
        for role in (*ROLES, "revoked"):
            self.tokens.create(f"the-{role}", role if role in ROLES else "admin", f"escrow_{role}")
        self.tokens.revoke("the-revoked")
        self._context = Context(
            store=self.store,
            registry=self.registry,
            topology=Topology(),
            owner="web",
            new_id=self.new_id,
            parked_for=timedelta(hours=24),
            circuit=Circuit(orders_min=10),
        )

    def services(self) -> Services:
        """What the application is created with."""
        return Services(
            gateway=self,
            queries=self.queries,
            registry=self.registry,
            tokens=self.tokens,
            claim_key=partial(idempotency.claim, self.engine),
            audit=partial(audit.note, self.engine),
            begin_resync=self.store.begin_resync,
            metrics_text=lambda: b"escrow_orders 1\n",
            readiness=lambda: Readiness(checks=self.checks, needed=self.needed),
            now=self.now,
            new_id=self.new_id,
        )

    # the gateway

    def submit(self, work: Work) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        with self._lock:
            future.set_result(handle(self._context, [work]).outcomes[0][1])
        return future

    def now(self) -> datetime:
        return self.clock

    def new_id(self) -> str:
        self._ids += 1
        return f"made-{self._ids}"

    def quarantined_wire(self, quarantine_id: str) -> Wire | None:
        row = self.queries.quarantined(quarantine_id)
        return None if row is None else row.wire

    # for tests

    def audited(self) -> list[tuple[str, str, str | None, str]]:
        """The audit: (actor, act, order id, outcome)."""
        c = audit_table.c
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.select(c.actor, c.act, c.order_id, c.outcome))]

    def add_quarantined(self, quarantine_id: str, *, body: bytes, content_type: str, headers: bytes = b"{}") -> None:
        """Put a message of order-1 into the quarantine."""
        message = Quarantined(
            quarantine_id=quarantine_id,
            reason="malformed",
            detail="malformed: it cannot be read",
            source="payment",
            message_id="m-1",
            message_type="PaymentTaken",
            order_id="order-1",
            content_type=content_type,
            headers=headers,
            body=body,
            at=self.clock,
        )
        with self.store.transaction() as tx:
            tx.write(Changes(quarantined=[message]))


def registration() -> Registration:
    """The shipped definition."""
    read = definition.read(ORDER_YAML.read_text(encoding="utf-8"), str(ORDER_YAML))
    members = {name: value for name, value in asdict(read).items() if name in {"name", "version", "fingerprint"}}
    raw, expanded = canonical.encode(read.raw), canonical.encode(read.expanded)
    return Registration(**members, raw=raw, expanded=expanded, opens_on=read.expanded["opens_on"], is_opener=True)

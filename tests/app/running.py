"""A line at work on the in-process bus, and a store and a bus that tests can trouble and watch."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from orchestrator.app.handle import Context
from orchestrator.app.intake import Limits
from orchestrator.app.line import Line
from orchestrator.app.ports import Bus, Changes, OutboxMessage
from orchestrator.app.watch import LineWatcher
from orchestrator.bus.memory import MemoryBroker, MemoryBus
from orchestrator.contract import Envelope, Topology, encode
from orchestrator.errors import DataRefused, EscrowError, StoreBusy, StoreUnavailable
from orchestrator.metrics import Metrics
from orchestrator.store.transaction import SqlStore, SqlTransaction
from orchestrator.wiring import monotonic, sleep
from tests.app.house import DATA, House
from tests.support.processes import eventually

PARTICIPANTS = ("inventory", "payment", "invoice")


class TroubledStore(SqlStore):
    """The real store; it can be told to refuse what names an order, and to be away."""

    refuses: str | None = None
    refuses_as: type[EscrowError] = DataRefused
    is_away = False
    is_busy = False
    #: Its next commit is done, and the answer lost.
    loses_answer = False
    #: How often it was.
    times_busy = 0

    @contextmanager
    def transaction(self) -> Iterator[SqlTransaction]:
        if self.is_away:
            raise StoreUnavailable
        if self.is_busy:
            self.times_busy += 1
            raise StoreBusy
        with super().transaction() as tx:
            write = tx.write

            def refusing(changes: Changes) -> None:
                if any(entry.order_id == self.refuses for entry in changes.entries):
                    raise self.refuses_as("planted")
                write(changes)

            tx.write = refusing  # type: ignore[method-assign]
            yield tx
        if self.loses_answer:
            self.loses_answer = False
            raise StoreUnavailable


class WatchedBus(MemoryBus):
    """The real bus; it notes that its consumer was let go, and can be told to keep what is published, as a blocked broker does."""

    was_paused = False
    is_blocked = False

    def __init__(self, broker: MemoryBroker, participants: Collection[str]) -> None:
        super().__init__(broker, participants)
        #: Not handed to the broker yet.
        self.kept: list[OutboxMessage] = []

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        self.kept.extend(messages)
        if not self.is_blocked:
            kept, self.kept = self.kept, []
            super().publish(kept)

    def pause(self) -> None:
        self.was_paused = True
        super().pause()


class Running:
    """A line at work, and the broker it listens to."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.broker = MemoryBroker(Topology())
        self.metrics = Metrics()
        self.killed = threading.Event()
        #: How far the line's clock is ahead.
        self.ahead_s = 0.0
        self.bus = WatchedBus(self.broker, PARTICIPANTS)
        self.line = self.make_line(house.context)
        self.line.start()
        eventually(lambda: self.line.link.consuming)

    def make_line(self, context: Context, failpoint: str | None = None, bus: Bus | None = None) -> Line:
        """A line on the same store and bus. With a bus of its own it is that of the API, which does not consume."""
        return Line(
            context,
            bus or self.bus,
            self.house.store,
            LineWatcher(self.metrics, failpoint=failpoint, die=self.killed.set),
            Limits(
                require_user_id=False,
                batch_count_max=50,
                batch_bytes_max=1 << 20,
                linger_s=0.001,
                drain_grace_s=1,
                tick_gap_max_s=30,
                queue_count_max=50,
            ),
            role="serve" if bus else "worker",
            monotonic=lambda: monotonic() + self.ahead_s,
            pause=sleep,
            wake_at=lambda _: None,
            consume=bus is None,
        )

    def place(self, *order_ids: str) -> None:
        """Orders are placed, over the bus."""
        for order_id in order_ids:
            envelope = Envelope(
                id=f"placed-{order_id}", source="shop", type="OrderPlaced", subject=order_id, data=DATA | {"order_id": order_id}
            )
            self.broker.route(Topology().events, "shop.OrderPlaced", encode(envelope))

    def state(self, order_id: str) -> str | None:
        """Of an order; None: there is none."""
        order = self.house.queries.order(order_id)
        return order.state if order is not None else None

"""The load: one pika connection that places orders with confirms and hears their announcements, each noted with its time."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import pika

from orchestrator.contract import Envelope, Topology, encode, event_key
from orchestrator.contract.envelope import STRUCTURED

SOURCE = "shop"
#: Interval between two looks at what is due in the spaced phase, in seconds.
STEP_S = 0.002
CONNECTED_WITHIN_S = 10.0


class Unfinished(Exception):
    """Orders did not complete, or the broker does not let us in: there is nothing to report."""


@dataclass(slots=True)
class Phase:
    """One phase of load. Times are monotonic seconds."""

    name: str
    began_s: float
    placed_at: dict[str, float] = field(default_factory=dict)
    completed_at: dict[str, float] = field(default_factory=dict)
    #: When the last order was placed: later completions are the drain, which is not measured.
    placing_ended_s: float = math.inf
    ended_s: float = math.inf
    cancelled: int = 0
    confirmed: int = 0

    @property
    def placed(self) -> int:
        """Orders placed."""
        return len(self.placed_at)

    @property
    def elapsed_s(self) -> float:
        """From the first order to the last completion."""
        return self.ended_s - self.began_s

    def measured(self, warm_up: float) -> int:
        """Completions counted: those before placing ended, without the first share `warm_up`."""
        return len(self._window(warm_up)) - 1

    def per_second(self, warm_up: float) -> float:
        """Completions a second over what is measured."""
        window = self._window(warm_up)
        return (len(window) - 1) / (window[-1] - window[0])

    def latency_ms(self, quantile: float) -> float:
        """From placing to the announcement's arrival, over all orders of the phase."""
        taken = sorted(at - self.placed_at[order_id] for order_id, at in self.completed_at.items())
        return 1000 * taken[min(len(taken) - 1, math.ceil(quantile * len(taken)) - 1)]

    def _window(self, warm_up: float) -> list[float]:
        times = sorted(at for at in self.completed_at.values() if at <= self.placing_ended_s)
        window = times[int(len(times) * warm_up) :]
        if len(window) < 2:
            raise Unfinished(f"Only {len(times)} orders completed while others were open: too few to measure. Fix: a larger N.")
        return window


class Load:
    """A context manager; `keep_open` and `space` each run one phase to its end."""

    def __init__(self, amqp_url: str, topology: Topology) -> None:
        self._parameters = pika.URLParameters(amqp_url)
        self._topology = topology
        self._run_id = uuid4().hex[:8]
        self._numbers = itertools.count(1)
        self._connection: Any = None
        self._channel: Any = None
        self._phase = Phase("none", 0.0)
        self._on_completed: Callable[[], None] = lambda: None
        self._trouble: str | None = None
        self._ready = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(CONNECTED_WITHIN_S) or self._trouble:
            raise Unfinished(f"RabbitMQ cannot be used: {self._trouble or 'it does not answer'}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._post(self._connection.close)
        self._thread.join(CONNECTED_WITHIN_S)

    def rest(self, seconds: float) -> None:
        """Do nothing for so long; announcements are still heard."""
        threading.Event().wait(seconds)

    def keep_open(self, open_orders: int, orders: int, *, placing_s: float | None, drain_s: float) -> Phase:
        """A closed loop: `open_orders` at once, each completion places the next, until `orders` are placed or `placing_s` have passed.

        Raises: Unfinished when one has not completed `drain_s` after that (without `placing_s`: when nothing completes for so long).
        """
        limit_s = math.inf if placing_s is None else time.monotonic() + placing_s

        def place_next() -> None:
            if self._phase.placing_ended_s == math.inf:
                self._place()
                if self._phase.placed >= orders or time.monotonic() > limit_s:
                    self._phase.placing_ended_s = time.monotonic()

        def begin() -> None:
            for _ in range(min(open_orders, orders)):
                place_next()

        return self._run(Phase("throughput", time.monotonic()), begin, place_next, drain_s)

    def space(self, rate_per_s: int, seconds: float, *, drain_s: float) -> Phase:
        """An open loop: orders evenly spaced, however long each takes. Raises: Unfinished, as `keep_open`."""
        began_s = time.monotonic()
        orders = int(rate_per_s * seconds)

        def place_due() -> None:
            due = min(orders, int((time.monotonic() - began_s) * rate_per_s) + 1)
            while self._phase.placed < due:
                self._place()
            if self._phase.placed < orders:
                self._connection.ioloop.call_later(STEP_S, place_due)
            else:
                self._phase.placing_ended_s = time.monotonic()

        return self._run(Phase("latency", began_s), place_due, lambda: None, drain_s)

    def _run(self, phase: Phase, begin: Callable[[], None], on_completed: Callable[[], None], drain_s: float) -> Phase:
        self._phase, self._on_completed = phase, on_completed
        self._done.clear()
        self._post(begin)
        completed = -1
        while not self._done.wait(drain_s):
            if self._trouble or completed == len(phase.completed_at):
                raise Unfinished(self._complaint(phase, drain_s))
            completed = len(phase.completed_at)
        if phase.cancelled or self._trouble:
            raise Unfinished(self._complaint(phase, drain_s))
        phase.ended_s = max(phase.completed_at.values())
        return phase

    def _complaint(self, phase: Phase, drain_s: float) -> str:
        counts = f"{phase.placed} placed ({phase.confirmed} confirmed), {len(phase.completed_at)} completed, {phase.cancelled} cancelled"
        why = self._trouble or f"nothing more completed for {drain_s:.0f} s"
        return f"The {phase.name} phase did not finish: {counts}; {why}."

    # --- the thread of the loop

    def _work(self) -> None:
        self._connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=lambda connection: connection.channel(on_open_callback=self._on_channel),
            on_open_error_callback=self._on_down,
            on_close_callback=self._on_down,
        )
        self._connection.ioloop.start()

    def _post(self, callback: Callable[[], object]) -> None:
        self._connection.ioloop.add_callback_threadsafe(callback)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        queue = f"{self._topology.namespace}.bench"
        channel.add_on_close_callback(lambda _channel, reason: self._on_down(self._connection, reason))
        channel.confirm_delivery(self._on_confirm)
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        for name in ("OrderCompleted", "OrderCancelled"):
            channel.queue_bind(queue, self._topology.announcements, routing_key=name)
        channel.basic_consume(queue, self._on_announcement, auto_ack=True, callback=lambda _frame: self._ready.set())

    def _on_down(self, connection: Any, reason: Any) -> None:
        if getattr(reason, "reply_code", None) != 200:  # a normal close
            self._trouble = str(reason)
        self._ready.set()
        self._done.set()
        connection.ioloop.stop()

    def _place(self) -> None:
        order_id = f"bench-{self._run_id}-{next(self._numbers)}"
        data = {
            "order_id": order_id,
            "lines": [{"sku": f"sku-{len(self._phase.placed_at) % 100}", "quantity": 1}],
            "amount_minor": 1999,
            "currency": "EUR",
            "customer_email": "customer@example.com",
        }
        event = Envelope(id=f"{order_id}-placed", source=SOURCE, type="OrderPlaced", subject=order_id, data=data)
        properties = pika.BasicProperties(content_type=STRUCTURED, delivery_mode=2, message_id=event.id, correlation_id=order_id)
        self._phase.placed_at[order_id] = time.monotonic()
        self._channel.basic_publish(self._topology.events, event_key(SOURCE, event.type), encode(event).body, properties)

    def _on_confirm(self, frame: Any) -> None:
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self._trouble = "RabbitMQ refused an order (nack)"
        self._phase.confirmed = max(self._phase.confirmed, min(frame.method.delivery_tag, self._phase.placed))

    def _on_announcement(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        phase, order_id = self._phase, properties.correlation_id
        if order_id not in phase.placed_at or order_id in phase.completed_at:
            return
        if method.routing_key != "OrderCompleted":
            phase.cancelled += 1
        phase.completed_at[order_id] = time.monotonic()
        self._on_completed()
        if phase.placing_ended_s != math.inf and len(phase.completed_at) == phase.placed:
            self._done.set()

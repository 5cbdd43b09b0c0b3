"""The bus inside one process: the semantics of RabbitMQ without the broker. It dies with its process.

Topic routing, unacked deliveries that come again (at the front, marked redelivered), messages without a queue returned, prefetch. Used by
the embedded mode and the tests; held to the same contract suite as the real one.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator.app.ports import BusEvent, CommandQueue, Delivery, LinkChanged, OutboxMessage, Settled
from orchestrator.contract import Topology, Wire, event_key


@dataclass(frozen=True, slots=True)
class Held:
    """A message in a queue."""

    wire: Wire
    redelivered: bool = False


@dataclass(slots=True)
class Unacked:
    """What one consumer has been given and has not acked, in the order it was given."""

    messages: deque[tuple[int, Held]] = field(default_factory=deque)
    last_tag: int = 0

    def add(self, held: Held) -> int:
        """Note a message as given; returns its tag."""
        self.last_tag += 1
        self.messages.append((self.last_tag, held))
        return self.last_tag

    def ack_up_to(self, tag: int) -> None:
        """Forget everything up to a tag."""
        while self.messages and self.messages[0][0] <= tag:
            self.messages.popleft()

    def ack(self, tags: Collection[int]) -> None:
        """Forget exactly these."""
        self.messages = deque(pair for pair in self.messages if pair[0] not in tags)


def matches(pattern: str, key: str) -> bool:
    """Whether a topic binding takes a routing key: `*` is one word, `#` any number of words, words are parted by dots.

    >>> matches("#", "payment.PaymentTaken"), matches("payment.*", "payment.PaymentTaken"), matches("payment", "invoice")
    (True, True, False)
    """
    return _matches(pattern.split("."), key.split("."))


def _matches(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    head, *rest = pattern
    if head == "#":
        return any(_matches(rest, words[start:]) for start in range(len(words) + 1))
    return bool(words) and head in {"*", words[0]} and _matches(rest, words[1:])


class MemoryBroker:
    """Exchanges and queues of one installation. Shared by the buses and participants of a process; safe for threads."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        #: Guards everything here and in the consumers; notified when any of it changed.
        self.changed = threading.Condition()
        self.is_open = True
        self._queues: dict[str, deque[Held]] = {topology.inbox: deque()}
        self._bindings: dict[str, list[tuple[str, str]]] = {
            topology.events: [("#", topology.inbox)],
            topology.commands: [],
            topology.announcements: [],
        }
        self._subscriptions = itertools.count(1)

    def declare(self, participants: Collection[str]) -> None:
        """Make the command queues of these participants. Idempotent."""
        for participant in participants:
            self.bind(self.topology.command_queue(participant), self.topology.commands, participant)

    def bind(self, queue: str, exchange: str, pattern: str) -> None:
        """Make a queue and bind it. Idempotent. Raises: KeyError when there is no such exchange."""
        with self.changed:
            self._queues.setdefault(queue, deque())
            if (pattern, queue) not in self._bindings[exchange]:
                self._bindings[exchange].append((pattern, queue))

    def subscribe(self, event_types: Collection[str]) -> str:
        """Make a queue that takes events of these types from now on; its name. It lives until it is deleted."""
        queue = f"subscription-{next(self._subscriptions)}"
        for event_type in event_types:
            self.bind(queue, self.topology.events, event_key("*", event_type))
        return queue

    def delete(self, queue: str) -> None:
        """Delete a queue, its bindings, and what is in it. Idempotent."""
        with self.changed:
            self._queues.pop(queue, None)
            for exchange, bindings in self._bindings.items():
                self._bindings[exchange] = [(pattern, bound) for pattern, bound in bindings if bound != queue]

    def route(self, exchange: str, key: str, wire: Wire) -> bool:
        """Put a message into every queue bound for its key, once each; False when there is none."""
        with self.changed:
            queues = {queue for pattern, queue in self._bindings.get(exchange, ()) if matches(pattern, key)}
            for queue in queues:
                self._queues[queue].append(Held(wire))
            self.changed.notify_all()
            return bool(queues)

    def take(self, queue: str) -> Held | None:
        """The message at the front, out of the queue."""
        with self.changed:
            return self._queues[queue].popleft() if self._queues[queue] else None

    def give_back(self, queue: str, unacked: Unacked) -> None:
        """Put what a consumer has not acked back to the front, in the old order."""
        with self.changed:
            self._queues[queue].extendleft(replace(held, redelivered=True) for _, held in reversed(unacked.messages))
            unacked.messages.clear()
            self.changed.notify_all()

    def depth(self, queue: str) -> int:
        """Messages ready in a queue."""
        with self.changed:
            return len(self._queues[queue])

    def has(self, queue: str) -> bool:
        """Whether there is such a queue."""
        with self.changed:
            return queue in self._queues

    def close(self) -> None:
        """Every link to it goes down for good. Idempotent."""
        with self.changed:
            self.is_open = False
            self.changed.notify_all()


class MemoryBus:
    """Implements `orchestrator.app.ports.Bus` on a `MemoryBroker`. Acks as `RabbitBus`: in order, each takes every earlier one along."""

    #: Its broker dies with the process: nothing could be recovered from it.
    has_recorder = False

    def __init__(self, broker: MemoryBroker, participants: Collection[str], *, prefetch: int = 1000) -> None:
        """`prefetch`: messages delivered and not yet acked, at least 1."""
        self._broker = broker
        self._changed = broker.changed
        self._inbox = broker.topology.inbox
        self._prefetch = prefetch
        self._sink: Callable[[BusEvent], None] = lambda _: None
        #: What the thread has to report before the next delivery.
        self._reports: deque[BusEvent] = deque()
        self._unacked = Unacked()
        self._link_epoch = 0
        self._consumes = self._is_consuming = self._is_publishing = self._is_closed = False
        self._thread: threading.Thread | None = None
        broker.declare(participants)

    def start(self, sink: Callable[[BusEvent], None], *, consume: bool) -> None:
        """See the port. Once only."""
        with self._changed:
            if self._thread is not None or self._is_closed:
                raise RuntimeError("a bus is started once")
            self._sink = sink
            self._consumes = consume
            self._is_publishing = self._broker.is_open
            if self._is_publishing:
                self._reports.append(LinkChanged(consuming=False, publishing=True))
            self._thread = threading.Thread(target=self._run, name="escrow-memory-bus", daemon=True)
        self.resume()
        self._thread.start()

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        """See the port."""
        with self._changed:
            settled = [Settled(outbox_id=message.outbox_id, outcome=self._publish_one(message)) for message in messages]
            if not self._is_closed:
                self._reports.extend(settled)
                self._changed.notify_all()
                return
        for report in settled:  # the thread is gone: on the caller's
            self._sink(report)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the port."""
        with self._changed:
            tags = [delivery.tag for delivery in deliveries if delivery.link_epoch == self._link_epoch]
            if self._is_consuming and tags:
                self._unacked.ack_up_to(max(tags))
                self._changed.notify_all()

    def pause(self) -> None:
        """See the port."""
        with self._changed:
            if self._is_consuming:
                self._is_consuming = False
                self._broker.give_back(self._inbox, self._unacked)
                self._report_links()

    def resume(self) -> None:
        """See the port."""
        with self._changed:
            if self._consumes and not self._is_consuming and not self._is_closed and self._broker.is_open:
                self._is_consuming = True
                self._link_epoch += 1
                self._unacked = Unacked()
                self._report_links(inbox_depth=self._broker.depth(self._inbox))

    def inbox_depth(self) -> int | None:
        """See the port."""
        with self._changed:
            return self._broker.depth(self._inbox) if self._broker.is_open and not self._is_closed else None

    def command_queue(self, participant: str) -> CommandQueue | None:
        """See the port. Who takes from a queue here leaves no trace: its consumers are not known."""
        with self._changed:
            queue = self._broker.topology.command_queue(participant)
            is_there = self._broker.is_open and not self._is_closed and self._broker.has(queue)
            return CommandQueue(ready=self._broker.depth(queue), consumers=None) if is_there else None

    def close(self) -> None:
        """See the port."""
        with self._changed:
            if self._is_closed:
                return
            self.pause()
            self._go_down()
            self._is_closed = True
            self._changed.notify_all()
        if self._thread not in {None, threading.current_thread()}:
            self._thread.join()

    def _publish_one(self, message: OutboxMessage) -> Literal["confirmed", "returned", "lost"]:
        if not self._is_publishing or not self._broker.is_open:
            return "lost"
        wire = Wire(content_type=message.content_type, headers=dict(message.headers), body=message.body)
        is_routed = self._broker.route(message.exchange, message.routing_key, wire)
        return "confirmed" if is_routed or not message.mandatory else "returned"

    def _go_down(self) -> None:
        if self._is_consuming or self._is_publishing:
            self._is_consuming = self._is_publishing = False
            self._report_links()

    def _report_links(self, inbox_depth: int | None = None) -> None:
        self._reports.append(LinkChanged(consuming=self._is_consuming, publishing=self._is_publishing, inbox_depth=inbox_depth))
        self._changed.notify_all()

    def _run(self) -> None:
        while (event := self._next()) is not None:
            self._sink(event)

    def _next(self) -> BusEvent | None:
        """Wait for something to report; None when the bus is closed and all is reported."""
        with self._changed:
            while True:
                if not self._broker.is_open:
                    self._go_down()
                if self._reports:
                    return self._reports.popleft()
                if self._is_closed:
                    return None
                if (delivery := self._next_delivery()) is not None:
                    return delivery
                self._changed.wait()

    def _next_delivery(self) -> Delivery | None:
        if not self._is_consuming or len(self._unacked.messages) >= self._prefetch:
            return None
        held = self._broker.take(self._inbox)
        if held is None:
            return None
        return Delivery(wire=held.wire, tag=self._unacked.add(held), link_epoch=self._link_epoch, redelivered=held.redelivered)

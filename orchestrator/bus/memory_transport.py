"""A participant's link to the in-process broker, for participants that run in Escrow's own process (`escrow up`, the demo).

It satisfies the `Transport` that the participants' kit defines, by structure alone: neither side imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from orchestrator.bus.memory import MemoryBroker, Unacked
from orchestrator.contract import Wire

R = TypeVar("R")


class Publishable(Protocol):
    """An event to publish, as the kit's `Published` has it."""

    @property
    def routing_key(self) -> str:
        """Routing key on the events exchange."""

    @property
    def wire(self) -> Wire:
        """The message."""


#: The tag of an event: it needs no ack, for its queue is gone with whoever did not ack it.
_EVENT_TAG = 0


class MemoryParticipantTransport(Generic[R]):
    """One participant's consumer and publisher. Safe for threads. `received` is the kit's class of a message: (wire, tag, redelivered).

    `subscriptions`: the types of the events it takes beside its commands, while it is neither paused nor closed.
    """

    def __init__(
        self, broker: MemoryBroker, participant: str, received: Callable[[Wire, int, bool], R], subscriptions: Collection[str] = ()
    ) -> None:
        self._broker = broker
        self._changed = broker.changed
        self._queue = broker.topology.command_queue(participant)
        self._received = received
        self._subscriptions = subscriptions
        self._events: str | None = None
        self._unacked = Unacked()
        self._is_paused = True
        self._is_closed = False
        broker.declare([participant])
        self.resume()

    def consume(self, max_count: int, timeout_s: float) -> list[R]:
        """Up to `max_count` messages, commands first, each kind in order; waits up to `timeout_s` for the first, then takes what is there.

        Raises: ConnectionError when the broker or this transport is closed; none come while it is paused.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_usable or self._has_messages, timeout_s)
            self._require_usable()
            received: list[R] = []
            while not self._is_paused and len(received) < max_count and (taken := self._take()) is not None:
                received.append(taken)
            return received

    def ack(self, tags: Collection[int]) -> None:
        """Forget exactly these commands. Unknown tags are dropped."""
        with self._changed:
            self._unacked.ack(frozenset(tags))

    def publish(self, messages: Sequence[Publishable]) -> None:
        """Publish events; when it returns the broker has them all. Raises: ConnectionError when it is closed or paused."""
        with self._changed:
            self._require_usable()
            if self._is_paused:
                raise ConnectionError("The link is paused.")
            for message in messages:
                self._broker.route(self._broker.topology.events, message.routing_key, message.wire)

    def pause(self) -> None:
        """Let go, until `resume`: what was not acked comes again, and events published meanwhile are gone. Idempotent."""
        with self._changed:
            self._is_paused = True
            self._broker.give_back(self._queue, self._unacked)
            if self._events is not None:
                self._broker.delete(self._events)
                self._events = None

    def resume(self) -> None:
        """Take messages again. Idempotent."""
        with self._changed:
            if self._is_paused and not self._is_closed:
                self._is_paused = False
                self._events = self._broker.subscribe(self._subscriptions) if self._subscriptions else None
                self._changed.notify_all()

    def close(self) -> None:
        """Let go; what was not acked comes again. Idempotent."""
        with self._changed:
            self._is_closed = True
            self.pause()

    def _take(self) -> R | None:
        if (held := self._broker.take(self._queue)) is not None:
            return self._received(held.wire, self._unacked.add(held), held.redelivered)
        if self._events is not None and (held := self._broker.take(self._events)) is not None:
            return self._received(held.wire, _EVENT_TAG, held.redelivered)
        return None

    @property
    def _has_messages(self) -> bool:
        if self._is_paused:
            return False
        return self._broker.depth(self._queue) > 0 or (self._events is not None and self._broker.depth(self._events) > 0)

    @property
    def _is_usable(self) -> bool:
        return self._broker.is_open and not self._is_closed

    def _require_usable(self) -> None:
        if not self._is_usable:
            raise ConnectionError("The in-process broker is closed.")

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


class MemoryParticipantTransport(Generic[R]):
    """One participant's consumer and publisher. Safe for threads. `received` is the kit's class of a command: (wire, tag, redelivered)."""

    def __init__(self, broker: MemoryBroker, participant: str, received: Callable[[Wire, int, bool], R]) -> None:
        self._broker = broker
        self._changed = broker.changed
        self._queue = broker.topology.command_queue(participant)
        self._received = received
        self._unacked = Unacked()
        self._is_closed = False
        broker.declare([participant])

    def consume(self, max_count: int, timeout_s: float) -> list[R]:
        """Up to `max_count` commands in order; waits up to `timeout_s` for the first, then takes what is there.

        Raises: ConnectionError when the broker or this transport is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_usable or self._broker.depth(self._queue) > 0, timeout_s)
            self._require_usable()
            received: list[R] = []
            while len(received) < max_count and (held := self._broker.take(self._queue)) is not None:
                received.append(self._received(held.wire, self._unacked.add(held), held.redelivered))
            return received

    def ack(self, tags: Collection[int]) -> None:
        """Forget exactly these commands. Unknown tags are dropped."""
        with self._changed:
            self._unacked.ack(frozenset(tags))

    def publish(self, messages: Sequence[Publishable]) -> None:
        """Publish events; when it returns the broker has them all. Raises: ConnectionError when it is closed."""
        with self._changed:
            self._require_usable()
            for message in messages:
                self._broker.route(self._broker.topology.events, message.routing_key, message.wire)

    def close(self) -> None:
        """Let go; what was not acked comes again. Idempotent."""
        with self._changed:
            self._is_closed = True
            self._broker.give_back(self._queue, self._unacked)

    @property
    def _is_usable(self) -> bool:
        return self._broker.is_open and not self._is_closed

    def _require_usable(self) -> None:
        if not self._is_usable:
            raise ConnectionError("The in-process broker is closed.")

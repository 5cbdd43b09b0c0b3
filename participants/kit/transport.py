"""What a participant needs from a message bus. `RabbitTransport` is one; an in-process bus has the same shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.contract import Wire


@dataclass(frozen=True, slots=True)
class Received:
    """A command, an event that the participant reacts to or hears, or a message of a replay, not yet acked. The message tells which."""

    wire: Wire
    #: Opaque to everyone but the transport.
    tag: int
    redelivered: bool


@dataclass(frozen=True, slots=True)
class Published:
    """An event to publish, with what the broker needs to know of it."""

    message_id: str
    event_type: str
    #: `<participant>.<EventType>`
    routing_key: str
    order_id: str
    wire: Wire


class Transport(Protocol):
    """One participant's link to the bus. Used by one thread.

    Commands wait in a durable queue of the participant's, and so do events that it hears. Events it subscribes to do not: those published
    while its link is down, and those that were not acked when it went down, are gone.
    """

    def consume(self, max_count: int, timeout_s: float) -> list[Received]:
        """Commands and events, each kind in order of arrival, as soon as there is one; none when `timeout_s` passes first."""

    def ack(self, tags: Sequence[int]) -> None:
        """Forget these deliveries. Tags of a link that is gone are dropped: those commands are delivered again."""

    def publish(self, messages: Sequence[Published]) -> None:
        """Publish, and wait until the broker has confirmed all.

        Raises: ConnectionError when the link is lost, or a message was not taken: any of them may have been published.
        """

    def pause(self) -> None:
        """Let go of the bus as if the process were dead, until `resume`; what is not acked is delivered again. Idempotent."""

    def resume(self) -> None:
        """Take up the bus again. Idempotent."""

    def close(self) -> None:
        """Let go of the bus; what is not acked is delivered again. Idempotent."""


class ReplayTransport(Transport, Protocol):
    """The link of a participant that waits for a replay, and consumes nothing else."""

    def discard(self) -> None:
        """Delete the queue of the replay, with what is left in it, and close. What cannot be deleted is left.

        Raises: ConnectionError when the link is down; try again.
        """

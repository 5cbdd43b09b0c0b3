"""Exchanges, queues and bindings of an installation, as a list that can be declared, verified and explained.

Declaring is idempotent: a part that is there with the same arguments stays as it is, one with others is refused by the broker (406).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pika.exceptions

from orchestrator.bus.connection import addresses, blocking, parameters
from orchestrator.bus.trouble import explain
from orchestrator.contract import QUORUM_ARGUMENTS, Topology

#: Called when the broker has answered.
Answered = Callable[[Any], object]
#: A recorder's oldest segment is deleted whole, when all of it is too old or too much.
SEGMENT_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str

    def __str__(self) -> str:
        return f"exchange {self.name}"

    def declare(self, channel: Any, **answer: Answered) -> None:
        """Make it. `channel` is a pika channel, asynchronous (then with `callback`) or blocking."""
        channel.exchange_declare(self.name, exchange_type="topic", durable=True, **answer)

    def verify(self, channel: Any, **answer: Answered) -> None:
        """See that it is there; the broker closes the channel with 404 if it is not."""
        channel.exchange_declare(self.name, passive=True, **answer)


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue."""

    name: str

    def __str__(self) -> str:
        return f"queue {self.name}"

    def declare(self, channel: Any, **answer: Answered) -> None:
        """Make it, as `Exchange.declare`."""
        channel.queue_declare(self.name, durable=True, arguments=dict(QUORUM_ARGUMENTS), **answer)

    def verify(self, channel: Any, **answer: Answered) -> None:
        """See that it is there, as `Exchange.verify`."""
        channel.queue_declare(self.name, passive=True, **answer)


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a recorder keeps: what is older than `age_h` hours, or beyond `bytes_max`, is deleted, a segment at a time."""

    age_h: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A durable stream."""

    name: str
    retention: Retention

    def __str__(self) -> str:
        return f"stream {self.name}"

    @property
    def arguments(self) -> dict[str, object]:
        """What it is declared with."""
        return {
            "x-queue-type": "stream",
            "x-max-age": f"{self.retention.age_h}h",
            "x-max-length-bytes": self.retention.bytes_max,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }

    def declare(self, channel: Any, **answer: Answered) -> None:
        """Make it, as `Exchange.declare`."""
        channel.queue_declare(self.name, durable=True, arguments=self.arguments, **answer)

    def verify(self, channel: Any, **answer: Answered) -> None:
        """See that it is there, as `Exchange.verify`."""
        channel.queue_declare(self.name, passive=True, **answer)


@dataclass(frozen=True, slots=True)
class Binding:
    """What an exchange hands to a queue."""

    queue: str
    exchange: str
    key: str

    def __str__(self) -> str:
        return f"binding {self.exchange} → {self.queue} ({self.key})"

    def declare(self, channel: Any, **answer: Answered) -> None:
        """Make it, as `Exchange.declare`."""
        channel.queue_bind(self.queue, self.exchange, routing_key=self.key, **answer)


Part = Exchange | Queue | Stream | Binding


def inbound(topology: Topology) -> list[Part]:
    """What consuming needs, in the order to declare it."""
    return [Exchange(topology.events), Queue(topology.inbox), Binding(topology.inbox, topology.events, "#")]


def outbound(topology: Topology, participants: Collection[str]) -> list[Part]:
    """What publishing needs, in the order to declare it: a command queue for each participant."""
    parts: list[Part] = [Exchange(topology.commands), Exchange(topology.announcements)]
    for participant in sorted(participants):
        queue = topology.command_queue(participant)
        parts += [Queue(queue), Binding(queue, topology.commands, participant)]
    return parts


def recording(topology: Topology, retention: Retention) -> list[Part]:
    """What the recorder needs besides `inbound`, in the order to declare it: the broker itself hands it every event (R28)."""
    name = topology.recorder
    return [
        Exchange(name),
        Stream(name, retention),
        Binding(name, topology.events, "#"),
        Binding(name, name, "#"),
    ]


def declare(url: str, topology: Topology, participants: Collection[str], retention: Retention | None = None) -> None:
    """Declare everything, on a connection of its own; the recorder when `retention` is given. Idempotent; blocks for some seconds at most.

    Raises: SettingsError when the broker refuses it, with what to change; BusUnavailable when the broker is away.
    """
    nodes = parameters(url)
    try:
        with blocking(nodes) as connection:
            channel = connection.channel()
            recorder = [] if retention is None else recording(topology, retention)
            for part in [*inbound(topology), *outbound(topology, participants), *recorder]:
                part.declare(channel)
    except (pika.exceptions.AMQPError, OSError) as error:
        raise explain(error, addresses(nodes)).as_error() from error


def delete(url: str, topology: Topology, participants: Collection[str]) -> None:
    """Delete all that `declare` and participants make, and the recorder, with the messages in it: for demos and drills in a namespace of
    their own.

    Idempotent. Raises: as `declare`.
    """
    nodes = parameters(url)
    try:
        with blocking(nodes) as connection:
            channel = connection.channel()
            for part in [*inbound(topology), *outbound(topology, participants), *recording(topology, Retention(1, 1))]:
                if isinstance(part, Queue | Stream):
                    channel.queue_delete(part.name)
                elif isinstance(part, Exchange):
                    channel.exchange_delete(part.name)
            for queue in topology.queues_of(participants):
                channel.queue_delete(queue)
    except (pika.exceptions.AMQPError, OSError) as error:
        raise explain(error, addresses(nodes)).as_error() from error

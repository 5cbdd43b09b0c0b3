"""Escrow's end of a real broker, as participants meet it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika

from orchestrator.contract import QUORUM_ARGUMENTS, Envelope, Topology, Wire, decode, encode
from tests.support.processes import eventually
from tests.support.services import amqp_url

#: Whose queues are deleted at the end.
PARTICIPANTS = ("inventory", "orders")


class Escrow:
    """The other end: declares the inbox, sends commands, reads events."""

    def __init__(self, url: str, namespace: str) -> None:
        self.topology = Topology(namespace)
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        for exchange in (self.topology.events, self.topology.commands):
            self._channel.exchange_declare(exchange, "topic", durable=True)

    def declare_inbox(self) -> None:
        """Make the inbox: without it RabbitMQ returns every event."""
        self._channel.queue_declare(self.topology.inbox, durable=True, arguments=dict(QUORUM_ARGUMENTS))
        self._channel.queue_bind(self.topology.inbox, self.topology.events, "#")

    def send(self, participant: str, *envelopes: Envelope) -> None:
        """Send commands; they are in the queue when it returns."""
        for envelope in envelopes:
            wire = encode(envelope)
            properties = pika.BasicProperties(content_type=wire.content_type, delivery_mode=2, message_id=envelope.id)
            self._channel.basic_publish(self.topology.commands, participant, wire.body, properties, mandatory=True)

    def replay(self, participant: str, *wires: Wire) -> None:
        """Send messages of a replay, as `escrow replay` does."""
        queue, key = self.topology.replay_queue(participant), self.topology.replay_key(participant)
        self._channel.queue_bind(queue, self.topology.commands, key)
        for wire in wires:
            properties = pika.BasicProperties(content_type=wire.content_type, delivery_mode=2)
            self._channel.basic_publish(self.topology.commands, key, wire.body, properties, mandatory=True)

    def has(self, queue: str) -> bool:
        """Whether there is such a queue."""
        with self._connection.channel() as channel:
            try:
                channel.queue_declare(queue, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                return False
        return True

    def receive(self, count: int) -> list[tuple[Envelope, Any, str]]:
        """(event, properties, routing key), in order of arrival, until so many different ones came: a kill may have left copies."""
        found: dict[str, tuple[Envelope, Any, str]] = {}

        def look() -> bool:
            method, properties, body = self._channel.basic_get(self.topology.inbox, auto_ack=True)
            if method is not None:
                envelope = decode(Wire(content_type=properties.content_type, headers={}, body=body))
                found.setdefault(envelope.id, (envelope, properties, method.routing_key))
            return len(found) >= count

        eventually(look, 30)
        return list(found.values())

    def ready(self, participant: str) -> int:
        """Commands that wait for a participant."""
        answer: int = self._channel.queue_declare(self.topology.command_queue(participant), passive=True).method.message_count
        return answer

    def consumers(self, participant: str) -> int:
        """How many processes of a participant take its commands."""
        answer: int = self._channel.queue_declare(self.topology.command_queue(participant), passive=True).method.consumer_count
        return answer

    def leave(self) -> None:
        """Close the connection and leave everything as it is."""
        self._connection.close()

    def close(self) -> None:
        """Delete everything, and close."""
        for queue in (self.topology.inbox, *self.topology.queues_of(PARTICIPANTS)):
            self._channel.queue_delete(queue)
        for exchange in (self.topology.events, self.topology.commands):
            self._channel.exchange_delete(exchange)
        self.leave()


@contextmanager
def fresh_namespace() -> Iterator[Escrow]:
    """A namespace of its own on the broker, deleted afterwards."""
    made = Escrow(amqp_url(), f"test-{uuid.uuid4().hex[:10]}")
    try:
        yield made
    finally:
        made.close()

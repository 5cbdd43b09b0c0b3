"""The test's own link to the broker: it plays participants, publishes whatever it likes, and listens to what orders announce."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker, NackError, UnroutableError

from orchestrator.contract import QUORUM_ARGUMENTS, Envelope, Topology, Wire, decode, each_node, encode, event_key
from tests.support.processes import eventually

#: The event that answers each command.
ANSWERS = {
    "ReserveInventory": "InventoryReserved",
    "TakePayment": "PaymentTaken",
    "EmailInvoice": "InvoiceEmailed",
    "ReleaseInventory": "InventoryReleased",
    "RefundPayment": "PaymentRefunded",
}
REFUSALS = {"ReserveInventory": "InventoryRejected", "TakePayment": "PaymentDeclined", "EmailInvoice": "InvoiceRejected"}
#: Who is asked each command, among the played.
PLAYERS = {
    "ReserveInventory": "stock",
    "ReleaseInventory": "stock",
    "TakePayment": "till",
    "RefundPayment": "till",
    "EmailInvoice": "post",
}


class Played:
    """One thread's link; it comes back by itself after the broker was away."""

    def __init__(self, url: str, namespace: str) -> None:
        self._nodes = [pika.URLParameters(node) for node in each_node(url)]
        for node in self._nodes:
            node.heartbeat = 0  # tests look away for longer than a heartbeat
            node.blocked_connection_timeout = 30
        self._channel: BlockingChannel | None = None
        self._kept: dict[str, list[Envelope]] = defaultdict(list)
        #: Every command that arrived, in order of arrival on its queue: name, order id, attempt.
        self.arrived: list[tuple[str, str, int | None]] = []
        self.topology = Topology(namespace)

    def asked(self, name: str, order_id: str, *, attempt: int | None = None, epoch: int | None = None, timeout_s: float = 15) -> Envelope:
        """The next command of this name for this order, taken off its queue; `attempt`, `epoch`: that one, others before it are dropped."""

        def look() -> Envelope:
            for command in self.commands(name, order_id):
                self._kept[name].remove(command)
                if attempt in {None, command.attempt} and epoch in {None, command.epoch}:
                    return command
            raise AssertionError("it has not come")

        return eventually(look, timeout_s, what=f"{name} of {order_id}, attempt {attempt or 'any'}")

    def commands(self, name: str, order_id: str) -> list[Envelope]:
        """The commands of this name for this order that have arrived and were not taken by `asked`."""
        self._receive(self.topology.command_queue(PLAYERS[name]))
        return [command for command in self._kept[name] if command.subject == order_id]

    def reply(self, command: Envelope, **changes: Any) -> Envelope:
        """Say that a command was done. `changes`: attributes of the answer that are to differ, `data` added to."""
        return self._answer(command, ANSWERS[command.type], changes)

    def refuse(self, command: Envelope, **changes: Any) -> Envelope:
        """Say that a command was refused."""
        return self._answer(command, REFUSALS[command.type], changes)

    def answer(self, name: str, order_id: str, **changes: Any) -> Envelope:
        """Wait for a command, and say that it was done."""
        return self.reply(self.asked(name, order_id), **changes)

    def say(self, event: Envelope) -> Envelope:
        """Publish an event."""
        wire = encode(event)
        self.publish(wire.body, content_type=wire.content_type, key=event_key(event.source, event.type))
        return event

    def command(self, participant: str, command: Envelope) -> None:
        """Publish a command, as Escrow would."""
        wire = encode(command)
        self.publish(wire.body, content_type=wire.content_type, key=participant, exchange=self.topology.commands)

    def publish(
        self,
        body: bytes,
        *,
        content_type: str,
        key: str = "anyone.Anything",
        headers: Mapping[str, Any] | None = None,
        exchange: str | None = None,
    ) -> None:
        """Publish anything at all, to the events exchange unless named; returns when the broker has taken it."""
        properties = pika.BasicProperties(content_type=content_type, headers=dict(headers or {}), delivery_mode=2)

        def send(channel: BlockingChannel) -> bool:
            try:
                channel.basic_publish(exchange or self.topology.events, key, body, properties, mandatory=True)
            except (UnroutableError, NackError):
                return False
            return True

        eventually(lambda: self._try(send), 30, what="the broker takes an event")

    def listen(self) -> str:
        """A queue that gets all announcements from now on."""
        queue = f"{self.topology.namespace}.heard.{uuid4().hex[:8]}"

        def bind(channel: BlockingChannel) -> bool:
            channel.queue_declare(queue, exclusive=True)
            channel.queue_bind(queue, self.topology.announcements, "#")
            return True

        eventually(lambda: self._try(bind), 30, what="the announcements exchange")
        return queue

    def heard(self, queue: str, order_id: str) -> list[str]:
        """Names of what this order announced, so far."""
        self._receive(queue)
        return [event.type for event in self._kept[queue] if event.subject == order_id]

    def close_queue(self, participant: str) -> None:
        """Delete a participant's command queue."""
        queue = self.topology.command_queue(participant)
        eventually(lambda: self._try(lambda channel: bool(channel.queue_delete(queue))), what=queue)

    def open_queue(self, participant: str) -> None:
        """Declare a participant's command queue again."""
        queue = self.topology.command_queue(participant)

        def declare(channel: BlockingChannel) -> bool:
            channel.queue_declare(queue, durable=True, arguments=dict(QUORUM_ARGUMENTS))
            channel.queue_bind(queue, self.topology.commands, participant)
            return True

        eventually(lambda: self._try(declare), what=queue)

    def depth(self, queue: str) -> int:
        """Messages ready in a queue."""

        def measure(channel: BlockingChannel) -> str:
            return str(channel.queue_declare(queue, passive=True).method.message_count)

        return int(eventually(lambda: self._try(measure), 30, what=queue))

    def delete_all(self, participants: tuple[str, ...]) -> None:
        """Delete every queue and exchange of the namespace."""
        channel = self._open()
        for queue in (self.topology.inbox, self.topology.recorder, *self.topology.queues_of(participants)):
            channel.queue_delete(queue)
        for exchange in (self.topology.events, self.topology.commands, self.topology.announcements, self.topology.recorder):
            channel.exchange_delete(exchange)
        self.close()

    def close(self) -> None:
        """Let go of the broker. Idempotent."""
        channel, self._channel = self._channel, None
        if channel is not None and channel.connection.is_open:
            channel.connection.close()

    def _answer(self, command: Envelope, type_: str, changes: dict[str, Any]) -> Envelope:
        data = {"order_id": command.subject} | ({"payment_id": f"P-{command.commandid}"} if type_ == "PaymentTaken" else {})
        event = {
            "id": uuid4().hex,
            "source": PLAYERS[command.type],
            "type": type_,
            "subject": command.subject,
            "commandid": command.commandid,
            **changes,
            "data": data | changes.get("data", {}),
        }
        return self.say(Envelope(**event))

    def _receive(self, queue: str) -> None:
        def drain(channel: BlockingChannel) -> bool:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return True
                wire = Wire(content_type=properties.content_type, headers=properties.headers or {}, body=body)
                event = decode(wire)
                self.arrived.append((event.type, event.subject, event.attempt))
                self._kept[queue if queue.startswith(f"{self.topology.namespace}.heard") else event.type].append(event)

        self._try(drain)

    def _try(self, do: Callable[[BlockingChannel], Any]) -> Any:
        """Do it on an open channel; None while the broker or the queue is not there."""
        try:
            return do(self._open())
        except (AMQPError, ChannelClosedByBroker, OSError):
            self._channel = None
            return None

    def _open(self) -> BlockingChannel:
        if self._channel is None or not self._channel.is_open:
            channel: BlockingChannel = pika.BlockingConnection(self._nodes).channel()
            channel.confirm_delivery()
            self._channel = channel
        return self._channel


def wait_until(at_s: float) -> None:
    """Wait until a monotonic instant: for tests that show that nothing happens before it."""
    eventually(lambda: time.monotonic() >= at_s, max(0.1, at_s - time.monotonic() + 5), what="the clock")

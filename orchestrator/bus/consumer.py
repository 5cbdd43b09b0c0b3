"""Consuming the inbox with manual acks. Runs on the thread of the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pika

from orchestrator.app.ports import Delivery
from orchestrator.bus.wire import user_of, wire_of


class Consumer:
    """The consuming end of the bus.

    `deliver` gets each message; `changed` is called when `is_up` did, with the inbox depth when it came up; `cancelled` when the broker
    took the consumer away (its queue was deleted or moved).
    """

    def __init__(
        self,
        inbox: str,
        prefetch: int,
        *,
        deliver: Callable[[Delivery], None],
        changed: Callable[[int | None], None],
        cancelled: Callable[[Exception], None],
    ) -> None:
        self.is_up = False
        #: Counts the sessions; delivery tags mean something only within theirs.
        self.link_epoch = 0
        self._inbox = inbox
        self._prefetch = prefetch
        self._deliver = deliver
        self._changed = changed
        self._cancelled = cancelled
        self._channel: Any = None

    def up(self, channel: Any) -> None:
        """A new session: ask for the depth, then for the messages."""
        self._channel = channel
        channel.add_on_cancel_callback(lambda _: self._cancelled(pika.exceptions.ConsumerCancelled(self._inbox)))
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.queue_declare(self._inbox, passive=True, callback=lambda answer: self._consume(channel, answer.method.message_count))

    def down(self) -> None:
        """The session is gone: the broker returns to the inbox what was not acked."""
        self._channel = None
        if self.is_up:
            self.is_up = False
            self._changed(None)

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Ack everything up to the last of these that belong to this session, with one frame."""
        tag = max((delivery.tag for delivery in deliveries if delivery.link_epoch == self.link_epoch), default=0)
        if tag and self.is_up and self._channel.is_open:
            self._channel.basic_ack(tag, multiple=True)

    def _consume(self, channel: Any, depth: int) -> None:
        if channel is self._channel:
            channel.basic_consume(self._inbox, self._on_message, callback=lambda _: self._begin(channel, depth))

    def _begin(self, channel: Any, depth: int) -> None:
        if channel is self._channel:
            self.link_epoch += 1
            self.is_up = True
            self._changed(depth)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if channel is not self._channel:
            return
        self._deliver(
            Delivery(
                wire=wire_of(properties, body),
                tag=method.delivery_tag,
                link_epoch=self.link_epoch,
                redelivered=method.redelivered,
                user_id=user_of(properties),
            )
        )

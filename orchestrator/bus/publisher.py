"""Publishing with confirms: a window of messages in flight, the rest waiting in line.

Every message handed over is settled exactly once. Runs on the thread of the loop.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pika
import structlog

from orchestrator.app.ports import OutboxMessage

#: Messages the broker has and has not confirmed yet.
WINDOW = 1000
#: A broker under an alarm says so only after the first publish of a connection; so a new session sends one message and waits for its
#: confirm before it opens the window, and an alarm costs one copy a session instead of a thousand.
WINDOW_FIRST = 1
PERSISTENT = 2

Outcome = Literal["confirmed", "returned", "nacked", "lost"]
_Key = tuple[str, str, str | None]

_log = structlog.get_logger(__name__)


class Publisher:
    """The publishing end of the bus.

    `settle` is called once for each message; `changed` when `is_up` or `is_blocked` did; `refused` when the broker refused a message. A new
    session must follow: a channel that was opened while a queue had no leader may refuse everything for that queue for as long as it lives
    (seen on 3.10).
    """

    def __init__(self, settle: Callable[[OutboxMessage, Outcome], None], changed: Callable[[], None], refused: Callable[[], None]) -> None:
        self.is_up = False
        #: The broker has stopped reading (an alarm): what comes now waits in line.
        self.is_blocked = False
        self._settle = settle
        self._changed = changed
        self._refused = refused
        self._channel: Any = None
        self._window = WINDOW_FIRST
        self._waiting: deque[OutboxMessage] = deque()
        #: Delivery tags in order, and the messages of those not yet settled.
        self._tags: deque[int] = deque()
        self._in_flight: dict[int, OutboxMessage] = {}
        self._last_tag = 0
        #: The first tag in flight at the last look.
        self._oldest: int | None = None
        #: Messages the broker gave back; their confirm follows.
        self._returned: Counter[_Key] = Counter()

    @property
    def is_empty(self) -> bool:
        """Nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight

    def is_stalled(self) -> bool:
        """Whether the message that was the oldest at the last call is still not confirmed, though the broker reads. Call it at an interval.

        A broker may forget a message while its queue changes leaders (3.10 does), and never say so: such a session must be given up.
        """
        oldest = next(iter(self._in_flight), None) if self.is_up and not self.is_blocked else None
        before, self._oldest = self._oldest, oldest
        return oldest is not None and oldest == before

    # --- the link's side ---------------------------------------------------------------------------------------------

    def up(self, channel: Any) -> None:
        """A new session: tags count from 1 again."""
        self._window = WINDOW_FIRST
        self._last_tag = 0
        self._oldest = None
        channel.add_on_return_callback(self._on_return)
        channel.connection.add_on_connection_blocked_callback(lambda connection, _: self._on_blocked(connection, is_blocked=True))
        channel.connection.add_on_connection_unblocked_callback(lambda connection, _: self._on_blocked(connection, is_blocked=False))
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._begin(channel))
        self._channel = channel

    def down(self) -> None:
        """The session is gone: whatever was not confirmed is lost."""
        self._channel = None
        self.is_up = self.is_blocked = False
        self._changed()  # first, so that nobody publishes again at once what is now reported lost
        self.lose_all()

    def _begin(self, channel: Any) -> None:
        if channel is self._channel:
            self.is_up = True
            self._changed()
            self._fill()

    # --- publishing --------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        """Send in this order, as far as the window allows; the rest when confirms come."""
        if not self.is_up:
            for message in messages:
                self._settle(message, "lost")
            return
        self._waiting.extend(messages)
        self._fill()

    def lose_all(self) -> None:
        """Report everything not settled as lost, in the order it was to be sent."""
        lost = [*self._in_flight.values(), *self._waiting]
        self._in_flight.clear()
        self._tags.clear()
        self._waiting.clear()
        self._returned.clear()
        for message in lost:
            self._settle(message, "lost")

    def _fill(self) -> None:
        if self._may_send():
            with self._channel.connection.together():
                self._send_waiting()

    def _may_send(self) -> bool:
        return bool(self._waiting) and len(self._in_flight) < self._window and self.is_up and not self.is_blocked

    def _send_waiting(self) -> None:
        while self._may_send():
            message = self._waiting.popleft()
            try:
                self._send(message)
            except (pika.exceptions.AMQPChannelError, pika.exceptions.AMQPConnectionError):
                self._settle(message, "lost")  # closing: the link says so in a moment
            except Exception:  # noqa: BLE001 - pika cannot encode it: our bug, and it must not stop its neighbours
                names = {"order_id": message.order_id, "outbox_id": message.outbox_id}
                _log.exception("A message cannot be encoded.", action="bus.unsendable", **names)
                self._settle(message, "nacked")

    def _send(self, message: OutboxMessage) -> None:
        properties = pika.BasicProperties(
            delivery_mode=PERSISTENT,
            message_id=message.message_id,
            type=message.message_type,
            correlation_id=message.order_id,
            content_type=message.content_type,
            headers=dict(message.headers),
        )
        self._channel.basic_publish(message.exchange, message.routing_key, message.body, properties, mandatory=message.mandatory)
        self._last_tag += 1
        self._tags.append(self._last_tag)
        self._in_flight[self._last_tag] = message

    # --- what the broker says ----------------------------------------------------------------------------------------

    def _on_confirm(self, answer: Any) -> None:
        method = answer.method
        outcome: Outcome = "confirmed" if isinstance(method, pika.spec.Basic.Ack) else "nacked"
        self._window = WINDOW
        if method.multiple:
            while self._tags and self._tags[0] <= method.delivery_tag:
                self._finish(self._tags.popleft(), outcome)
        else:
            self._finish(method.delivery_tag, outcome)
            while self._tags and self._tags[0] not in self._in_flight:
                self._tags.popleft()
        if outcome == "nacked":
            self._refused()
        self._fill()

    def _finish(self, tag: int, outcome: Outcome) -> None:
        message = self._in_flight.pop(tag, None)
        if message is None:
            return
        key = (message.exchange, message.routing_key, message.message_id)
        if self._returned and self._returned[key]:
            self._returned[key] -= 1
            self._returned += Counter()  # drops what counted down to zero
            outcome = "returned"
        self._settle(message, outcome)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """No queue for it. The broker says so without a tag, before the confirm of the same message."""
        self._returned[method.exchange, method.routing_key, properties.message_id] += 1

    def _on_blocked(self, connection: Any, *, is_blocked: bool) -> None:
        if self._channel is None or connection is not self._channel.connection:
            return
        event = "The broker takes no messages: an alarm is on." if is_blocked else "The broker takes messages again."
        _log.warning(event, action="bus.blocked" if is_blocked else "bus.unblocked")
        self.is_blocked = is_blocked
        self._changed()
        self._fill()

"""The queue by which a participant hears the events it reacts to, on RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from orchestrator.contract import event_key

#: Said, for a virtual host may have another default.
_CLASSIC = {"x-queue-type": "classic"}


class Subscription:
    """A queue named by the broker: it takes what is published from now on, and vanishes with the connection. Used in the IO thread only.

    It is made on a channel of its own: a broker that refuses closes that channel, and commands go on being consumed on theirs. It is
    exclusive, auto-delete and not durable: both RabbitMQ 3.10 and 4.x take that of a classic queue, and of no other.
    """

    def __init__(self, exchange: str, event_types: Collection[str]) -> None:
        #: The queue of the present connection; None when there is none.
        self.queue: str | None = None
        self.is_consumed = True
        self.lack = "It acts by command only and hears no events"
        self._exchange = exchange
        self._event_types = sorted(event_types)

    def make(self, connection: Any, then: Callable[[BaseException | None], None]) -> None:
        """Make the queue; `then` is called once, with the reason when it cannot be made. A connection that is lost calls nobody."""
        self.queue = None
        connection.channel(on_open_callback=lambda channel: self._declare(channel, then))

    def _declare(self, channel: Any, then: Callable[[BaseException | None], None]) -> None:
        made: list[str] = []

        def on_closed(_channel: Any, reason: BaseException) -> None:
            self.queue = made[0] if made else None
            then(None if made else reason)

        def bind(queue: str, event_types: list[str]) -> None:
            if event_types:
                key = event_key("*", event_types[0])
                channel.queue_bind(queue, self._exchange, key, callback=lambda _frame: bind(queue, event_types[1:]))
            else:
                made.append(queue)
                channel.close()

        def declared(frame: Any) -> None:
            queue: str = frame.method.queue
            # It holds nothing yet: this asks for the right to read it, before the commands' channel would be closed for the lack of it.
            channel.queue_purge(queue, callback=lambda _frame: bind(queue, self._event_types))

        channel.add_on_close_callback(on_closed)
        channel.queue_declare("", exclusive=True, auto_delete=True, arguments=_CLASSIC, callback=declared)

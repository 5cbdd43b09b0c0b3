"""The queue in which events of others wait that change a participant's own tables, on RabbitMQ."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from orchestrator.contract import QUORUM_ARGUMENTS, Topology, event_key

_ACCESS_REFUSED, _PRECONDITION_FAILED = 403, 406
#: An argument for which no broker lets a consumer begin: the right to read is asked for before it.
_NO_CONSUMER = {"x-priority": "none"}


class HeardQueue:
    """A durable quorum queue of its own, declared and bound by the participant; one that may not finds it declared by somebody else.

    Used in the IO thread only. As a `Subscription` it is made on channels of its own, so that a broker that refuses it does not stop the
    commands; whether it may be read is found out there, too.
    """

    def __init__(self, topology: Topology, participant: str, event_types: Collection[str], *, is_consumed: bool) -> None:
        """`is_consumed`: else it only collects what comes meanwhile."""
        self.queue: str | None = topology.heard_queue(participant)
        self.is_consumed = is_consumed
        self.lack = f"It does not hear {', '.join(sorted(event_types))}"
        self._name = topology.heard_queue(participant)
        self._exchange = topology.events
        self._event_types = sorted(event_types)

    def make(self, connection: Any, then: Callable[[BaseException | None], None]) -> None:
        """Make the queue; `then` is called once, with the reason when it cannot be used. A connection that is lost calls nobody."""

        def declared(reason: BaseException | None, *, is_ours: bool) -> None:
            # Whoever made it for a participant that may not has bound it, too.
            is_made = reason is None or (not is_ours and getattr(reason, "reply_code", None) == _ACCESS_REFUSED)
            if is_made and self.is_consumed:
                connection.channel(on_open_callback=lambda channel: self._probe(channel, reason, then))
            else:
                then(None if is_made else reason)

        connection.channel(on_open_callback=lambda channel: self._declare(channel, declared))

    def _declare(self, channel: Any, then: Callable[..., None]) -> None:
        """Declare and bind; `then` gets the reason when it is refused, and whether the queue is ours to declare."""
        made: list[str] = []

        def bind(event_types: list[str]) -> None:
            made.append("queue")
            if event_types:
                key = event_key("*", event_types[0])
                channel.queue_bind(self._name, self._exchange, key, callback=lambda _frame: bind(event_types[1:]))
            else:
                made.append("bindings")
                channel.close()

        channel.add_on_close_callback(lambda _channel, reason: then(None if "bindings" in made else reason, is_ours=bool(made)))
        arguments = dict(QUORUM_ARGUMENTS)
        channel.queue_declare(self._name, durable=True, arguments=arguments, callback=lambda _frame: bind(self._event_types))

    def _probe(self, channel: Any, refused: BaseException | None, then: Callable[[BaseException | None], None]) -> None:
        """See whether it may be read; `refused`: why it may not be declared, which is no matter when somebody else did."""

        def on_closed(_channel: Any, reason: BaseException) -> None:
            code = getattr(reason, "reply_code", None)
            then(None if code == _PRECONDITION_FAILED else reason if code == _ACCESS_REFUSED or refused is None else refused)

        channel.add_on_close_callback(on_closed)
        channel.basic_consume(self._name, lambda *_: None, arguments=dict(_NO_CONSUMER))

"""A participant's link to RabbitMQ: pika on a thread of its own, a window of confirms, one multiple-ack a batch."""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop

from orchestrator.contract import QUORUM_ARGUMENTS, REPLAY_ARGUMENTS, Topology, Wire
from participants.kit.connection import CONFIRM_TIMEOUT_S, Connection, parameters
from participants.kit.heard_queue import HeardQueue
from participants.kit.sources import Source, Sources
from participants.kit.subscription import Subscription
from participants.kit.transport import Published, Received
from participants.kit.trouble import explain
from participants.kit.window import Batch, Window

#: Deliveries that the broker hands out ahead of their acks.
PREFETCH = 400
#: Seconds that the broker may take to let a new link work.
SET_UP_TIMEOUT_S = 5.0
#: Bounds of the wait before connecting again, in seconds; it doubles, with full jitter.
RECONNECT_FIRST_S, RECONNECT_MAX_S = 0.1, 10.0
#: A tag is the number of the link times this, plus the broker's delivery tag.
_LINK = 1 << 48
_ACCESS_REFUSED = 403

#: Asks the broker for something; calls its argument when the broker has answered.
_Step = Callable[[Callable[[Any], None]], object]

_log = logging.getLogger("participants.rabbit")


class RabbitTransport:
    """`Transport` on RabbitMQ, and `ReplayTransport`. Connects at once and stays connected; what it uses is declared at every connect.

    A broker user that may not declare (403) finds them declared by Escrow, and only uses them; but the queue of a replay is its own to
    declare. One whose name is the participant's is named in every event, so that Escrow can require it (`ESCROW_REQUIRE_USER_ID`). One that
    may not hear events acts by command only, says so in `trouble`, and tries again every `sources.RESUBSCRIBE_S`. Of a cluster
    (`amqp://USER:PASSWORD@HOST:PORT,HOST:PORT/VHOST`) it tries the nodes in turn.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        participant: str,
        *,
        subscriptions: Collection[str] = (),
        hearing: Collection[str] = (),
        replay: bool = False,
        prefetch: int = PREFETCH,
    ) -> None:
        """The types of the events to hear, from whomever: `subscriptions` while the link is up, `hearing` also those of before.

        `replay`: nothing is consumed but the queue of a replay; commands, and what is in `hearing`, wait meanwhile.
        Raises: ValueError when the URL is none. The password is in no message.
        """
        self._nodes = parameters(url)
        # The place of the node in use; links begin with different ones.
        self._place = random.randrange(len(self._nodes))  # noqa: S311 - spreads, guards nothing
        # The broker vouches for it: it refuses any name but the user's own.
        self._user_id = participant if self._nodes[0].credentials.username == participant else None
        self._topology = topology
        self._participant = participant
        self._is_replay = replay
        self._queue = topology.replay_queue(participant) if replay else topology.command_queue(participant)
        self._prefetch = prefetch
        self._declares = True
        self._subscriptions, self._hearing = frozenset(subscriptions), frozenset(hearing)
        self._closing = threading.Event()
        # Guards what both threads see: the deliveries, the link and its number.
        self._changed = threading.Condition()
        self._received: deque[Received] = deque()
        self._ready = False
        self._trouble: str | None = None
        self._is_paused = False
        self._link = 0
        # Of the caller's thread: tags handed out and not acked, in order.
        self._taken: deque[int] = deque()
        # Of the IO thread.
        self._connection: Any = None
        self._is_resting = False
        self._channel: Any = None
        self._window = Window()
        self._failures = 0
        # The trouble that was logged; it is not said again at each attempt.
        self._told: str | None = None
        self._loop = IOLoop()
        self._sources = Sources(participant, self._list_sources(), self._loop, self._explain)
        self._thread = threading.Thread(target=self._work, name=f"rabbit-{participant}", daemon=True)
        self._thread.start()

    # --- the caller's thread -----------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether commands are being consumed."""
        with self._changed:
            return self._ready

    @property
    def trouble(self) -> str | None:
        """Why no commands, or no events, are being consumed, in one line with the fix where there is one; None when they are."""
        with self._changed:
            return self._sources.trouble if self._ready else self._trouble or "RabbitMQ cannot be reached."

    def wait_until_up(self, timeout_s: float) -> bool:
        """Wait for the link; whether it is up."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ready, timeout_s)

    def consume(self, max_count: int, timeout_s: float) -> list[Received]:
        """See `Transport.consume`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._received) and not self._is_paused, timeout_s)
            if self._is_paused:
                return []
            batch = [self._received.popleft() for _ in range(min(max_count, len(self._received)))]
        self._taken.extend(received.tag for received in batch)
        return batch

    def ack(self, tags: Sequence[int]) -> None:
        """See `Transport.ack`. A prefix of what was taken is acked with one frame."""
        with self._changed:
            oldest = self._link * _LINK
        # Of a link that is gone nothing is acked, and nothing may stand before what came since.
        while self._taken and self._taken[0] < oldest:
            self._taken.popleft()
        left = {tag for tag in tags if tag >= oldest}
        last: int | None = None
        while self._taken and self._taken[0] in left:
            last = self._taken.popleft()
            left.discard(last)
        self._taken = deque(tag for tag in self._taken if tag not in left) if left else self._taken
        if last is not None:
            self._post(lambda: self._ack(last, multiple=True))
        for tag in sorted(left):
            self._post(lambda tag=tag: self._ack(tag, multiple=False))  # type: ignore[misc]

    def publish(self, messages: Sequence[Published]) -> None:
        """See `Transport.publish`. Persistent and mandatory. Raises: ConnectionError."""
        if not messages:
            return
        with self._changed:
            if not self._ready:
                raise ConnectionError("RabbitMQ cannot be reached.")
        batch = Batch(messages)
        self._post(lambda: self._send(batch))
        if not batch.done.wait(CONFIRM_TIMEOUT_S):
            raise ConnectionError(f"RabbitMQ did not confirm within {CONFIRM_TIMEOUT_S:.0f} s.")
        if batch.error:
            raise ConnectionError(batch.error)

    def pause(self) -> None:
        """See `Transport.pause`. Returns when the link is down."""
        with self._changed:
            self._is_paused = True
        self._post(self._rest)
        with self._changed:
            self._changed.wait_for(lambda: not self._ready, CONFIRM_TIMEOUT_S)

    def resume(self) -> None:
        """See `Transport.resume`."""
        with self._changed:
            self._is_paused = False
        self._post(self._wake)

    def discard(self) -> None:
        """See `ReplayTransport.discard`."""
        with self._changed:
            if not self._ready:
                raise ConnectionError("RabbitMQ cannot be reached.")
        self._post(self._delete)
        self._thread.join(CONFIRM_TIMEOUT_S)

    def close(self) -> None:
        """See `Transport.close`."""
        if not self._closing.is_set():
            self._closing.set()
            self._post(self._shut)
        self._thread.join(CONFIRM_TIMEOUT_S)

    def _post(self, callback: Callable[[], object]) -> None:
        """Run in the IO thread. The loop outlives its connections, so nothing is lost between two of them."""
        self._loop.add_callback_threadsafe(callback)

    # --- the IO thread: connecting -----------------------------------------------------------------------------------

    def _work(self) -> None:
        self._connect()
        self._loop.start()
        self._loop.close()

    def _connect(self) -> None:
        if self._closing.is_set():
            self._loop.stop()
            return
        if self._is_paused:
            self._is_resting = True
            self._lose("It was told to be down.")
            return
        self._connection = Connection(
            self._nodes[self._place],
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_down,
            on_close_callback=self._on_down,
            custom_ioloop=self._loop,
        )

    def _rest(self) -> None:
        """One that is not open yet, or was lost, is not opened: `_on_open` and `_connect` see that it is paused."""
        if self._is_paused and self._connection is not None and self._connection.is_open:
            self._connection.close()

    def _wake(self) -> None:
        if self._is_resting and not self._is_paused:
            self._is_resting = False
            self._connect()

    def _on_open(self, connection: Any) -> None:
        if self._is_paused:
            connection.close()
        else:
            connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        self._window = Window()
        channel.add_on_close_callback(self._on_channel_closed)
        # It may be closing already: a queue that we delete is taken from us, too.
        channel.add_on_cancel_callback(lambda _frame: channel.close() if channel.is_open else None)
        channel.add_on_return_callback(self._on_return)
        steps: list[_Step] = [
            lambda then: channel.confirm_delivery(self._on_confirm, callback=then),
            lambda then: channel.basic_qos(prefetch_count=self._prefetch, callback=then),
        ]
        if self._declares:
            steps += self._declarations(channel)
        if self._is_replay:
            arguments = dict(REPLAY_ARGUMENTS)
            steps.append(lambda then: channel.queue_declare(self._queue, durable=True, arguments=arguments, callback=then))
        steps += self._sources.consume(self._connection, channel, self._on_message)
        steps.append(lambda then: channel.basic_consume(self._queue, self._on_message, callback=then))
        self._loop.call_later(SET_UP_TIMEOUT_S, lambda: self._give_up(channel))
        self._walk(steps)

    def _give_up(self, channel: Any) -> None:
        """A cluster that has just lost a node may leave a question unanswered."""
        if channel is self._channel and not self._ready and channel.is_open:
            self._connection.close()

    def _list_sources(self) -> list[Source]:
        sources: list[Source] = []
        if self._hearing:
            sources.append(HeardQueue(self._topology, self._participant, self._hearing, is_consumed=not self._is_replay))
        if self._subscriptions and not self._is_replay:
            sources.append(Subscription(self._topology.events, self._subscriptions))
        return sources

    def _declarations(self, channel: Any) -> list[_Step]:
        """The same as Escrow's own, so whoever comes first makes them."""
        events, commands, queue = self._topology.events, self._topology.commands, self._topology.command_queue(self._participant)
        arguments = dict(QUORUM_ARGUMENTS)
        return [
            lambda then: channel.exchange_declare(events, "topic", durable=True, callback=then),
            lambda then: channel.exchange_declare(commands, "topic", durable=True, callback=then),
            lambda then: channel.queue_declare(queue, durable=True, arguments=arguments, callback=then),
            lambda then: channel.queue_bind(queue, commands, routing_key=self._participant, callback=then),
        ]

    def _walk(self, steps: list[_Step]) -> None:
        """Take each step when the broker has answered the one before."""
        if steps:
            steps[0](lambda _frame: self._walk(steps[1:]))
            return
        self._failures = 0
        self._told = None
        with self._changed:
            self._ready = True
            self._changed.notify_all()
        _log.info("%s consumes %s.", self._participant, self._queue, extra={"action": "link_up"})

    def _on_channel_closed(self, _channel: Any, reason: Any) -> None:
        may_not_declare = self._declares and not self._ready and getattr(reason, "reply_code", None) == _ACCESS_REFUSED
        self._lose(self._explain(reason))
        if may_not_declare:
            self._declares = False
            extra = {"action": "declares_nothing"}
            _log.info("%s may not declare; it uses what Escrow declared.", self._participant, extra=extra)
            self._connection.channel(on_open_callback=self._on_channel)
        elif self._connection.is_open:
            self._connection.close()

    def _on_down(self, _connection: Any, reason: Any) -> None:
        is_told = isinstance(reason, pika.exceptions.ConnectionClosedByClient)  # then the channel's end has said why
        self._lose(str(self._trouble) if is_told else self._explain(reason))
        if self._closing.is_set() or self._is_paused:
            self._connect()  # which does not
            return
        wait_s = random.uniform(0, min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2 ** min(self._failures, 10)))  # noqa: S311 - spreads, guards nothing
        self._failures += 1
        self._place = (self._place + 1) % len(self._nodes)
        if self._failures < len(self._nodes):  # another node may be up while one is down
            wait_s = min(wait_s, RECONNECT_FIRST_S)
        if self._told != self._trouble:
            self._told = self._trouble
            extra = {"action": "link_down"}
            _log.warning("The link of %s is down; it goes on trying: %s", self._participant, self._trouble, extra=extra)
        self._loop.call_later(wait_s, self._connect)

    def _explain(self, reason: BaseException) -> str:
        return explain(
            reason, self._nodes[self._place], self._topology, self._participant, subscriptions=self._subscriptions, hearing=self._hearing
        )

    def _lose(self, reason: str) -> None:
        """Forget everything that belonged to the link: the broker delivers again, and the publisher is told."""
        self._channel = None
        with self._changed:
            self._ready = False
            self._trouble = reason
            self._link += 1
            self._received.clear()
            self._changed.notify_all()
        self._window.fail(f"The link to RabbitMQ was lost: {reason}")

    def _delete(self) -> None:
        """The queue goes, and then the link, which must not declare it again. One that may not delete it leaves it, for it is harmless."""
        self._closing.set()
        if self._channel is not None and self._channel.is_open:
            self._channel.queue_delete(self._queue, callback=lambda _frame: self._shut())
        else:
            self._shut()

    def _shut(self) -> None:
        if self._connection is None or self._connection.is_closed:
            self._loop.stop()
        elif self._connection.is_open:
            self._connection.close()
        # Otherwise it is opening: `_on_down`, or the next `_post`, finds `_closing` set.
        else:
            self._loop.call_later(RECONNECT_FIRST_S, self._shut)

    # --- the IO thread: messages -------------------------------------------------------------------------------------

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        wire = Wire(content_type=properties.content_type or "", headers=properties.headers or {}, body=body)
        with self._changed:
            self._received.append(Received(wire, self._link * _LINK + method.delivery_tag, method.redelivered))
            self._changed.notify_all()

    def _ack(self, tag: int, *, multiple: bool) -> None:
        link, delivery_tag = divmod(tag, _LINK)
        if self._channel is not None and link == self._link:
            self._channel.basic_ack(delivery_tag, multiple=multiple)

    def _send(self, batch: Batch) -> None:
        if self._channel is None or not self._channel.is_open:
            batch.fail("RabbitMQ cannot be reached.")
            return
        with self._connection.together():
            for message in batch.messages:
                self._publish(batch, message)

    def _publish(self, batch: Batch, message: Published) -> None:
        properties = pika.BasicProperties(
            content_type=message.wire.content_type,
            headers=dict(message.wire.headers) or None,
            delivery_mode=2,
            message_id=message.message_id,
            type=message.event_type,
            correlation_id=message.order_id,
            app_id=self._participant,
            user_id=self._user_id,
        )
        self._window.add(batch)
        self._channel.basic_publish(self._topology.events, message.routing_key, message.wire.body, properties, mandatory=True)

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        nacked = isinstance(method, pika.spec.Basic.Nack)
        self._window.settle(method.delivery_tag, multiple=method.multiple, nacked=nacked)
        # A channel that was opened while a queue had no leader may refuse everything for as long as it lives (seen on 3.10).
        if nacked and self._connection.is_open:
            self._connection.close()

    def _on_return(self, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        """No queue takes the event: Escrow has not declared its inbox yet. The confirm that follows must not count."""
        self._window.fail(f"No queue takes {method.routing_key}: {method.reply_text}. Is Escrow's inbox declared?")

"""The bus on RabbitMQ: two connections, one thread.

Publishing and consuming have a connection each, because an alarm stops only connections that publish. Both live on one pika loop in one
thread; other threads reach it only through `add_callback_threadsafe`. What the bus has to say it says to its sink, on that thread: the sink
must be quick and must not raise (it puts into a queue).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import replace
from typing import Any

import structlog
from pika.adapters.select_connection import IOLoop

from orchestrator.app.ports import BusEvent, CommandQueue, Delivery, LinkChanged, OutboxMessage, Settled
from orchestrator.bus.connection import BLOCKED_CONNECTION_TIMEOUT_S, HEARTBEAT_S, parameters
from orchestrator.bus.consumer import Consumer
from orchestrator.bus.link import CLOSE_LIMIT_S, Link
from orchestrator.bus.publisher import Outcome, Publisher
from orchestrator.bus.topology import Retention, inbound, outbound, recording
from orchestrator.bus.trouble import Unreliable
from orchestrator.contract import Topology

#: How long `close` waits for the confirms of what was published.
DRAIN_LIMIT_S = 2.0
#: A message that is not confirmed after this, and as long again at most, means that the broker has forgotten it.
CONFIRM_LIMIT_S = 3.0
#: How long a look at a queue waits for the broker.
LOOK_LIMIT_S = 1.0

_log = structlog.get_logger(__name__)


class RabbitBus:
    """Implements `orchestrator.app.ports.Bus`.

    Acks: deliveries must be acked in the order they came; acking one acks every earlier one of its link epoch.
    After `close`, messages that are published are reported `lost`, on the caller's thread.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        participants: Collection[str],
        *,
        jitter: Callable[[], float],
        prefetch: int = 1000,
        retention: Retention | None = None,
        heartbeat_s: int = HEARTBEAT_S,
        blocked_connection_timeout_s: float = BLOCKED_CONNECTION_TIMEOUT_S,
    ) -> None:
        """`jitter` gives numbers in [0, 1); `prefetch`: messages delivered and not yet acked, 1 to 65535; `retention`: what the recorder
        keeps, None: there is none.

        Raises: SettingsError when the URL is none.
        """
        self._nodes = parameters(url, heartbeat_s=heartbeat_s, blocked_connection_timeout_s=blocked_connection_timeout_s)
        self._topology = topology
        self._participants = frozenset(participants)
        self._retention = retention
        self._jitter = jitter
        self._sink: Callable[[BusEvent], None] = lambda _: None
        self._last_change = LinkChanged(consuming=False, publishing=False)
        self._publisher = Publisher(self._settle, self._report_links, self._on_refused)
        self._consumer = Consumer(topology.inbox, prefetch, deliver=self._deliver, changed=self._report_links, cancelled=self._on_cancelled)
        self._consumes = False
        self._loop = IOLoop()
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        #: Guarded by `_closing`: no callback is put into the loop after the one that closes it.
        self._is_closed = False
        self._is_draining = False

    # --- the port ----------------------------------------------------------------------------------------------------

    @property
    def has_recorder(self) -> bool:
        """See the port."""
        return self._retention is not None

    def start(self, sink: Callable[[BusEvent], None], *, consume: bool) -> None:
        """See the port. Once only."""
        if self._thread is not None or self._is_closed:
            raise RuntimeError("a bus is started once")
        self._sink = sink
        self._consumes = consume
        # A process that only publishes declares the inbox too: events that come before the first worker must find a queue.
        # The recorder hears events from the exchange that goes with the inbox.
        outward = [] if consume and self._retention is None else inbound(self._topology)
        outward += outbound(self._topology, self._participants)
        outward += [] if self._retention is None else recording(self._topology, self._retention)
        self._outward = Link(
            "publish", self._loop, self._nodes, outward, self._publisher, jitter=self._jitter, on_idle=self._stop_when_idle
        )
        self._inward = Link(
            "consume",
            self._loop,
            self._nodes,
            inbound(self._topology),
            self._consumer,
            jitter=self._jitter,
            on_idle=self._stop_when_idle,
        )
        self._thread = threading.Thread(target=self._run, name="escrow-bus", daemon=True)
        self._call(self._outward.open)
        self._call(self._watch_confirms)
        if consume:
            self._call(self._inward.open)
        self._thread.start()

    def publish(self, messages: Sequence[OutboxMessage]) -> None:
        """See the port."""
        batch = list(messages)
        if not self._call(lambda: self._publish(batch)):
            for message in batch:
                self._sink(Settled(outbox_id=message.outbox_id, outcome="lost"))

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See the port."""
        batch = list(deliveries)
        self._call(lambda: self._consumer.ack(batch))

    def pause(self) -> None:
        """See the port."""
        self._call(self._leave_inbox)

    def resume(self) -> None:
        """See the port."""
        self._call(self._reopen)

    def inbox_depth(self) -> int | None:
        """See the port. Not for the bus's own thread."""
        found = self.inbox()
        return None if found is None else found.ready

    def inbox(self) -> CommandQueue | None:
        """What the broker says of the inbox; None when the link is down. As `inbox_depth`."""
        return self._queue(self._topology.inbox)

    def command_queue(self, participant: str) -> CommandQueue | None:
        """See the port. Not for the bus's own thread."""
        return self._queue(self._topology.command_queue(participant))

    def _queue(self, name: str) -> CommandQueue | None:
        found = self._look_at(name)
        return None if found is None else CommandQueue(ready=int(found.message_count), consumers=int(found.consumer_count))

    def close(self) -> None:
        """See the port. Blocks for at most DRAIN_LIMIT_S + CLOSE_LIMIT_S, and a little."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            if self._thread is None:
                self._loop.close()
                return
            self._loop.add_callback_threadsafe(self._begin_close)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=DRAIN_LIMIT_S + 2 * CLOSE_LIMIT_S)

    # --- on the bus's own thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                self._loop.start()
                break
            except Exception as error:  # noqa: BLE001 - a bug in pika or in us must not end the bus
                _log.exception("The bus loop failed; both links begin anew.", action="bus.loop_failed")
                self._outward.crash(error)
                self._inward.crash(error)
        self._publisher.lose_all()
        self._loop.close()

    def _call(self, callback: Callable[[], None]) -> bool:
        """Have the loop call this soon; False when the bus is closed."""
        with self._closing:
            if not self._is_closed:
                self._loop.add_callback_threadsafe(callback)
            return not self._is_closed

    def _publish(self, batch: list[OutboxMessage]) -> None:
        self._publisher.publish(batch)

    def _watch_confirms(self) -> None:
        if self._publisher.is_stalled():
            self._outward.fail(Unreliable(f"did not confirm a message within {CONFIRM_LIMIT_S:.0f} s"))
        if not self._is_draining:
            self._loop.call_later(CONFIRM_LIMIT_S, self._watch_confirms)

    def _on_refused(self) -> None:
        self._outward.fail(Unreliable("refused a message (nack)"))

    def _on_cancelled(self, reason: Exception) -> None:
        self._inward.fail(reason)

    def _leave_inbox(self) -> None:
        self._inward.close()

    def _reopen(self) -> None:
        if self._consumes and not self._is_draining:
            self._inward.open()

    def _begin_close(self) -> None:
        """Stop consuming; wait for confirms; then let the publishing link go, too."""
        self._is_draining = True
        self._inward.close()
        self._loop.call_later(DRAIN_LIMIT_S, self._finish_close)
        self._loop.call_later(DRAIN_LIMIT_S + CLOSE_LIMIT_S, self._loop.stop)
        self._finish_when_drained()

    def _finish_when_drained(self) -> None:
        if self._is_draining and self._publisher.is_empty:
            self._finish_close()

    def _finish_close(self) -> None:
        self._outward.close()

    def _stop_when_idle(self) -> None:
        if self._is_draining and self._inward.is_idle and self._outward.is_idle:
            self._loop.stop()

    def _look_at(self, queue: str) -> Any:
        """What the broker says of a queue (`Queue.DeclareOk`); None when it does not in time."""
        answer: Future[Any] = Future()
        if not self._call(lambda: self._ask(queue, answer)):
            return None
        with suppress(FutureTimeout):
            return answer.result(timeout=LOOK_LIMIT_S)
        return None

    def _ask(self, queue: str, answer: Future[Any]) -> None:
        """Ask on a channel of its own: the broker closes it if the queue is missing, and no other is harmed."""
        # One that the broker is closing takes no channel more.
        connection = next((one for one in (self._inward.connection, self._outward.connection) if one is not None and one.is_open), None)
        if connection is None:
            answer.set_result(None)
            return

        def reply(channel: Any, found: Any) -> None:
            if not answer.done():
                answer.set_result(found)
            if channel.is_open:
                channel.close()

        def ask(channel: Any) -> None:
            channel.add_on_close_callback(lambda closed, _reason: reply(closed, None))
            channel.queue_declare(queue, passive=True, callback=lambda found: reply(channel, found.method))

        connection.channel(on_open_callback=ask)

    # --- to the sink -------------------------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        self._sink(delivery)

    def _settle(self, message: OutboxMessage, outcome: Outcome) -> None:
        self._sink(Settled(outbox_id=message.outbox_id, outcome=outcome))
        if self._is_draining:  # soon, not now: whoever settles may be in the middle of its own books
            self._loop.add_callback_threadsafe(self._finish_when_drained)

    def _report_links(self, inbox_depth: int | None = None) -> None:
        for link, user in ((self._outward, self._publisher), (self._inward, self._consumer)):
            if user.is_up:
                link.entered()
        change = LinkChanged(
            consuming=self._consumer.is_up,
            publishing=self._publisher.is_up,
            blocked=self._publisher.is_blocked,
            inbox_depth=inbox_depth,
        )
        if replace(change, inbox_depth=None) != self._last_change:
            self._last_change = replace(change, inbox_depth=None)
            self._sink(change)

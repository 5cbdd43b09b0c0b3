"""The line: one handler thread takes every input of this process from one queue, in batches; only it opens a write transaction.

gather → handle (one commit) → publish → ack → the next batch. Acks follow the commit, and with a recorder the confirm of its record
(`protection`), but no other confirm: when the broker blocks publishing, the outbox grows and events are still taken. While the database is
away the worker stops consuming and lets its link go; nothing is requeued in a loop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import TypeVar

from orchestrator import logs
from orchestrator.app.care import Care
from orchestrator.app.culprit import bisect
from orchestrator.app.fire import Hearing, due_work
from orchestrator.app.fleet import Beat, Fleet, KeyRetention
from orchestrator.app.handle import Context, handle, put_off
from orchestrator.app.intake import Limits, Tick
from orchestrator.app.ports import Bus, Delivery, LinkChanged, Settled
from orchestrator.app.protection import Committed, Protection
from orchestrator.app.sending import Sending
from orchestrator.app.watch import Watcher
from orchestrator.app.work import Handled, Outcome, Work, read
from orchestrator.errors import DataRefused, InvariantViolated, StoreBusy, StoreForbidden, TemporaryError

#: Waits between tries while the database is busy or away: the first and the longest, in seconds.
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.1, 2.0
#: How long locks of other transactions are waited for before the database counts as away, in seconds.
_BUSY_MAX_S = 10.0
#: A batch smaller than this lingers when the one before it was larger.
_SMALL_BATCH = 16
#: Idle time after which confirmed rows are deleted without waiting for a batch, in seconds.
_TIDY_AFTER_S = 0.5

#: A process that stops waits so long for the recorder, in seconds.
_RECORDED_WITHIN_S = 2.0
_STOPPING = "This process is stopping: ask another, or ask again."

_log = logs.get(__name__)

_Answer = TypeVar("_Answer")
#: What comes to a line from other threads.
_Item = Delivery | Settled | LinkChanged | Work | Tick


class Line:
    """One handler thread. `consuming` False: the API process, which takes acts and orders and fires no deadlines."""

    def __init__(
        self,
        context: Context,
        bus: Bus,
        fleet: Fleet,
        watcher: Watcher,
        limits: Limits,
        *,
        role: str,
        monotonic: Callable[[], float],
        pause: Callable[[float], object],
        wake_at: Callable[[float], None],
        consume: bool,
    ) -> None:
        self._context = context
        self._name, self._names = context.owner, 0
        self._bus = bus
        self._fleet = fleet
        self._watcher = watcher
        self._limits = limits
        self._role = role
        self._monotonic = monotonic
        self._pause = pause
        self._wake_at = wake_at
        self._consume = consume
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._protection = Protection()
        self._sending = Sending(bus, fleet, self._protection, batch_count_max=limits.batch_count_max, monotonic=monotonic)
        self._care = Care(
            context.circuit, bus, fleet, watcher, batch_count_max=limits.batch_count_max, queue_count_max=limits.queue_count_max
        )
        self._key_retention = KeyRetention(fleet, batch_count_max=limits.batch_count_max)
        self._hearing = Hearing(
            drain_grace_s=limits.drain_grace_s, batch_count_max=limits.batch_count_max, tick_gap_max_s=limits.tick_gap_max_s
        )
        self._link = LinkChanged(consuming=False, publishing=False)
        self._batch_before = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="handler", daemon=True)
        #: Monotonic time of the last beat that the database answered; None before the first.
        self.beat_s: float | None = None
        self.database_up = False

    # --- from other threads

    def start(self) -> None:
        """Begin: the link, then the handler."""
        self._bus.start(self._queue.put, consume=self._consume)
        self._thread.start()

    def stop(self) -> None:
        """Stop consuming, finish the batch, ack, publish, close. Idempotent; takes a few seconds at most."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(timeout=10)

    def tick(self) -> None:
        """Put a tick into the queue."""
        self._queue.put(Tick(self._monotonic()))

    def submit(self, work: Work) -> Future[Outcome]:
        """Hand an input to the handler thread; the future is done after the commit."""
        future: Future[Outcome] = Future()
        work.on_outcome = future.set_result
        if self._stopping.is_set():
            future.set_exception(TemporaryError(_STOPPING))
        else:
            self._queue.put(work)
        return future

    @property
    def link(self) -> LinkChanged:
        """The state of the links, as last reported."""
        return self._link

    # --- the handler thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except TemporaryError:
                _log.info("stopping while the database does not answer; nothing of it was acked", action="left_undone")
            except Exception:  # noqa: BLE001  # a bug of ours must not end the only thread that moves orders
                _log.exception("the line stumbled; it begins anew", action="line_stumbled")
                self._begin_anew()
        self._close()

    def _begin_anew(self) -> None:
        """Let go what was in hand: what is not acked is delivered again, and not acked with what follows; what was not sent is adopted."""
        self._change_name()
        self._bus.pause()
        self._pause(_AGAIN_FIRST_S)
        self._bus.resume()

    def _turn(self) -> None:
        works, ticks = self._gather()
        for start in range(0, len(works), self._limits.batch_count_max):
            self._carry(works[start : start + self._limits.batch_count_max])
        if ticks:
            broker_takes = self._link.publishing and not self._link.blocked
            self._watcher.unprotected(self._protection.looked_at(self._monotonic(), broker_takes=broker_takes))
            self._release()
            self._on_tick()
        if not works:
            self._tidy()

    def _gather(self) -> tuple[list[Work], bool]:
        """Wait for an input or a tick, then take everything that is there, up to a batch; a small one after a larger one lingers.

        Confirms end no wait: a transaction of their own for each would cost more than the inputs do.
        """
        works: list[Work] = []
        ticked = False
        size = 0
        until_s = self._monotonic() + _TIDY_AFTER_S
        may_linger = self._batch_before >= _SMALL_BATCH
        while len(works) < self._limits.batch_count_max and size < self._limits.batch_bytes_max:
            item = self._next(until_s)
            if item is None:
                if not (works and may_linger and len(works) < _SMALL_BATCH):
                    break
                may_linger = False
                until_s = self._monotonic() + self._limits.linger_s
            elif isinstance(item, Settled):
                self._settle(item)
            elif isinstance(item, LinkChanged):
                self._on_link(item)
            else:
                until_s = 0.0
                if isinstance(item, Tick):
                    self._hearing.ticked(item.at_s, self._monotonic())
                    ticked = True
                elif isinstance(item, Delivery):
                    size += len(item.wire.body)
                    works.append(read(item, require_user_id=self._limits.require_user_id))
                else:
                    works.append(item)
        self._batch_before = len(works)
        # First, so that the transaction that deletes their rows re-arms their deadlines (R5).
        return [*self._sending.late(), *works], ticked

    def _next(self, until_s: float) -> _Item | None:
        """What comes next; None when nothing does until then, or when the line is to stop."""
        wait_s = until_s - self._monotonic()
        try:
            return self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None

    def _carry(self, works: list[Work]) -> Handled:
        """One batch along the line."""
        self._watcher.reached("received")
        started_s = self._monotonic()
        handled = self._handle(works)
        committed_s, owner = self._monotonic(), self._context.owner
        self._watcher.reached("committed")
        deliveries = [work.delivery for work in works if work.delivery is not None]
        self._protection.committed(Committed(committed_s, deliveries, handled.outcomes, set(handled.records)))
        # Under the name that wrote them: an outage meanwhile changes ours.
        self._sending.publish(handled.outbox, committed_s, owner, self._persist)
        self._watcher.reached("published")
        self._watcher.handled(handled, committed_s - started_s)
        self._release()
        self._care.handled(handled, self._persist)
        if handled.next_deadline_ms is not None:
            self._wake_at(committed_s + handled.next_deadline_ms / 1000)
        return handled

    def _release(self) -> None:
        """Ack what the recorder has, and tell the outcomes (R28); without a recorder, what was committed."""
        released = self._protection.released()
        deliveries = [delivery for batch in released for delivery in batch.deliveries]
        if deliveries:
            self._bus.ack(deliveries)
            self._watcher.reached("acked")
        for work, outcome in chain.from_iterable(batch.outcomes for batch in released):
            if work.on_outcome is not None:
                work.on_outcome(outcome)

    def _settle(self, settled: Settled) -> None:
        """Take note of what became of a message."""
        self._sending.settle(settled)
        self._watcher.settled(settled)
        self._release()

    def _handle(self, works: list[Work]) -> Handled:
        """Handle a batch until it is committed: temporary failures are waited out, bad data is bisected to its culprit."""
        confirmed = self._sending.confirmed()
        try:
            return self._persist(lambda: handle(self._context, works, confirmed=confirmed))
        except TemporaryError:
            # Not committed, so not acked: the broker delivers it to another worker.
            self._sending.put_back_confirmed(confirmed)
            raise
        except (DataRefused, InvariantViolated) as error:
            self._sending.put_back_confirmed(confirmed)
            return self._bisect(works, error)
        except Exception as error:  # noqa: BLE001  # a bug of ours, or rows that are damaged: whatever meets it is set aside alone
            if len(works) == 1:
                _log.exception("an input cannot be handled", action="input_refused", order_id=works[0].order_id)
            self._sending.put_back_confirmed(confirmed)
            return self._bisect(works, InvariantViolated(f"{type(error).__name__}: {error}"))

    def _bisect(self, works: list[Work], error: DataRefused | InvariantViolated) -> Handled:
        return bisect(works, error, self._handle, lambda *key: self._persist(lambda: put_off(self._context, *key)))

    def _persist(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask the database until it answers. Raises: TemporaryError when this process is to stop before that."""
        wait_s, begun_s = _AGAIN_FIRST_S, self._monotonic()
        while True:
            try:
                answer = ask()
            except TemporaryError as error:
                if isinstance(error, StoreBusy) and self._monotonic() - begun_s < _BUSY_MAX_S:
                    _log.info("waiting for another transaction", action="database_busy", error=str(error))
                    self._pause(wait_s)
                else:
                    self._database_is_away(error, wait_s)
                if self._stopping.is_set():
                    raise
                wait_s = min(_AGAIN_MAX_S, wait_s * 2)
            else:
                self._database_is_back()
                return answer

    def _on_link(self, link: LinkChanged) -> None:
        self._link = link
        self._hearing.link_changed(consuming=link.consuming, depth=link.inbox_depth, at_s=self._monotonic())
        _log.info(
            "the link changed",
            action="link_changed",
            consuming=link.consuming,
            publishing=link.publishing,
            blocked=link.blocked,
        )

    def _on_tick(self) -> None:
        try:
            beat = self._fleet.beat(self._context.owner, self._role, self._hearing.since_at, self._hearing.behind(self._monotonic()))
            self._database_is_back()
            self._context.registry.forget_marks()
            owners = self._care.owners(beat)
            self._hearing.beaten(beat.now)
            self.beat_s = self._monotonic()
            if self._consume:
                self._fire(beat)
            self._send(owners, beat.now)
            self._care.suspect(beat, self._context.owner)
            if self._consume:
                self._care.ticked(beat, self._monotonic(), self._carry)
                self._watcher.expired(self._fleet.expire_parked(beat.now, self._limits.batch_count_max))
                self._key_retention.ticked(beat.now)
        except TemporaryError as error:
            self._not_now(error)

    def _send(self, owners: Sequence[str | None], now: datetime) -> None:
        """Send what these left behind, and what came back; with the link down the API process leaves it to the workers.

        While the broker takes nothing it stays where it is, in the outbox.
        """
        if self._link.publishing and not self._link.blocked:
            for owner in owners:
                self._sending.adopt(owner, self._context.owner, now)
            self._sending.send_again(self._context.owner)
        elif not self._link.publishing and not self._consume:
            self._sending.leave_to_others(self._context.owner)

    def _fire(self, beat: Beat) -> None:
        """Fire what is due, batch after batch; and be woken when the next is."""
        if self._hearing.consuming and not self._hearing.drained:
            self._hearing.measured(self._bus.inbox_depth(), self._monotonic())
        while self._hearing.may_fire and not self._stopping.is_set():
            works = due_work(
                self._context.store, self._limits.batch_count_max, heard_since=beat.earliest_link_up_at or self._hearing.since_at
            )
            fired = works and any(outcome.decision and outcome.decision.entry for _, outcome in self._carry(works).outcomes)
            if not fired or len(works) < self._limits.batch_count_max:
                break
        if beat.next_due_at is not None:
            self._wake_at(self._monotonic() + (beat.next_due_at - beat.now).total_seconds())

    def _tidy(self) -> None:
        """With nothing else to do, delete the confirmed rows."""
        try:
            self._sending.tidy()
        except TemporaryError as error:
            self._not_now(error)

    def _not_now(self, error: TemporaryError) -> None:
        """Something that the next tick tries again was not done; nothing is to be said of a lock that somebody else held."""
        if not isinstance(error, StoreBusy):
            self._database_is_away(error, 0)

    def _database_is_away(self, error: Exception, wait_s: float) -> None:
        """Let the inbox go, so that others may take it, and wait."""
        if self.database_up or self.beat_s is None:
            refuses = isinstance(error, StoreForbidden)
            what = "the database refuses what its user must do" if refuses else "the database does not answer"
            _log.warning(what, action="database_away", error=str(error))
        self.database_up = False
        self._change_name()
        self._bus.pause()
        if wait_s:
            self._pause(wait_s)

    def _change_name(self) -> None:
        """A commit whose answer was lost may have left messages that we know nothing of: they are another's now, and adopted (R17)."""
        self._names += 1
        self._context = replace(self._context, owner=f"{self._name}~{self._names}")

    def _database_is_back(self) -> None:
        if not self.database_up:
            self.database_up = True
            self._hearing.interrupted(self._monotonic())
            self._bus.resume()

    def _close(self) -> None:
        """What is committed is acked and answered once it is recorded; what is not begun is left to others."""
        until_s = self._monotonic() + _RECORDED_WITHIN_S
        while not self._protection.is_empty and self._monotonic() < until_s:
            self._leave(self._next(until_s))
        self._bus.close()
        while not self._queue.empty():
            self._leave(self._queue.get_nowait())
        self._protection.give_up(_STOPPING)
        try:
            self._tidy()
            self._fleet.leave(self._context.owner)
        except TemporaryError:
            _log.info("the database does not answer; another worker will adopt what is left", action="left_behind")

    def _leave(self, item: _Item | None) -> None:
        if isinstance(item, Settled):
            self._settle(item)
        elif isinstance(item, Work) and item.on_outcome is not None:
            item.on_outcome(Outcome(decision=None, order=None, error=TemporaryError(_STOPPING)))

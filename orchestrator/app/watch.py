"""What a process tells about itself while the line runs: metrics, log lines, and the fail-points that tests kill it at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from orchestrator import logs
from orchestrator.app.ports import Settled
from orchestrator.app.work import Handled, Work
from orchestrator.errors import DataRefused, RequestError
from orchestrator.metrics import Metrics
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Message, OperatorAct

#: The points of the line at which a test may have the process killed (`ESCROW_FAILPOINT`), in the order of the line.
FAILPOINTS = ("received", "committed", "published", "confirmed", "acked")

_log = logs.get(__name__)


class Watcher(Protocol):
    """Who is told what happens: metrics, logs and the fail-points of the tests."""

    def handled(self, handled: Handled, seconds: float) -> None:
        """A batch was committed."""

    def expired(self, count: int) -> None:
        """So many parked messages were put into the quarantine, because nothing they fit came in time."""

    def fell_silent(self, participant: str) -> None:
        """Many orders find a participant silent (R8)."""

    def recovering(self, participant: str) -> None:
        """A silent participant gave a sign of life."""

    def settled(self, settled: Settled) -> None:
        """A message was confirmed, or came back."""

    def unprotected(self, seconds: float) -> None:
        """For so long acks and answers did not wait for the recorder (R28), since this was said last; 0: they do."""

    def reached(self, point: str) -> None:
        """A named point of the line: `received`, `committed`, `published`, `confirmed`, `acked`."""


class LineWatcher:
    """Implements `Watcher`. `die` ends the process at once; it is called only at the named fail-point."""

    def __init__(self, metrics: Metrics, *, failpoint: str | None, die: Callable[[], None]) -> None:
        self._metrics = metrics
        self._failpoint = failpoint
        self._is_unprotected = False
        self._die = die

    def handled(self, handled: Handled, seconds: float) -> None:
        """Count a committed batch, and log what a human may want to know."""
        self._metrics.batch_s.observe(seconds)
        self._metrics.batch_size.observe(len(handled.outcomes))
        for work, outcome in handled.outcomes:
            if work.dry_run:
                continue
            if outcome.decision is not None:
                self._decided(work, outcome.decision)
            if outcome.error is not None and not isinstance(outcome.error, RequestError):
                self._failed(work, outcome.error)

    def expired(self, count: int) -> None:
        """Count parked messages that went to the quarantine."""
        if count:
            self._metrics.quarantined.labels(reason="parked_expired").inc(count)
            _log.warning("parked messages were quarantined", action="parked_expired", count=count)

    def fell_silent(self, participant: str) -> None:
        """Alert."""
        self._metrics.alerts.labels(name="participant_silent").inc()
        _log.warning("a participant is silent: what it is asked is kept back", action="participant_silent", participant=participant)

    def recovering(self, participant: str) -> None:
        """Log it."""
        _log.info("a silent participant is back: what was kept back goes out", action="participant_recovering", participant=participant)

    def settled(self, settled: Settled) -> None:
        """Count what came back."""
        if settled.outcome == "returned":
            self._metrics.returned.inc()
            _log.warning("the broker has no queue for a command", action="command_returned", outbox_id=settled.outbox_id)
        if settled.outcome == "confirmed":
            self.reached("confirmed")

    def unprotected(self, seconds: float) -> None:
        """Count, and say once that it begins, and that it ends."""
        self._metrics.unprotected_s.inc(seconds)
        if bool(seconds) == self._is_unprotected:
            return
        self._is_unprotected = bool(seconds)
        if self._is_unprotected:
            self._metrics.alerts.labels(name="unprotected").inc()
            text = "the broker takes no records: what is accepted now could not be recovered if the database were lost"
            _log.warning(text, action="recorder_behind")
        else:
            _log.info("everything is recorded again", action="recorder_caught_up")

    def reached(self, point: str) -> None:
        """A named point of the line."""
        if point == self._failpoint:
            self._die()

    def _failed(self, work: Work, error: Exception) -> None:
        """An input of ours, or a bug: a human must look. What callers did wrong is their own matter."""
        self._metrics.alerts.labels(name="internal_error").inc()
        if not isinstance(error, DataRefused):  # that was logged when it was found
            _log.error("deciding raised: this is a bug", action="decide_raised", order_id=work.order_id, exc_info=error)

    def _decided(self, work: Work, decision: Decision) -> None:
        self._metrics.inputs.labels(kind=_kind(work), verdict=decision.verdict).inc()
        for command in decision.commands:
            self._metrics.commands.labels(kind="undo" if command.undoes else "do", name=command.name).inc()
        if decision.quarantine is not None:
            self._metrics.quarantined.labels(reason=decision.quarantine).inc()
            _log.warning("a message was quarantined", action="quarantined", order_id=work.order_id, reason=decision.reason)
        for alert in decision.alerts:
            self._metrics.alerts.labels(name=alert.partition(":")[0]).inc()
            _log.warning("a human should look", action="alert", order_id=work.order_id, reason=alert)
        if isinstance(work.input, DeadlineDue) and decision.entry is not None:
            self._fired(decision)
        if decision.entry is not None:
            _log.debug(
                "decided",
                action="decided",
                order_id=work.order_id,
                seq=decision.entry.seq,
                verdict=decision.verdict,
                state=decision.entry.to_state,
            )

    def _fired(self, decision: Decision) -> None:
        self._metrics.deadlines_fired.inc()
        if decision.fired_late_s is not None:
            self._metrics.deadline_lateness_s.observe(decision.fired_late_s)


def _kind(work: Work) -> str:
    if isinstance(work.input, Message) or work.input is None:
        return "message"
    if isinstance(work.input, DeadlineDue):
        return "deadline"
    return "act" if isinstance(work.input, OperatorAct) else "sent_late"

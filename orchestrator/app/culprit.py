"""A batch that cannot be written for what is in it is halved until the culprit stands alone; its neighbours are applied (section 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator import logs
from orchestrator.app.handle import in_order
from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.errors import DataRefused, InvariantViolated, MalformedMessage
from orchestrator.saga.inputs import DeadlineDue

_log = logs.get(__name__)

#: Handles a batch until it is committed.
_Handle = Callable[[list[Work]], Handled]
#: Puts a deadline (order id, name) off.
_PutOff = Callable[[str, str], None]


def bisect(works: list[Work], error: DataRefused | InvariantViolated, handle: _Handle, put_off: _PutOff) -> Handled:
    """Handle what can be handled of a batch that failed with `error`. Raises: TemporaryError."""
    ordered = in_order(works)
    if len(ordered) == 1:
        return _isolate(ordered[0], error, handle, put_off)
    middle = len(ordered) // 2
    first, second = handle(ordered[:middle]), handle(ordered[middle:])
    nexts = [ms for ms in (first.next_deadline_ms, second.next_deadline_ms) if ms is not None]
    return Handled(
        outcomes=first.outcomes + second.outcomes,
        outbox=first.outbox + second.outbox,
        records=first.records + second.records,
        next_deadline_ms=min(nexts, default=None),
    )


def _isolate(work: Work, error: DataRefused | InvariantViolated, handle: _Handle, put_off: _PutOff) -> Handled:
    """The culprit alone: a message is quarantined as it came, a deadline is put off, an act is answered with the error."""
    if isinstance(error, DataRefused):
        _log.error("the database refuses an input", action="input_refused", order_id=work.order_id, error=str(error))
    if work.delivery is not None and work.unreadable is None:
        is_ours = isinstance(error, InvariantViolated)
        refusal = error if isinstance(error, InvariantViolated) else MalformedMessage(f"The database refuses it: {error}")
        handled = handle([Work(order_id=None, input=None, delivery=work.delivery, unreadable=refusal, recovered=work.recovered)])
        return replace(handled, outcomes=[(work, replace(outcome, error=error if is_ours else None)) for _, outcome in handled.outcomes])
    if isinstance(work.input, DeadlineDue) and work.order_id is not None:
        put_off(work.order_id, work.input.name)
    return Handled(outcomes=[(work, Outcome(decision=None, order=None, error=error))])

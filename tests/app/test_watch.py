"""What a process tells about itself: nothing that a human must see is counted as nothing."""

from __future__ import annotations

import pytest

from orchestrator.app.watch import LineWatcher
from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.errors import Conflict, DataRefused, InvariantViolated
from orchestrator.metrics import Metrics
from orchestrator.saga.inputs import DeadlineDue


def count(metrics: Metrics, counter: str, **labels: str) -> float:
    """A counter; 0 before it was raised."""
    return metrics.registry.get_sample_value(f"escrow_{counter}_total", labels) or 0.0


@pytest.mark.parametrize(
    ("error", "alerts"),
    [(InvariantViolated("no undo:x from y"), 1), (KeyError("x"), 1), (DataRefused("planted"), 1), (Conflict("resolved already"), 0)],
)
def test_what_an_input_of_ours_comes_to_is_alerted(error: Exception, alerts: int) -> None:
    """If it failed, an order would stand still for a bug that nobody hears of; or an operator's mistake would wake another."""
    metrics = Metrics()
    work = Work(order_id="o1", input=DeadlineDue(name="reply:a.0.1", generation=1))
    outcome = Outcome(decision=None, order=None, error=error)
    LineWatcher(metrics, failpoint=None, die=lambda: None).handled(Handled(outcomes=[(work, outcome)]), 0.1)
    assert count(metrics, "alerts", name="internal_error") == alerts


def test_expired_messages_are_counted() -> None:
    """If it failed, the quarantine would grow and its counter would not."""
    metrics = Metrics()
    watcher = LineWatcher(metrics, failpoint=None, die=lambda: None)
    for number in (0, 3, 1):
        watcher.expired(number)
    assert count(metrics, "quarantined", reason="parked_expired") == 4

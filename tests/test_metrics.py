"""The metrics: their names are a contract with dashboards and alerts."""

from __future__ import annotations

from orchestrator.errors import StoreUnavailable
from orchestrator.metrics import Levels, Metrics


def test_every_promised_metric_is_there_by_name() -> None:
    """A dashboard or an alert would go blind without anyone noticing."""
    metrics = Metrics()
    metrics.read_levels_from(
        lambda: Levels(
            orders={("order", "taking_payment", "running"): 3},
            outbox_age_s=1.5,
            outbox_messages=2,
            parked=1,
            quarantine_open=4,
            participants={"inventory": "silent"},
            held={"inventory": 12},
        )
    )
    metrics.deadlines_fired.inc()
    metrics.deadline_lateness_s.observe(0.2)
    metrics.commands.labels(kind="do", name="TakePayment").inc()
    metrics.inputs.labels(kind="message", verdict="moved").inc()
    metrics.quarantined.labels(reason="malformed").inc()
    metrics.alerts.labels(name="undo_silent").inc()

    text = metrics.render()[0].decode()

    for line in (
        'escrow_orders{definition="order",state="taking_payment",status="running"} 3.0',
        "escrow_deadlines_fired_total 1.0",
        'escrow_deadline_lateness_seconds_bucket{le="0.25"} 1.0',
        'escrow_commands_total{kind="do",name="TakePayment"} 1.0',
        'escrow_inputs_total{kind="message",verdict="moved"} 1.0',
        "escrow_batch_size_count 0.0",
        "escrow_batch_seconds_count 0.0",
        "escrow_outbox_age_seconds 1.5",
        "escrow_outbox_messages 2.0",
        "escrow_parked 1.0",
        "escrow_quarantine_open 4.0",
        'escrow_participant_state{participant="inventory",state="silent"} 1.0',
        'escrow_participant_state{participant="inventory",state="healthy"} 0.0',
        'escrow_participant_held{participant="inventory"} 12.0',
        'escrow_quarantined_total{reason="malformed"} 1.0',
        "escrow_returned_total 0.0",
        'escrow_alerts_total{name="undo_silent"} 1.0',
    ):
        assert line in text.splitlines()


def test_a_scrape_without_database_still_answers() -> None:
    """During an outage of the database, when they matter most, there would be no metrics at all."""
    metrics = Metrics()

    def unreachable() -> Levels:
        raise StoreUnavailable

    metrics.read_levels_from(unreachable)
    metrics.returned.inc()

    assert "escrow_returned_total 1.0" in metrics.render()[0].decode()
    text = metrics.render()[0].decode()
    assert "escrow_orders{" not in text
    assert "escrow_scrape_failures_total 1.0" in text or "escrow_scrape_failures_total 2.0" in text


def test_two_in_one_process_do_not_meet() -> None:
    """`escrow up` and the tests make several: the second would be refused for its duplicate names."""
    first, second = Metrics(), Metrics()

    first.returned.inc()

    assert "escrow_returned_total 0.0" in second.render()[0].decode()

"""Whether silence is evidence (R9)."""

from __future__ import annotations

from orchestrator.app.fire import Hearing


def hearing() -> Hearing:
    return Hearing(drain_grace_s=30, batch_count_max=100)


def test_a_worker_without_link_fires_nothing() -> None:
    """If it failed, our own deafness would undo orders."""
    assert not hearing().may_fire


def test_queued_replies_are_read_before_deadlines_fire() -> None:
    """If it failed, a restart after an outage would undo orders whose replies lie in the inbox."""
    worker = hearing()
    worker.link_changed(consuming=True, depth=5_000, at_s=0)
    assert not worker.may_fire
    worker.measured(3_000, 1)
    assert not worker.may_fire
    worker.measured(99, 2)
    assert worker.may_fire


def test_an_inbox_that_never_shrinks_holds_deadlines_back_no_longer_than_the_grace() -> None:
    """If it failed, a busy inbox would stop all clocks for ever."""
    worker = hearing()
    worker.link_changed(consuming=True, depth=None, at_s=0)
    worker.measured(5_000, 29)
    assert not worker.may_fire
    worker.measured(None, 30)
    assert worker.may_fire


def test_a_lost_link_or_database_begins_anew() -> None:
    """If it failed, only the first outage of a process would be noticed."""
    worker = hearing()
    worker.link_changed(consuming=True, depth=0, at_s=0)
    assert worker.may_fire
    worker.link_changed(consuming=False, depth=None, at_s=1)
    assert not worker.may_fire
    worker.link_changed(consuming=True, depth=200, at_s=2)
    assert not worker.may_fire
    worker.measured(0, 3)
    worker.interrupted(4)
    assert not worker.may_fire

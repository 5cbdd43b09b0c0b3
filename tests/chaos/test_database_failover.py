"""The primary of PostgreSQL is killed under load and its standby promoted; then the old primary comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.installation import Installation
from tests.chaos.load import STALL_MAX_S, TRIALS, Load, assert_all_completed, longest_gap_s, present, report, steady
from tests.support.replicated import PostgresPair, postgres_pair
from tests.support.services import amqp_url

pytestmark = [pytest.mark.real, pytest.mark.slow]

ENTRIES = "SELECT order_id, seq, hash FROM journal"


@dataclass(frozen=True, slots=True)
class World:
    """An installation on a primary and its standby."""

    escrow: Installation
    pair: PostgresPair


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two workers, the API and the real participants."""
    home = tmp_path_factory.mktemp("failover")
    with postgres_pair() as pair, steady(home, database_url=pair.url, amqp_url=amqp_url()) as escrow:
        yield World(escrow, pair)


@pytest.mark.timeout(60 + 60 * TRIALS)
def test_a_killed_primary_loses_nothing_and_is_refused_when_it_comes_back(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A failover would lose accepted orders, or stop them for long, or an old primary would take half of the writes."""
    stalls_s = [fail_over(world) for _ in range(TRIALS)]
    with capsys.disabled():
        report("PostgreSQL's primary killed", stalls_s)
    assert max(stalls_s) < STALL_MAX_S


def fail_over(world: World) -> float:
    """One trial; returns how long orders stood still, in seconds."""
    escrow, pair = world.escrow, world.pair
    before = escrow.totals("inventory")["reserved"]
    with Load(escrow) as load:
        load.wait_for_ends()
        since = present() - 1
        pair.kill_primary()
        pair.promote()
        load.wait_for_ends()
        stall_s = longest_gap_s(pair.primary.url, since)
        refuse_the_old_one(world, load)
    assert_all_completed(escrow, load.accepted, reserved_before=before)
    assert all(worker.status is None for worker in escrow.workers)
    pair.rejoin()
    return stall_s


def refuse_the_old_one(world: World, load: Load) -> None:
    """The old primary comes back and would take writes; nothing reaches it, not even from a process that has just started."""
    escrow, pair = world.escrow, world.pair
    # It may have entries of its own, of which nobody was told: commits that waited for the standby when it was killed.
    pair.start_old_read_only()
    left = pair.standby.rows(ENTRIES)
    pair.let_old_write()
    assert pair.standby.ask("SELECT NOT pg_is_in_recovery()")
    newcomer = escrow.start_worker()
    load.wait_for_ends()
    assert newcomer.terminate() == 0
    escrow.workers.remove(newcomer)
    assert pair.standby.rows(ENTRIES) == left
    highest = "SELECT max(timeline) FROM timelines"
    assert pair.standby.ask(highest) < pair.primary.ask(highest)

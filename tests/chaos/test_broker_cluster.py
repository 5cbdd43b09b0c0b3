"""Nodes of a RabbitMQ cluster are killed under load: one, the leader of the inbox; then two of three."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.acceptance.installation import Installation
from tests.chaos.load import STALL_MAX_S, STEADY, TRIALS, Load, assert_all_completed, longest_gap_s, present, report, steady
from tests.support.cluster import RabbitCluster, rabbit_cluster
from tests.support.processes import eventually
from tests.support.rabbitmq import RabbitUnavailable, can_connect
from tests.support.services import fresh_postgres

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: How long two nodes stay away, in seconds: longer than every deadline of a step.
AWAY_S = STEADY.deadline_s + 2


@dataclass(frozen=True, slots=True)
class World:
    """An installation on a cluster of three."""

    escrow: Installation
    cluster: RabbitCluster

    @property
    def inbox(self) -> str:
        """The queue that the workers consume."""
        return self.escrow.played.topology.inbox

    def unconfirmed(self, order_id: str) -> int:
        """How many messages of an order the broker has not confirmed."""
        with psycopg.connect(self.escrow.database_url.replace("+psycopg", "")) as connection:
            row = connection.execute("SELECT count(*) FROM outbox WHERE order_id = %s", (order_id,)).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two workers, the API and the real participants."""
    home = tmp_path_factory.mktemp("cluster")
    with rabbit_cluster() as cluster, fresh_postgres() as url, steady(home, database_url=url, amqp_url=cluster.url) as escrow:
        cluster.wait_for_copies(escrow.played.topology.inbox)
        yield World(escrow, cluster)


@pytest.mark.timeout(90 + 60 * TRIALS)
def test_a_killed_leader_of_the_inbox_loses_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Events and commands that the broker had taken would be gone, or everything would stand still until somebody looks."""
    stalls_s = [lose_the_leader(world) for _ in range(TRIALS)]
    with capsys.disabled():
        report("leader of the inbox killed", stalls_s)
    assert max(stalls_s) < STALL_MAX_S


def lose_the_leader(world: World) -> float:
    """One trial; returns how long orders stood still, in seconds."""
    escrow, cluster = world.escrow, world.cluster
    before = escrow.totals("inventory")["reserved"]
    leader = cluster.leader(world.inbox)
    with Load(escrow) as load:
        load.wait_for_ends()
        since = present() - 1
        cluster.kill(leader)
        load.wait_for_ends()
        stall_s = longest_gap_s(escrow.database_url, since)
    assert_all_completed(escrow, load.accepted, reserved_before=before)
    cluster.start_nodes(leader)
    cluster.wait_for_copies(world.inbox)
    return stall_s


@pytest.mark.timeout(240)
def test_without_a_majority_no_confirm_is_believed_and_all_resumes_with_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that one node of three has taken would count as sent, and its order would wait for an answer to nothing."""
    escrow, cluster = world.escrow, world.cluster
    before = escrow.totals("inventory")["reserved"]
    _, *lost = cluster.nodes
    with Load(escrow) as load:
        load.wait_for_ends()
        for node in lost:
            cluster.kill(node)
        order_id = load.wait_for_more()
        away_at = present()
        eventually(lambda: present() - away_at > AWAY_S, AWAY_S + 10, what="the majority stays away")
        stands = escrow.order(order_id)
        assert (stands["state"], stands["attempts"]) == ("reserving_inventory", 1)
        assert world.unconfirmed(order_id) == 1
        cluster.start_nodes(*lost)
        back_at = present()
        escrow.wait(order_id, "completed", timeout_s=60)
        resumed_s = present() - back_at
    assert_all_completed(escrow, load.accepted, reserved_before=before)
    cluster.wait_for_copies(world.inbox)
    with capsys.disabled():
        print(f"\ntwo nodes of three lost: orders went on {resumed_s:.1f} s after they took connections again")


def test_a_new_node_whose_seed_is_away_founds_no_cluster() -> None:
    """It would be a broker of its own, and clients that name all nodes would be split between the two, unsaid."""
    with rabbit_cluster(is_started=False) as cluster:
        _, second, _ = cluster.nodes
        with pytest.raises(RabbitUnavailable, match=r"was not started: its seed .* does not answer"):
            cluster.start_nodes(second)
        assert not can_connect(second.url)
        # The next start is its first one again.
        assert not (second.home / "environment").exists()

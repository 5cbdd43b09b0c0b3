"""The broker or the database goes away and comes back, on servers of our own. An outage of ours is nobody's silence (R5, R9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.acceptance.installation import Installation, installed
from tests.acceptance.stories import ATTEMPTS, BRISK, CALM, ORDER
from tests.support import services
from tests.support.postgres import PostgresServer
from tests.support.processes import eventually
from tests.support.rabbitmq import RabbitServer

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Everything that BRISK sends a step would be over after this, in seconds.
ALL_ATTEMPTS_S = ATTEMPTS * BRISK.deadline_s + 3 * BRISK.first_s


@dataclass(frozen=True, slots=True)
class World:
    """An installation, and the servers it stands on."""

    escrow: Installation
    broker: RabbitServer
    database: PostgresServer


@pytest.fixture(scope="module")
def private_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Started once for this module: servers take their time."""
    home = tmp_path_factory.mktemp("outages")
    with (
        services.private_rabbitmq() as broker,
        services.private_postgres() as database,
        installed(home, database_url=database.url, amqp_url=broker.url) as escrow,
    ):
        escrow.start()
        yield World(escrow, broker, database)


@pytest.fixture
def world(private_world: World) -> Iterator[World]:
    """After each test the journals are verified, and nobody has done anything twice."""
    yield private_world
    private_world.escrow.assert_nothing_twice()
    private_world.escrow.assert_verified()


def pass_s(seconds: float) -> None:
    """Let this much time pass: the outage must outlast what it is compared with."""
    begun = datetime.now(UTC)
    eventually(lambda: (datetime.now(UTC) - begun).total_seconds() >= seconds, seconds + 5, what="the outage lasts")


def attempts(escrow: Installation, order_id: str, name: str) -> int:
    """The highest attempt of a command that was sent."""
    return max((attempt for sent, attempt, _ in escrow.sendings(order_id) if sent == name), default=0)


def test_a_broker_that_restarts_loses_no_order(world: World) -> None:
    """Workers, API or participants would not find back, or what was under way would be gone."""
    escrow = world.escrow
    under_way = [escrow.place(ORDER) for _ in range(10)]
    world.broker.restart()
    after = escrow.place(ORDER)
    for order_id in [*under_way, after]:
        escrow.wait(order_id, "completed", timeout_s=60)


def test_a_broker_away_longer_than_all_attempts_undoes_nothing(world: World) -> None:
    """Our own deafness would be taken for the participants' silence, also of an order on its last attempt."""
    escrow = world.escrow
    first, last = escrow.place(BRISK), escrow.place(BRISK)
    escrow.play_through(first, "ReserveInventory")
    escrow.played.asked("ReserveInventory", last, attempt=ATTEMPTS)
    escrow.wait_state(first, "taking_payment")
    escrow.act(first, "holds")
    world.broker.stop()
    escrow.act(first, "releases")
    pass_s(ALL_ATTEMPTS_S)
    assert escrow.order(last)["status"] == "running"
    world.broker.start()
    for order_id in (last, first):
        name = "ReserveInventory" if order_id == last else "TakePayment"
        escrow.played.reply(escrow.played.asked(name, order_id, timeout_s=60))
    escrow.play_through(last, "TakePayment")
    for order_id in (last, first):
        escrow.play_through(order_id, "EmailInvoice")
        escrow.wait(order_id, "completed")
        assert "undoing" not in {str(entry["to_state"]).partition("_")[0] for entry in escrow.history(order_id)}
    assert attempts(escrow, last, "ReserveInventory") == ATTEMPTS


def test_publishing_blocked_by_an_alarm_undoes_nothing(world: World) -> None:
    """A broker short of memory would have every order given up, though no participant was ever asked."""
    escrow = world.escrow
    world.broker.alarm(on=True)
    try:
        order_id = escrow.place(BRISK)
        pass_s(ALL_ATTEMPTS_S)
        order = escrow.order(order_id)
        assert (order["status"], order["attempts"]) == ("running", 1)
    finally:
        world.broker.alarm(on=False)
    escrow.play_through(order_id)
    assert escrow.wait(order_id, "completed")["cause"] is None


def test_a_database_that_restarts_loses_no_order(world: World) -> None:
    """Workers would die, requeue in a loop, or forget what they had read."""
    escrow = world.escrow
    order_ids = [escrow.new_id("database") for _ in range(10)]
    for order_id in order_ids[:5]:
        escrow.played.say(escrow.opening(ORDER, order_id))
    world.database.stop()
    for order_id in order_ids[5:]:
        escrow.played.say(escrow.opening(ORDER, order_id))
    world.database.start()
    for order_id in order_ids:
        escrow.wait(order_id, "completed", timeout_s=60)
    assert all(worker.status is None for worker in escrow.workers)


def test_replies_that_queued_up_go_before_deadlines_that_passed(world: World) -> None:
    """After an outage of all workers every order that waited would be asked again or undone, its answer lying in the inbox."""
    escrow = world.escrow
    order_ids = [escrow.place(CALM if number == 0 else BRISK) for number in range(5)]
    commands = [escrow.played.asked("ReserveInventory", order_id) for order_id in order_ids]
    for worker in escrow.workers:
        worker.kill()
    escrow.workers.clear()
    for command in commands:
        escrow.played.reply(command)
    pass_s(ALL_ATTEMPTS_S)
    escrow.start_worker()
    for name in ("TakePayment", "EmailInvoice"):
        for order_id in order_ids:
            escrow.play_through(order_id, name)
    for order_id in order_ids:
        escrow.wait(order_id, "completed")
        assert escrow.verdicts(order_id, "InventoryReserved") == ["moved"]
    escrow.start_worker()

"""RabbitMQ comes back without anything that it had: no exchange, no queue, no message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from tests.acceptance.installation import Installation
from tests.acceptance.stories import REAL
from tests.chaos.load import SOME, STEADY, Load, assert_all_completed, steady
from tests.support import services
from tests.support.processes import eventually
from tests.support.rabbitmq import RabbitServer

pytestmark = [pytest.mark.real, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class World:
    """An installation, and the broker that it will lose."""

    escrow: Installation
    broker: RabbitServer


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two workers, the API and the real participants."""
    home = tmp_path_factory.mktemp("lost")
    with (
        services.private_rabbitmq() as broker,
        services.fresh_postgres() as url,
        steady(home, database_url=url, amqp_url=broker.url) as escrow,
    ):
        yield World(escrow, broker)


@pytest.mark.timeout(180)
def test_a_broker_that_lost_everything_is_set_up_again_and_nothing_is_lost(world: World) -> None:
    """Commands that were confirmed and then lost would never be asked again, or would be taken for refusals of silent participants."""
    escrow = world.escrow
    before = escrow.totals("inventory")["reserved"]
    with Load(escrow) as load:
        load.wait_for_ends()
        for name in REAL:
            escrow.tell(name, stall=True)
        # A participant may have had the first commands in its hands when it was told to stall: it has them still when it goes on.
        load.wait_for_more()
        load.wait_for_more()
    asked = load.accepted[-SOME:]
    eventually(lambda: confirmed(escrow, asked), 20, what="the broker has confirmed every command")

    world.broker.wipe()
    for name in REAL:
        escrow.tell(name)

    assert_all_completed(escrow, load.accepted, reserved_before=before)
    for order_id in asked:
        sent = [attempt for name, attempt, _ in escrow.sendings(order_id) if name == "ReserveInventory"]
        assert len(sent) > 1, "the command that the broker had lost was sent again"
        assert set(sent) == {1}, "and no attempt was spent on it: the silence was ours"
    later = escrow.place(STEADY)
    escrow.wait(later, "completed")


def confirmed(escrow: Installation, order_ids: list[str]) -> bool:
    """Whether these orders wait for an answer, and none of their messages for a confirm."""
    with psycopg.connect(escrow.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT count(*) FILTER (WHERE state = 'reserving_inventory'), (SELECT count(*) FROM outbox) "
            "FROM orders WHERE order_id = ANY(%s)",
            (order_ids,),
        ).fetchone()
    return row == (len(order_ids), 0)

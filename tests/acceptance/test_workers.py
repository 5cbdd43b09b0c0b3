"""Several workers on the same orders: side by side, killed at every point of the line, and told to stop."""

from __future__ import annotations

import signal

import pytest

from orchestrator.app.watch import FAILPOINTS
from tests.acceptance.installation import Installation
from tests.acceptance.stories import CALM, ORDER
from tests.support.processes import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: Orders at once: enough for every worker to get some.
MANY = 20


def test_two_workers_apply_copies_of_one_answer_once(escrow: Installation) -> None:
    """Workers that handle one order at the same moment would both move it."""
    order_id = escrow.place(CALM)
    command = escrow.played.asked("ReserveInventory", order_id)
    for _ in range(MANY):
        escrow.played.reply(command)
    eventually(lambda: len(escrow.verdicts(order_id, "InventoryReserved")) == MANY, 20)
    verdicts = escrow.verdicts(order_id, "InventoryReserved")
    assert sorted(verdicts) == ["duplicate"] * (MANY - 1) + ["moved"]
    escrow.play_through(order_id, "TakePayment", "EmailInvoice")
    escrow.wait(order_id, "completed")


@pytest.mark.parametrize("point", FAILPOINTS)
def test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice(escrow: Installation, point: str) -> None:
    """A crash between receive, commit, ack, publish and confirm would lose an order, or pay for it twice."""
    reserved, taken = escrow.totals("inventory")["reserved"], escrow.totals("payment")["taken"]
    doomed = escrow.start_worker(failpoint=point)
    order_ids = [escrow.new_id(point) for _ in range(MANY)]
    for order_id in order_ids:
        escrow.played.say(escrow.opening(ORDER, order_id))
    assert doomed.wait() == -signal.SIGKILL
    for order_id in order_ids:
        escrow.wait(order_id, "completed")
    assert escrow.totals("inventory")["reserved"] == reserved + MANY
    assert escrow.totals("payment")["taken"] == taken + MANY


def test_an_undo_by_another_worker_follows_the_command_that_a_dead_one_left(escrow: Installation) -> None:
    """The undo would overtake the command, whose first sending would then come after it."""
    doomed = escrow.start_worker(failpoint="acked")
    order_ids = [escrow.new_id("left") for _ in range(MANY)]
    for order_id in order_ids:
        escrow.played.say(escrow.opening(CALM, order_id))
    assert doomed.wait() == -signal.SIGKILL
    for order_id in order_ids:
        escrow.do(order_id, "aborts")
    for order_id in order_ids:
        escrow.play_through(order_id, "ReleaseInventory")
        escrow.wait(order_id, "compensated")
        arrived = [name for name, of, _ in escrow.played.arrived if of == order_id]
        assert arrived.index("ReserveInventory") < arrived.index("ReleaseInventory")


def test_a_worker_told_to_stop_leaves_nothing_behind(escrow: Installation) -> None:
    """A rolling update would look like a crash."""
    leaving = escrow.start_worker()
    order_ids = [escrow.new_id("drain") for _ in range(MANY)]
    for order_id in order_ids:
        escrow.played.say(escrow.opening(ORDER, order_id))
    assert leaving.terminate() == 0
    assert "stopped" in leaving.text()
    for order_id in order_ids:
        escrow.wait(order_id, "completed")

"""A participant is gone while thousands of orders need it, and comes back (R8): nothing is lost, doubled, flooded or late.

By default as many orders as are done in a minute. The whole: ESCROW_TEST_OUTAGE_ORDERS=10000 ESCROW_TEST_OUTAGE_S=200, which is 5 minutes
by the scale of the definition's deadline.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.contract import canonical
from tests.acceptance.installation import Installation, installed
from tests.acceptance.stories import OUTAGE
from tests.support import services
from tests.support.processes import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

ORDERS = int(os.environ.get("ESCROW_TEST_OUTAGE_ORDERS", "600"))
OUTAGE_S = float(os.environ.get("ESCROW_TEST_OUTAGE_S", "12"))
#: Orders that were sent to the participant before anybody could know that it is gone.
EARLY = 40
FIRST_PER_S, MAX_PER_S, CANARY_S = 10, 100, 1.0
#: Until the silence is known, at most: three seconds of suspicion, ten without a consumer, and ticks. Before any deadline has passed.
KNOWN_WITHIN_S = OUTAGE.deadline_s - 2.0


@pytest.fixture
def escrow(tmp_path: Path) -> Iterator[Installation]:
    """An installation of its own: others would be held up by its silent participant."""
    settings = {
        "ESCROW_CANARY_MS": str(int(CANARY_S * 1000)),
        "ESCROW_RECOVERY_FIRST_PER_S": str(FIRST_PER_S),
        "ESCROW_RECOVERY_MAX_PER_S": str(MAX_PER_S),
    }
    with (
        services.fresh_postgres() as database_url,
        installed(tmp_path, database_url=database_url, amqp_url=services.amqp_url(), settings=settings) as installation,
    ):
        installation.start()
        yield installation


def health(escrow: Installation) -> dict[str, object]:
    """Inventory, as the API shows it."""
    found: dict[str, object] = escrow.api.get("/v1/participants/inventory").raise_for_status().json()
    return found


def place(escrow: Installation, prefix: str, number: int) -> list[str]:
    """Open orders by events."""
    order_ids = [f"{prefix}-{place:05}" for place in range(number)]
    for order_id in order_ids:
        escrow.played.say(escrow.opening(OUTAGE, order_id))
    return order_ids


def counts(escrow: Installation) -> dict[str, int]:
    """Orders by status."""
    engine = sa.create_engine(escrow.database_url)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.text("SELECT status, count(*) FROM orders GROUP BY status"))
            return {status: int(count) for status, count in found}
    finally:
        engine.dispose()


def all_completed(escrow: Installation, number: int) -> bool:
    """Whether so many orders are completed, and no order is anything else."""
    found = counts(escrow)
    assert found == {"completed": number}, found
    return True


def attempts(escrow: Installation, prefix: str) -> dict[int, int]:
    """How many commands to inventory were written as attempt k, of orders whose id begins so: k → number."""
    engine = sa.create_engine(escrow.database_url)
    written: dict[int, int] = {}
    try:
        with engine.connect() as connection:
            statement = sa.text("SELECT effects FROM journal WHERE order_id LIKE :prefix")
            for (effects,) in connection.execute(statement, {"prefix": f"{prefix}-%"}):
                for command in canonical.load(bytes(effects)).get("commands", ()):
                    if command["name"] == "ReserveInventory":
                        written[command["attempt"]] = written.get(command["attempt"], 0) + 1
        return written
    finally:
        engine.dispose()


def sample(escrow: Installation, until_s: float, depths: list[int]) -> None:
    """Measure the participant's queue, twice a second, until a monotonic instant."""
    queue = escrow.played.topology.command_queue("inventory")
    while time.monotonic() < until_s:
        depths.append(escrow.played.depth(queue))
        next_s = min(until_s, time.monotonic() + 0.5)
        eventually(lambda at_s=next_s: time.monotonic() >= at_s, 5)  # type: ignore[misc]


@pytest.mark.timeout(120 + OUTAGE_S + ORDERS / 15)
def test_thousands_of_orders_wait_out_an_outage(escrow: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    """An outage would cost orders or attempts, double effects, fill the participant's queue, or take long after its end."""
    for order_id in place(escrow, "before", 5):
        escrow.wait(order_id, "completed")

    escrow.participants["inventory"].kill()
    gone_s = time.monotonic()
    # Over the API, whose process hears nobody: the workers have asked for none of them.
    for number in range(EARLY):
        escrow.place(OUTAGE, f"early-{number:05}")
    eventually(lambda: health(escrow)["state"] == "silent", KNOWN_WITHIN_S, what="the silence is known")
    known_s = time.monotonic()
    # A tick, in which the other worker and the API hear of it.
    sample(escrow, known_s + 1, [])

    place(escrow, "during", ORDERS)
    depths: list[int] = []
    sample(escrow, max(gone_s + OUTAGE_S, time.monotonic() + 5), depths)
    eventually(lambda: sum(counts(escrow).values()) == 5 + EARLY + ORDERS, 60, what="all orders are open")
    held = health(escrow)["held"]
    assert counts(escrow) == {"completed": 5, "running": EARLY + ORDERS}

    back_s = time.monotonic()
    outage_s = back_s - gone_s
    escrow.start_participant("inventory")
    eventually(lambda: health(escrow)["state"] == "recovering", 30, what="its first word")
    fed: list[int] = []
    while health(escrow)["state"] != "healthy":
        assert time.monotonic() - back_s < 60 + 5 * ORDERS / MAX_PER_S, health(escrow)
        sample(escrow, time.monotonic() + 0.5, fed)
    fed_s = time.monotonic() - back_s
    eventually(lambda: all_completed(escrow, 5 + EARLY + ORDERS), 60 + 5 * ORDERS / MAX_PER_S, what="all are completed")
    done_s = time.monotonic() - back_s

    # Up to the most by doubling, then the most; in this time more than the ramp's own commands go out.
    implied_s = math.log2(MAX_PER_S / FIRST_PER_S) + (ORDERS + EARLY) / MAX_PER_S
    with capsys.disabled():
        print(  # the figures are what the test is for
            f"\n{ORDERS + EARLY} orders, inventory away for {outage_s:.0f} s: known after {known_s - gone_s:.1f} s; {held} commands held; "
            f"queue depth at most {max(depths)}, {max(fed)} later; all let out after {fed_s:.1f} s, all completed after {done_s:.1f} s "
            f"(the rate implies {implied_s:.1f} s); attempts {attempts(escrow, 'early')} early, {attempts(escrow, 'during')} during."
        )
    totals = escrow.totals("inventory")
    assert (totals["reserved"], totals["released"], totals["applied_twice"]) == (5 + EARLY + ORDERS, 0, 0)
    escrow.assert_nothing_twice()
    # What was asked before the silence was known of (at most twice each), and the canaries.
    assert max(depths) <= 2 * EARLY + 2 * outage_s / CANARY_S
    # Half a second's worth may lie there, and what is sent meanwhile by two workers; or what lay there already.
    assert max(fed) <= max(*depths, 4 * MAX_PER_S)
    assert max(attempts(escrow, "early")) <= 2
    # A canary, and what was due when it came back, is the same attempt written anew.
    assert set(attempts(escrow, "during")) == {1}
    # Both workers share the machine with the participants and this test.
    assert fed_s <= 15 + 1.5 * implied_s

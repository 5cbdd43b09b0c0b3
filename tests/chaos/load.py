"""Orders placed at a steady rate while servers are killed, and what must be true of them in the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psycopg

from tests.acceptance.installation import Installation
from tests.acceptance.stories import DATA, REAL, Story
from tests.support.processes import eventually

#: How often each kind of failure is tried.
TRIALS = int(os.environ.get("ESCROW_TEST_TRIALS", "3"))
#: The longest that orders may stand still for one failure, in seconds.
STALL_MAX_S = 10.0
#: Orders a second, and how long an answer may take.
RATE, ANSWER_WITHIN_S = 8.0, 30.0
#: Orders that must end before the failure, and again after it: the load is real, and goes on.
SOME = 12

#: Real participants, and deadlines that pass within a test when a command or its reply is lost.
STEADY = Story(name="steady", opens_on="SteadyPlaced", deadline_s=5, participants=REAL)


@contextmanager
def steady(home: Path, *, database_url: str, amqp_url: str) -> Iterator[Installation]:
    """Two workers, the API and the real participants, which know the definition `STEADY`. At the end every history is verified."""
    escrow = Installation(home, database_url=database_url, amqp_url=amqp_url, settings={})
    STEADY.write(home / "definitions")
    try:
        escrow.start()
        yield escrow
        escrow.command("verify")
    finally:
        escrow.stop()


class Load:
    """A client that places one order after the other, and asks again until it is told that an order was accepted."""

    def __init__(self, escrow: Installation, story: Story = STEADY) -> None:
        self._escrow = escrow
        self._story = story
        #: Orders that were answered with 201, or 200 to a repetition, in order.
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._place_all, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2 * ANSWER_WITHIN_S)

    def wait_for_more(self, count: int = SOME, *, timeout_s: float = 60) -> str:
        """Wait until so many more orders are accepted; returns the last."""
        wanted = len(self.accepted) + count
        eventually(lambda: len(self.accepted) >= wanted, timeout_s, what=f"{count} more orders are accepted")
        return self.accepted[-1]

    def wait_for_ends(self, count: int = SOME) -> None:
        """Wait until so many more orders are accepted, and the last of them has completed."""
        self._escrow.wait(self.wait_for_more(count), "completed", timeout_s=60)

    def _place_all(self) -> None:
        with httpx.Client(base_url=self._escrow.api.base_url, headers=self._escrow.api.headers, timeout=ANSWER_WITHIN_S) as client:
            while not self._stop.is_set():
                order_id = self._escrow.new_id("load")
                while not self._is_accepted(client, order_id) and not self._stop.wait(0.1):
                    pass
                self._stop.wait(1 / RATE)

    def _is_accepted(self, client: httpx.Client, order_id: str) -> bool:
        try:
            answer = client.post("/v1/orders", json={"definition": self._story.name, "order_id": order_id, "data": DATA})
        except httpx.HTTPError:
            return False
        if answer.status_code in {200, 201}:
            self.accepted.append(order_id)
            return True
        assert answer.status_code in {429, 500, 503}, answer.text
        return False


def assert_all_completed(escrow: Installation, accepted: list[str], *, reserved_before: int | None) -> None:
    """Every accepted order is there and completed, each participant acted once for each, and every journal folds to what is stored.

    `reserved_before`: what inventory had reserved before the load; None: the load goes on.
    """
    for order_id in accepted:
        escrow.wait(order_id, "completed", timeout_s=90)
    escrow.assert_nothing_twice()
    # An order that was opened and whose answer was lost is asked again under the same id, so the counts are equal.
    assert reserved_before is None or escrow.totals("inventory")["reserved"] - reserved_before == len(accepted)
    escrow.assert_verified()


def longest_gap_s(database_url: str, since: float) -> float:
    """The longest time without any participant's answer applied, in seconds, from `since` (a Unix time) on: how long orders stood still."""
    statement = """
        SELECT coalesce(max(gap), 0) FROM (
            SELECT extract(epoch FROM at - lag(at) OVER (ORDER BY at)) AS gap
            FROM journal WHERE name = 'InventoryReserved' AND at >= to_timestamp(%s)) AS gaps
    """
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(statement, (since,)).fetchone()
    assert row is not None
    return float(row[0])


def present() -> float:
    """The present, as a Unix time."""
    return time.time()


def report(kind: str, stalls_s: list[float]) -> None:
    """Print what was measured."""
    ordered = sorted(stalls_s)
    median_s = ordered[len(ordered) // 2]
    print(f"\n{kind}: {len(ordered)} trials, orders stood still for {ordered[0]:.1f} to {ordered[-1]:.1f} s, median {median_s:.1f} s")

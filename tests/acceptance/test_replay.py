"""A participant loses its database while orders go on, and is told its past by `escrow replay` (R29)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.bus import recorder
from orchestrator.contract import RESYNC_REQUESTED, Envelope, MessageError, decode
from tests.acceptance.installation import Installation, installed
from tests.acceptance.stories import DATA, ORDER
from tests.participants.replays import contents
from tests.support import services
from tests.support.processes import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

UNITS = DATA["lines"][0]["quantity"]  # type: ignore[index]
RECEIVED = 100


@pytest.fixture
def escrow(tmp_path: Path) -> Iterator[Installation]:
    """An installation of its own, whose inventory has what it receives."""
    with (
        services.fresh_postgres() as database_url,
        installed(
            tmp_path, database_url=database_url, amqp_url=services.amqp_url(), settings={"INVENTORY_DEFAULT_STOCK": "0"}
        ) as installation,
    ):
        installation.start()
        yield installation
        installation.assert_nothing_twice()


def tables(escrow: Installation) -> dict[str, list[tuple[Any, ...]]]:
    """All that inventory has."""
    engine = sa.create_engine(f"sqlite:///{escrow.database_of('inventory')}")
    try:
        return contents(engine)
    finally:
        engine.dispose()


def of_orders(rows: list[tuple[Any, ...]], order_ids: set[str]) -> list[tuple[Any, ...]]:
    """The rows of a table that name one of these orders."""
    return [row for row in rows if order_ids.intersection(value for value in row if isinstance(value, str))]


def said_by_inventory(escrow: Installation, after: int) -> list[Envelope]:
    """What the recorder has of inventory since an offset."""
    found: list[Envelope] = []
    for message in recorder.read(services.amqp_url(), escrow.played.topology, after + 1, mark="the test's"):
        try:
            envelope = decode(message.wire)
        except MessageError:
            continue
        found += [envelope] if envelope.source == "inventory" else []
    return found


def live_through(escrow: Installation) -> set[str]:
    """Stock comes, and orders complete, are refused, and are undone; their ids."""
    half = RECEIVED // 2
    for receipt in ("r-1", "r-2", "r-2"):
        escrow.run_module("participants.warehouse", "receive", f"anvil={half}", "rope=5", "--receipt", receipt)
    eventually(lambda: escrow.totals("inventory")["stock_initial"] == RECEIVED + 10, what="the stock has come")
    completed = [escrow.place(ORDER) for _ in range(8)]
    refused = [escrow.place(ORDER, lines=[{"sku": "anvil", "quantity": RECEIVED + 1}]), escrow.place(ORDER, lines=[])]
    for order_id in completed:
        escrow.wait(order_id, "completed")
    escrow.tell("payment", refuse=3)
    undone = [escrow.place(ORDER) for _ in range(3)]
    for order_id in (*refused, *undone):
        escrow.wait(order_id, "compensated")
    return {*completed, *refused, *undone}


def lose_the_database(escrow: Installation) -> None:
    """As kill -9, and everything on its disk is gone."""
    escrow.participants["inventory"].kill()
    for path in escrow.home.glob("inventory.db*"):
        path.unlink()


def is_waiting(escrow: Installation) -> bool:
    """Whether inventory is up, and says that it takes no commands because it waits."""
    answer = httpx.get(f"{escrow.door('inventory')}/healthz")
    assert (answer.status_code, "escrow replay --to inventory --from first" in answer.text) == (503, True), answer.text
    return True


@pytest.mark.timeout(300)
def test_a_participant_that_lost_its_database_is_told_its_past_while_orders_go_on(escrow: Installation) -> None:
    """If it failed, a lost database would be lost stock, goods sold twice, or orders that rest on what nobody keeps."""
    old = live_through(escrow)
    before = tables(escrow)
    assert len(before["reservations"]) == 8 + 3
    place = recorder.position(services.amqp_url(), escrow.played.topology, mark="the position of the test")
    assert place is not None

    lose_the_database(escrow)
    new = [escrow.place(ORDER) for _ in range(4)]
    process = escrow.start_new("inventory")
    eventually(lambda: is_waiting(escrow), what="inventory waits")
    new += [escrow.place(ORDER) for _ in range(4)]
    queue = escrow.played.topology.command_queue("inventory")
    eventually(lambda: escrow.played.depth(queue) >= len(new), what="commands wait")
    assert escrow.totals("inventory") == dict.fromkeys(escrow.totals("inventory"), 0)
    assert {escrow.order(order_id)["status"] for order_id in new} == {"running"}

    told = json.loads(escrow.command("replay", "--to", "inventory", "--from", "first", "-o", "json"))
    for order_id in new:
        escrow.wait(order_id, "completed")
    assert (told["is_whole"], told["events"], told["told"]["undos"]) == (True, 6, 3)
    assert told["told"]["commands"] == len(old) + len(new)

    # As before, byte for byte; and what is new, beside it.
    after = tables(escrow)
    for table in ("reservations", "inventory_ledger"):
        assert of_orders(after[table], old) == before[table]
    assert after["inventory_heard"] == before["inventory_heard"]
    gone = (8 + len(new)) * UNITS
    assert after["stock"] == [("anvil", RECEIVED, RECEIVED - gone), ("rope", 10, 10)]
    totals = escrow.totals("inventory")
    assert (totals["reserved"], totals["released"], totals["applied_twice"]) == (11 + len(new), 3, 0)

    # Nothing but the request was said before the end; nothing about the past was ever said again; each new command was answered once.
    request, *answers = {event.id: event for event in said_by_inventory(escrow, place.offset)}.values()
    assert request.type == RESYNC_REQUESTED
    assert sorted(event.subject for event in answers) == sorted(new)
    log = process.text()
    assert log.index("replay_awaited") < log.index("replay_ended") < log.index(f"consumes {queue}")
    assert "replay_diverged" not in log
    escrow.assert_verified()

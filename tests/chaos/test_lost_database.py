"""The drill: the database is destroyed under load, restored from its backup, and recovered from the recorder (R28).

By default one drill with some hundreds of orders. More: ESCROW_TEST_DRILLS=20, ESCROW_TEST_DRILL_ORDERS=5000.
"""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from orchestrator.store import tables
from orchestrator.store.unfinished import UNDER_WAY
from tests.acceptance.installation import Installation
from tests.chaos.load import STEADY, Load, assert_all_completed, steady
from tests.support import services
from tests.support.postgres import PostgresServer
from tests.support.processes import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

DRILLS = int(os.environ.get("ESCROW_TEST_DRILLS", "1"))
ORDERS = int(os.environ.get("ESCROW_TEST_DRILL_ORDERS", "600"))
#: When everything dies, and what dies first: the same number gives the same choices.
SEED = int(os.environ.get("ESCROW_TEST_DRILL_SEED", "0")) or random.randrange(1, 1_000_000)


@dataclass(frozen=True, slots=True)
class World:
    """An installation, the server that it will lose, and where its backups are."""

    escrow: Installation
    server: PostgresServer
    backups: Path


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two workers, the API and the real participants."""
    home = tmp_path_factory.mktemp("drill")
    with services.private_postgres() as server, steady(home, database_url=server.url, amqp_url=services.amqp_url()) as escrow:
        yield World(escrow, server, home / "backups")


class BusLoad:
    """Orders opened by events, one after the other; each is accepted when the broker has confirmed it."""

    def __init__(self, escrow: Installation, number: int) -> None:
        self.accepted: list[str] = []
        self._escrow = escrow
        self._number = number
        self._thread = threading.Thread(target=self._place_all, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all are placed."""
        self._thread.join(120)
        assert len(self.accepted) == self._number

    def _place_all(self) -> None:
        for number in range(self._number):
            order_id = f"bus-{number:05}-{uuid4().hex[:6]}"
            self._escrow.played.say(self._escrow.opening(STEADY, order_id))
            self.accepted.append(order_id)


def count(database_url: str, table: sa.Table) -> int:
    """Rows of a table."""
    engine = sa.create_engine(database_url)
    try:
        with engine.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    finally:
        engine.dispose()


def opened(database_url: str) -> int:
    """Orders in the database."""
    return count(database_url, tables.orders)


def course(database_url: str) -> bytes:
    """What the database keeps of a recovery."""
    engine = sa.create_engine(database_url)
    statement = sa.select(tables.checkpoints.c.position).where(tables.checkpoints.c.name == UNDER_WAY)
    try:
        with engine.connect() as connection:
            return bytes(connection.scalar(statement) or b"")
    finally:
        engine.dispose()


#: When a recovery is killed: what is then another than it was.
KILLED_WHEN: dict[str, Callable[[str], object]] = {
    "had begun": course,
    "had read": partial(count, table=tables.recovered),
    "was folding in": partial(count, table=tables.journal),
}


def kill_a_recovery(escrow: Installation, when: str) -> None:
    """Begin one, and kill it at a moment of its work; or let it come to its end before that is seen."""
    look = KILLED_WHEN[when]
    there = look(escrow.database_url)
    recovery = escrow.begin("recover")
    eventually(lambda: recovery.status is not None or look(escrow.database_url) != there, 60, what=f"it {when}")
    recovery.kill()


@pytest.mark.timeout(60 + DRILLS * (180 + ORDERS / 5))
def test_a_destroyed_database_loses_no_accepted_order_and_does_nothing_twice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The hour since the backup would be lost: orders that were accepted missing, or reserved, paid and invoiced twice."""
    chance = random.Random(SEED)
    with capsys.disabled():
        print(f"\nthe drill, seed {SEED}:")
        for place in range(DRILLS):
            print(drill(world, f"drill-{place}", chance))


def drill(world: World, backup: str, chance: random.Random) -> str:
    """One trial; returns what happened, in a line."""
    escrow, server = world.escrow, world.server
    before = escrow.totals("inventory")["reserved"], opened(escrow.database_url)
    with Load(escrow) as load:
        load.wait_for_ends()
        escrow.command("backup", "create", "--dir", str(world.backups), "--name", backup)
        backed_up = opened(escrow.database_url)
        bus = BusLoad(escrow, ORDERS)
        moment = chance.randrange(ORDERS // 4, ORDERS)
        eventually(lambda: opened(escrow.database_url) >= backed_up + moment, 120, what=f"{moment} orders since the backup")
        for lose in chance.sample([escrow.die, server.lose_everything], 2):
            lose()
        escrow.command("restore", "--backup", backup, "--dir", str(world.backups), timeout_s=120)
        assert opened(escrow.database_url) <= backed_up
        when = chance.choice(list(KILLED_WHEN))
        kill_a_recovery(escrow, when)
        told = escrow.command("recover", timeout_s=180)
        recovered = opened(escrow.database_url)
        assert recovered >= backed_up + moment
        escrow.come_back()
        bus.join()
        load.wait_for_ends()
    accepted = load.accepted + bus.accepted
    assert_all_completed(escrow, accepted, reserved_before=before[0])
    assert opened(escrow.database_url) - before[1] == len(accepted)
    said = re.search(r"Folded in: .*", told)
    folded = said[0] if said else told
    return (
        f"{backed_up} orders in the backup, destroyed {moment} orders later; a recovery killed when it {when}; the next: {folded} "
        f"Then {recovered} orders; in the end {before[1] + len(accepted)}."
    )

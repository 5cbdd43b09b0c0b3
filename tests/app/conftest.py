"""An installation without processes: the real store, on SQLite and PostgreSQL, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.app.house import House
from tests.app.running import Running, TroubledStore
from tests.support import services

#: Of databases, as parameters of a fixture.
KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.real))


@contextmanager
def opened(kind: str, path: Path) -> Iterator[House]:
    """A house on an empty database of this kind; `path` is the file of SQLite's."""
    with nullcontext(f"sqlite:///{path}") if kind == "sqlite" else services.fresh_postgres() as url:
        house = House(url)
        yield house
        house.close()


@pytest.fixture(params=KINDS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """The use cases on a real store; on PostgreSQL the clock is the database's."""
    with opened(request.param, tmp_path / "escrow.db") as house:
        yield house


@pytest.fixture
def small_house(tmp_path: Path) -> Iterator[House]:
    """On SQLite alone: for what does not depend on the database, and needs its clock moved."""
    house = House(f"sqlite:///{tmp_path}/escrow.db")
    yield house
    house.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A line at work on a house of SQLite, whose store can be troubled."""
    house = House(f"sqlite:///{tmp_path}/escrow.db", TroubledStore)
    running = Running(house)
    yield running
    running.line.stop()
    running.broker.close()
    house.close()

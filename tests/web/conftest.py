"""The API under test, on a small installation of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from orchestrator.web.app import create_app
from tests.web.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh installation: the shipped order definition, one token a role (`escrow_<role>`), no orders."""
    world = World(tmp_path)
    yield world
    world.engine.dispose()


@pytest.fixture
def api(world: World) -> Iterator[TestClient]:
    """A client that sends no token; `kit.as_role` gives the headers of one."""
    with TestClient(create_app(world.services()), raise_server_exceptions=True) as client:
        yield client

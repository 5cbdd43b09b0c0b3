"""The installation that most acceptance tests share: each uses order ids of its own, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.installation import Installation, installed
from tests.support import services


@pytest.fixture(scope="session")
def shared_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """API, two workers and the three real participants."""
    with services.fresh_postgres() as database_url:
        home = tmp_path_factory.mktemp("installation")
        with installed(home, database_url=database_url, amqp_url=services.amqp_url()) as installation:
            installation.start()
            yield installation


@pytest.fixture
def escrow(shared_installation: Installation) -> Iterator[Installation]:
    """The shared installation; after the test its journals are verified, and nobody has done anything twice."""
    yield shared_installation
    shared_installation.assert_nothing_twice()
    shared_installation.assert_verified()

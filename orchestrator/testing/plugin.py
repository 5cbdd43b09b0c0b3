"""The pytest plugin that comes with Escrow: a definition is tested with a fixture, without a database, a broker or a sleep.

Loaded by pytest in every project that has Escrow installed, so it imports nothing of Escrow until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from orchestrator.testing.harness import Harness


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, so that `--strict-markers` takes it."""
    line = "escrow(definition): the definition that the fixture `escrow` runs: a YAML file beside the test, or the name of a shipped one"
    config.addinivalue_line("markers", line)


@pytest.fixture
def escrow_of(request: pytest.FixtureRequest) -> Callable[[str], Harness]:
    """Makes an order of a definition, not open yet: `escrow_of("gift.yaml")`, a path from the test's directory, or a shipped one's name.

    Raises: DefinitionError with every finding; RequestError when it cannot be read.
    """
    from orchestrator.saga.rulebook import Rulebook  # noqa: PLC0415
    from orchestrator.testing.harness import Harness  # noqa: PLC0415
    from orchestrator.testing.load import load  # noqa: PLC0415

    return lambda reference: Harness(Rulebook(load(reference, request.path.parent).expanded))


@pytest.fixture
def escrow(request: pytest.FixtureRequest, escrow_of: Callable[[str], Harness]) -> Harness:
    """An order, not open yet, of the definition that `@pytest.mark.escrow("gift.yaml")` names."""
    marker = request.node.get_closest_marker("escrow")
    if marker is None or len(marker.args) != 1:
        raise pytest.UsageError(f'{request.node.name}: name the definition, as in @pytest.mark.escrow("gift.yaml").')
    return escrow_of(marker.args[0])

"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.config import Settings
from tests.cli.kit import ORDER, Api, Escrow, make_escrow


@pytest.fixture
def api() -> Api:
    """An API with one order."""
    api = Api()
    api.on("GET", "/v1/orders/order-1", ORDER)
    return api


@pytest.fixture
def escrow(api: Api) -> Escrow:
    """The command line, set to that API."""
    return make_escrow(api, Settings(token="escrow_secret-token"))


@pytest.fixture
def escrow_with(api: Api) -> Callable[[Settings], Escrow]:
    """Makes a command line with other settings."""
    return lambda settings: make_escrow(api, settings)

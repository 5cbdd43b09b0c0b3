"""Fixtures for every area; what only one area needs is in its own conftest."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support import services

# A shell that runs us in the background has SIGINT ignored, and every process that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of whoever runs it; what names the services of the tests stays."""
    for name in list(os.environ):
        if name.startswith("ESCROW_") and not name.startswith("ESCROW_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A new, empty PostgreSQL database."""
    with services.fresh_postgres() as url:
        yield url

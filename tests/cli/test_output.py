"""Tables and times."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli import output
from orchestrator.cli.root import compose
from orchestrator.config import Settings
from tests.cli.kit import NOW, ORDER, Api, Escrow, make_escrow


def test_times_are_relative_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person would have to subtract times in the head; a program would read "in 30s"."""
    text = "2026-11-21T12:00:30Z"
    assert text == output.when(text, NOW)

    monkeypatch.setattr(output, "on_terminal", lambda: True)
    assert output.when(text, NOW) == "in 30s"
    assert output.when(None, NOW) == ""
    assert output.when("soon", NOW) == "soon"


@given(st.floats(-700_000, 2_900_000))
def test_any_instant_can_be_told(days: float) -> None:
    """A far instant would be a traceback or an endless text."""
    instant = NOW + timedelta(days=days)

    assert 0 < len(output.relative(instant, NOW)) < 20
    assert (output.relative(instant, NOW) == "now") is (abs(instant - NOW) <= timedelta(seconds=0.5))


@given(st.text(st.characters(codec=None)))
def test_printable_text_is_printable(text: str) -> None:
    """Some character could still drive a terminal, or could not be written."""
    shown = output.printable(text)

    assert shown.isprintable()
    shown.encode()


def test_a_table_off_a_terminal_is_not_cut(api: Api, escrow: Escrow) -> None:
    """A long id or reason would be cut where a program reads it."""
    state = "s" * 500
    api.on("GET", "/v1/orders", {"items": [{"order_id": "a", "state": state}], "next_cursor": None})

    result = escrow("order", "list")

    assert len(result.stdout.splitlines()) == 2
    assert state in result.stdout


def test_a_narrow_encoding_is_no_error(api: Api) -> None:
    """A name with an accent would be a traceback where the locale is C."""
    api.on("GET", "/v1/orders/order-1", {**ORDER, "state": "Zoë → 茶"})
    escrow = make_escrow(api, Settings())

    result = CliRunner(charset="ascii").invoke(compose({}), ["order", "show", "order-1"], obj=escrow.session)

    assert result.exit_code == 0
    assert "Zo\\xeb \\u2192 \\u8336" in result.stdout

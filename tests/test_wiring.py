"""The composition root: which definitions a start registers, and who opens on an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, SettingsError
from orchestrator.wiring import _shipped_files, load_definitions, new_token, participants_of

ORDER = next(file for file in _shipped_files() if file.name == "order.yaml").read_text()


def test_the_shipped_definitions_open_and_name_their_participants() -> None:
    """If it failed, Escrow would not know its own definition."""
    registrations = load_definitions(None)
    assert [(r.name, r.is_opener) for r in registrations] == [("order", True)]
    assert participants_of(registrations) == {"inventory", "payment", "invoice"}


def test_one_in_the_directory_replaces_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    """If it failed, nobody could change the shipped definition."""
    (tmp_path / "mine.yaml").write_text(ORDER.replace("version: 1", "version: 7"))
    assert [(r.name, r.version, r.is_opener) for r in load_definitions(tmp_path)] == [("order", 7, True)]


def test_the_shipped_one_steps_back_before_one_that_opens_on_the_same_event(tmp_path: Path) -> None:
    """If it failed, the demo's orders would be opened twice, or start would be refused."""
    (tmp_path / "demo.yaml").write_text(ORDER.replace("definition: order", "definition: order_demo"))
    assert {r.name: r.is_opener for r in load_definitions(tmp_path)} == {"order": False, "order_demo": True}


def test_two_definitions_for_one_event_are_refused_naming_both_files(tmp_path: Path) -> None:
    """If it failed, which definition an order gets would be chance (R30)."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(ORDER.replace("definition: order", f"definition: {name}"))
    with pytest.raises(SettingsError, match=r"one\.yaml and .*two\.yaml"):
        load_definitions(tmp_path)


def test_a_definition_that_fails_its_checks_does_not_start(tmp_path: Path) -> None:
    """If it failed, orders would run on a definition that cannot end (R31)."""
    (tmp_path / "bad.yaml").write_text(ORDER.replace("patience: 30m", "patience: 1s").replace("definition: order", "definition: bad"))
    with pytest.raises(DefinitionError, match="patience"):
        load_definitions(tmp_path)


def test_tokens_are_long_and_differ() -> None:
    """If it failed, a token could be guessed."""
    assert len(new_token()) > 40
    assert new_token() != new_token()

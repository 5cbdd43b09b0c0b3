"""`escrow definition explore`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.saga.order import Ask
from orchestrator.testing.play import play_file
from tests.cli.kit import Escrow
from tests.explore.kit import TEXTS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A definition of two steps, the second the pivot."""
    path = tmp_path / "pivot.yaml"
    path.write_text(TEXTS["pivot"])
    return path


def test_explore_says_what_was_visited_within_which_bound(escrow: Escrow, file: Path) -> None:
    """Nobody would know how much `nothing found` is worth."""
    result = escrow("definition", "explore", str(file), "--acts", "0")

    assert result.exit_code == 0
    first, bound, last = result.stdout.splitlines()
    assert first.startswith("pivot version 1: ")
    assert bound.startswith("Bound: attempts a command 2, operator acts a run 0, crashes a run 1; duplicates")
    assert last == "No promise can be broken."


def test_explore_tells_programs_the_same(escrow: Escrow, file: Path) -> None:
    """CI could not keep the numbers."""
    result = escrow("definition", "explore", str(file), "--attempts", "3", "--crashes", "0", "-o", "json")
    document = json.loads(result.stdout)

    assert result.exit_code == 0
    assert document["bound"] == {"attempts": 3, "acts": 1, "crashes": 0, "states": 2_000_000}
    assert document["complete"]
    assert document["counterexample"] is None
    assert document["states"] > 50
    assert document["transitions"] > document["states"]
    assert document["seconds"] >= 0


def test_explore_prints_a_counterexample_that_can_be_played(
    escrow: Escrow, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An author would know that something is wrong, and not what."""
    monkeypatch.setattr(Ask, "possibly_done", property(lambda ask: ask.forward == "done"))

    result = escrow("definition", "explore", str(file))
    document = json.loads(escrow("definition", "explore", str(file), "-o", "json").stdout)["counterexample"]

    assert result.exit_code == 1
    assert f"Broken: {document['promise']}" in result.stdout
    assert all(line in result.stdout for line in document["trace"])
    assert document["scenario"] in result.stdout
    assert yaml.safe_load(document["scenario"])["definition"] == "pivot.yaml"
    (tmp_path / "found.yaml").write_text(document["scenario"])
    played = play_file(tmp_path / "found.yaml")
    assert played is not None
    assert played.failures == ()


def test_explore_that_gave_up_is_no_success(escrow: Escrow, file: Path) -> None:
    """CI would pass a definition of which only a part was explored."""
    result = escrow("definition", "explore", str(file), "--states", "50")

    assert result.exit_code == 1
    assert "more than 50 states" in result.stderr


def test_explore_refuses_what_the_checks_refuse(escrow: Escrow) -> None:
    """The exploration would run on a definition that no order may run on."""
    text = TEXTS["pair"].replace("    undo: {command: Refund, done_on: Refunded, deadline: 10s}\n", "")

    result = escrow("definition", "explore", "-", stdin=text)

    assert result.exit_code == escrow("definition", "graph", "-", stdin=text).exit_code != 0
    assert "cannot be undone" in result.stderr

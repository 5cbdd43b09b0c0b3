from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, RequestError
from orchestrator.testing.harness import Harness


@pytest.mark.escrow("order")
def test_the_marker_names_the_definition(escrow: Harness) -> None:
    """If it failed, an author's test would have no order, or one of another definition."""
    escrow.open()
    assert (escrow.rulebook.name, escrow.state) == ("order", "reserving_inventory")


def test_several_orders_can_be_made(escrow_of: Callable[[str], Harness]) -> None:
    """If it failed, a test could not compare two lives."""
    one, other = escrow_of("order"), escrow_of("order")
    one.open()
    assert (len(one.turns), len(other.turns)) == (1, 0)


def test_a_file_is_found_beside_the_test(escrow_of: Callable[[str], Harness]) -> None:
    """If it failed, a test would depend on the directory it is run from."""
    assert escrow_of("../../orchestrator/definitions/order.yaml").rulebook.name == "order"


@pytest.mark.parametrize("reference", ["nothing.yaml", "nothing", "a b"])
def test_what_is_not_there_is_named(escrow_of: Callable[[str], Harness], reference: str) -> None:
    """If it failed, a misspelt name would be a riddle."""
    with pytest.raises(RequestError, match=reference):
        escrow_of(reference)


def test_a_definition_with_findings_is_refused(escrow_of: Callable[[str], Harness], tmp_path: Path) -> None:
    """If it failed, a definition could pass its tests and be refused at start."""
    (tmp_path / "bad.yaml").write_text("definition: bad\n")
    with pytest.raises(DefinitionError, match=r"bad\.yaml:1"):
        escrow_of(str(tmp_path / "bad.yaml"))


@pytest.mark.slow
def test_a_test_without_marker_is_told_to_name_one(tmp_path: Path) -> None:
    """If it failed, whoever forgets the marker would not know what is missing."""
    (tmp_path / "test_bare.py").write_text("def test_bare(escrow):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bare.py"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode != 0
    assert 'test_bare: name the definition, as in @pytest.mark.escrow("gift.yaml").' in done.stdout


@pytest.mark.slow
def test_the_plugin_costs_others_nothing() -> None:
    """If it failed, every pytest run of a project that has Escrow installed would import it whole."""
    script = (
        "import sys, orchestrator.testing.plugin; print(*sorted(name for name in sys.modules"
        " if name.partition('.')[0] in {'orchestrator', 'pydantic', 'transitions', 'yaml', 'msgspec'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["orchestrator", "orchestrator.testing", "orchestrator.testing.plugin"]

"""`escrow backup` and `escrow restore`, on SQLite; the store's own tests try both databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Settings
from tests.cli.kit import Escrow

With = Callable[[Settings], Escrow]


@pytest.fixture
def escrow(escrow_with: With, tmp_path: Path) -> Escrow:
    """A command line with a migrated SQLite database, and a directory for backups."""
    escrow = escrow_with(Settings(database_url=f"sqlite:///{tmp_path}/escrow.db", backup_dir=tmp_path / "backups", backup_keep=2))
    assert escrow("db", "upgrade").exit_code == 0
    return escrow


def test_a_backup_is_made_listed_verified_and_restored(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, an operator would not get their database back with the commands that the page names."""
    made = json.loads(escrow("backup", "create", "--name", "one", "-o", "json").stdout)
    listed = json.loads(escrow("backup", "list", "-o", "json").stdout)["items"]
    assert listed == [made]
    assert escrow("backup", "verify", "one").exit_code == 0
    assert escrow("backup", "verify", "one", "--into", f"sqlite:///{tmp_path}/scratch.db").exit_code == 0
    (tmp_path / "escrow.db").unlink()
    result = escrow("restore", "--backup", "one")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "Restored one: 0 orders, 0 journal entries; all agree.")


def test_a_damaged_backup_ends_with_findings(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, a schedule that verifies backups would never notice one that is lost."""
    escrow("backup", "create", "--name", "one")
    (tmp_path / "backups" / "one" / "escrow.sqlite3").write_bytes(b"")
    result = escrow("backup", "verify", "one")
    assert (result.exit_code, "is damaged" in result.stderr) == (1, True)


def test_journals_that_end_otherwise_end_with_findings(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, a restored database with other orders in the same number would pass as the one that was backed up."""
    escrow("backup", "create", "--name", "one")
    manifest = tmp_path / "backups" / "one" / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(said | {"heads": "0" * 64}))
    result = escrow("backup", "verify", "one", "--into", f"sqlite:///{tmp_path}/scratch.db")
    assert (result.exit_code, "Its journals end otherwise" in result.stderr) == (1, True)


def test_only_the_youngest_are_kept(escrow: Escrow) -> None:
    """If it failed, a disk would fill up."""
    for name in ("a", "b", "c"):
        escrow("backup", "create", "--name", name)
    assert escrow("backup", "prune").stdout == "deleted a\n"


def test_one_that_cannot_be_read_is_named_beside_the_others(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, one damaged file would hide every other backup, or itself."""
    for name in ("a", "torn"):
        escrow("backup", "create", "--name", name)
    (tmp_path / "backups" / "torn" / "manifest.json").write_text("{")
    listed = escrow("backup", "list", "-o", "json")
    assert [each["name"] for each in json.loads(listed.stdout)["items"]] == ["a"]
    pruned = escrow("backup", "prune", "--keep", "1")
    assert (pruned.exit_code, pruned.stdout) == (0, "")
    for result in (listed, pruned):
        assert "torn/manifest.json cannot be read" in result.stderr


def test_no_directory_and_no_such_backup_are_told(escrow: Escrow, escrow_with: With) -> None:
    """If it failed, an operator would read a traceback."""
    nowhere = escrow_with(Settings(database_url="sqlite:///x.db"))
    assert "ESCROW_BACKUP_DIR" in nowhere("backup", "list").stderr
    assert escrow("backup", "verify", "none").exit_code == 3

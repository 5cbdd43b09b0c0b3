"""`escrow backup` and `escrow restore`, on SQLite; the store's own tests try both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.config import Settings
from orchestrator.store.tables import journal
from tests.app.house import House, answer, placed
from tests.cli.kit import Escrow
from tests.support.processes import ROOT
from tests.support.services import fresh_postgres

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


def test_no_backup_is_told_from_no_directory(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, a slip in the directory would read as if there were no backup, when one is needed most."""
    result = escrow("backup", "list", "--dir", str(tmp_path / "slip"))
    assert (result.exit_code, f"no directory {tmp_path}/slip" in result.stderr) == (2, True)
    (tmp_path / "backups").mkdir()
    result = escrow("backup", "list")
    assert (result.exit_code, f"no backup in {tmp_path}/backups" in result.stderr) == (0, True)


def test_while_a_process_runs_a_restore_is_refused(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, a script could not tell a restore that is to be tried again from one that was asked for wrongly."""
    escrow("backup", "create", "--name", "one")
    house = House(f"sqlite:///{tmp_path}/escrow.db")
    house.clock = escrow.session.now()
    house.store.beat("worker-1", "worker", None)
    house.close()
    result = escrow("restore", "--backup", "one", "--replace")
    assert (result.exit_code, "worker-1" in result.stderr) == (4, True)


def test_a_verification_wants_an_empty_database_each_time(escrow: Escrow, tmp_path: Path) -> None:
    """If it failed, the second night of a schedule would name an option that the command has not, or restore over a real database."""
    house = House(f"sqlite:///{tmp_path}/escrow.db")
    house.handle(placed("o-1"))
    house.close()
    escrow("backup", "create", "--name", "one")
    scratch = f"sqlite:///{tmp_path}/scratch.db"
    assert escrow("backup", "verify", "one", "--into", scratch).exit_code == 0
    result = escrow("backup", "verify", "one", "--into", scratch)
    assert (result.exit_code, "createdb NAME" in result.stderr, "--replace" in result.stderr) == (4, True, False)


@pytest.mark.real
def test_a_database_that_is_not_there_is_told_with_what_makes_it(escrow: Escrow, escrow_with: With, tmp_path: Path) -> None:
    """If it failed, an operator whose server is new would read the server's FATAL, in the middle of the night."""
    escrow("backup", "create", "--name", "one")
    with fresh_postgres() as url:
        missing = escrow_with(Settings(database_url=f"{url}_gone", backup_dir=tmp_path / "backups"))
        result = missing("restore", "--backup", "one")
    assert (result.exit_code, "createdb --owner=USER escrow_test_" in result.stderr) == (2, True)


@pytest.mark.real
def test_a_damaged_journal_is_mended_from_a_backup(escrow_with: With, tmp_path: Path) -> None:
    """If it failed, the page would name statements that do not bring an altered entry back."""
    page = (
        (ROOT / "docs" / "how-to" / "verify-and-rebuild.md")
        .read_text(encoding="utf-8")
        .replace("order-8412", "o-1")
        .replace("seq = 3", "seq = 2")
    )
    delete, copy_out, copy_in = re.findall(r'psql [a-z]+ -c "([^"]+)"', page)
    with fresh_postgres() as url, fresh_postgres() as scratch:
        escrow = escrow_with(Settings(database_url=url, backup_dir=tmp_path))
        escrow("db", "upgrade")
        house = House(url)
        house.handle(placed("o-1"))
        house.handle(answer("o-1", "reserve_inventory", "InventoryReserved"))
        assert escrow("backup", "create", "--name", "one").exit_code == 0
        assert escrow("backup", "verify", "one", "--into", scratch).exit_code == 0
        with house.engine.begin() as connection:
            connection.execute(sa.update(journal).where(journal.c.seq == 2).values(reason="altered"))
        house.close()
        assert escrow("verify").exit_code == 1
        plain = [each.replace("+psycopg", "") for each in (url, scratch)]
        with psycopg.connect(plain[0]) as damaged, psycopg.connect(plain[1]) as whole:
            damaged.execute(delete)
            with whole.cursor().copy(copy_out) as rows, damaged.cursor().copy(copy_in) as into:
                for row in rows:
                    into.write(row)
        assert escrow("verify").exit_code == 0

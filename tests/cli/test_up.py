"""`escrow up`, as a real process: one at a time on a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Process

pytestmark = pytest.mark.slow


def up(data_dir: Path, log: Path) -> Process:
    """`escrow up` on a data directory."""
    return Process("orchestrator", "up", "--port", "0", "--data-dir", str(data_dir), output=log)


def test_a_second_one_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """If it failed, two buses would share one database: each would wait for replies that only the other hears."""
    data_dir = tmp_path / "data"
    with up(data_dir, tmp_path / "first") as first:
        first.wait_for_line("Escrow listens on")
        doors = (data_dir / "participants.json").read_text()
        with up(data_dir, tmp_path / "second") as second:
            assert second.wait() == 2
            assert second.text() == f"escrow: Another `escrow up` runs on {data_dir}. Fix: stop it, or name another --data-dir.\n"
        assert (data_dir / "participants.json").read_text() == doors
        first.kill()
    with up(data_dir, tmp_path / "third") as third:
        third.wait_for_line("Escrow listens on")
        assert third.terminate() == 0

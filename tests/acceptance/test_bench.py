"""`make bench` runs, and says what it promises to say. How fast anything is, is for its reader: no test is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.processes import Process

pytestmark = [pytest.mark.real, pytest.mark.slow]

PROMISED = {"sagas_per_s", "p50_ms", "p99_ms", "commits_per_saga", "cpu_ms_per_saga", "sagas", "cores"}


def test_the_benchmark_ends_with_one_json_object(tmp_path: Path) -> None:
    """Else what reads its last line, a page or a comparison with others, reads nothing."""
    with Process("bench", "--sagas", "1200", "--rate", "20", output=tmp_path / "bench.txt") as bench:
        assert bench.wait(timeout_s=100) == 0, bench.text()
        figures = json.loads(bench.text().splitlines()[-1])
    assert figures.keys() >= PROMISED
    assert figures["sagas"] > 0
    assert {"worker", "inventory", "payment", "invoice"} <= figures["cpu_ms_per_saga"].keys()


def test_the_benchmark_of_histories_ends_with_one_json_object(tmp_path: Path) -> None:
    """Else nobody could tell whether verifying and rebuilding got slower; or it would measure on a database where something differs."""
    with Process("bench.history", "--orders", "40", output=tmp_path / "history.txt") as bench:
        assert bench.wait(timeout_s=100) == 0, bench.text()
        figures = json.loads(bench.text().splitlines()[-1])["figures"]
    assert {name.rpartition(",")[0] for name in figures} == {
        "verify",
        "verify --deep",
        "rebuild (nothing differs)",
        "rebuild (all tables emptied)",
    }
    assert all(one["events"] == 168 and one["cpu_us"] > 0 for one in figures.values())

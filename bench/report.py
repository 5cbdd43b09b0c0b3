"""What the benchmark says: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.usage import by_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The results."""

    sagas: int
    sagas_per_s: float
    p50_ms: float
    p99_ms: float
    commits_per_saga: float
    commits_per_saga_spaced: float
    cpu_ms_per_saga: Mapping[str, float]
    worker_rss_mb: float
    #: Microseconds of one decision, and of a reference that tells how fast the machine was at that moment.
    decide_us: float
    reference_us: float
    rate_per_s: int
    cores: int
    workers: int
    #: Load average of the last minute at the end: what else the machine had to do shows here.
    load_1m: float

    def document(self) -> dict[str, object]:
        """The JSON object."""
        return {
            "sagas_per_s": round(self.sagas_per_s, 1),
            "p50_ms": round(self.p50_ms, 1),
            "p99_ms": round(self.p99_ms, 1),
            "commits_per_saga": round(self.commits_per_saga, 3),
            "cpu_ms_per_saga": {name: round(value, 3) for name, value in by_kind(self.cpu_ms_per_saga).items()},
            "sagas": self.sagas,
            "cores": self.cores,
            "commits_per_saga_spaced": round(self.commits_per_saga_spaced, 3),
            "rate_per_s": self.rate_per_s,
            "workers": self.workers,
            "worker_rss_mb": round(self.worker_rss_mb, 1),
            "decide_us": round(self.decide_us, 1),
            "reference_us": round(self.reference_us, 1),
            "load_1m": round(self.load_1m, 2),
        }


def show(figures: Figures) -> None:
    """Print the table, then the JSON object as the last line."""
    table = Table(title=f"{figures.sagas} sagas measured, {figures.workers} worker(s), {figures.cores} cores", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("sagas a second", f"{figures.sagas_per_s:.0f}")
    table.add_row(f"latency p50 at {figures.rate_per_s}/s", f"{figures.p50_ms:.1f} ms")
    table.add_row(f"latency p99 at {figures.rate_per_s}/s", f"{figures.p99_ms:.1f} ms")
    table.add_row("commits a saga, saturated", f"{figures.commits_per_saga:.3f}")
    table.add_row(f"commits a saga at {figures.rate_per_s}/s", f"{figures.commits_per_saga_spaced:.2f}")
    for name, value in by_kind(figures.cpu_ms_per_saga).items():
        table.add_row(f"CPU a saga: {name}", f"{value:.2f} ms")
    table.add_row("CPU a saga: all", f"{sum(figures.cpu_ms_per_saga.values()):.2f} ms")
    table.add_row("memory of a worker", f"{figures.worker_rss_mb:.0f} MiB")
    table.add_row("one decision", f"{figures.decide_us:.0f} µs")
    table.add_row("json.dumps of 60 integers, then", f"{figures.reference_us:.1f} µs")
    table.add_row("load average", f"{figures.load_1m:.1f}")
    Console().print(table)
    print(json.dumps(figures.document()))

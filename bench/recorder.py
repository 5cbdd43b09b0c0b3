"""`python -m bench.recorder`: what the recorder costs (R28), as ratios of pairs that run one after the other.

Each pair is the closed loop of `python -m bench` with the recorder and without it, in turn, each on databases and queues of its own. The
last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from bench.__main__ import DRAIN_S, OPEN_ORDERS, SAGAS, WARM_UP
from bench.load import Load, Unfinished
from bench.site import Site
from bench.usage import Usage, cpu_ms
from tests.support.services import ServiceMissing

#: Pairs by default, and for how long orders are placed in each half, in seconds.
PAIRS, PLACING_S = 5, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """One measurement."""

    sagas_per_s: float
    #: Of everything: worker, participants, PostgreSQL, RabbitMQ.
    cpu_ms: float


def main() -> int:
    """Run the pairs; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.recorder", description="Measure what the recorder costs.")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"how many (default: {PAIRS})")
    pairs = parser.parse_args().pairs
    try:
        # Whichever runs first has the colder machine: they take turns.
        halves = [(measure(recorder=place % 2 == 0), measure(recorder=place % 2 == 1)) for place in range(pairs)]
    except (Unfinished, ServiceMissing, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show([pair if place % 2 == 0 else (pair[1], pair[0]) for place, pair in enumerate(halves)])
    return 0


def measure(*, recorder: bool) -> Half:
    """One half. Raises: Unfinished when an order does not complete."""
    with TemporaryDirectory(prefix="escrow-bench-") as scratch, Site(scratch, workers=1, recorder=recorder) as site:
        with Load(site.amqp_url, site.topology) as load:
            before = cpu_ms(site)
            full = load.keep_open(OPEN_ORDERS, SAGAS, placing_s=PLACING_S, drain_s=DRAIN_S)
            used = Usage.between(before, cpu_ms(site), full.placed)
        return Half(sagas_per_s=full.per_second(WARM_UP), cpu_ms=sum(used.values()))


def show(pairs: list[tuple[Half, Half]]) -> None:
    """Print the pairs, the one with the recorder first, and the medians of their ratios."""
    table = Table(title="with the recorder, and without it")
    for name in ("sagas/s with", "without", "ratio", "CPU ms with", "without", "ratio"):
        table.add_column(name, justify="right")
    for with_it, without in pairs:
        rate, cpu = with_it.sagas_per_s / without.sagas_per_s, with_it.cpu_ms / without.cpu_ms
        cells = (with_it.sagas_per_s, without.sagas_per_s, rate, with_it.cpu_ms, without.cpu_ms, cpu)
        table.add_row(*(f"{cell:.{digits}f}" for cell, digits in zip(cells, (0, 0, 3, 2, 2, 3), strict=True)))
    Console().print(table)
    document = {
        "pairs": len(pairs),
        "sagas_per_s_ratio": round(median(one.sagas_per_s / other.sagas_per_s for one, other in pairs), 3),
        "cpu_ratio": round(median(one.cpu_ms / other.cpu_ms for one, other in pairs), 3),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    sys.exit(main())

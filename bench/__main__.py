"""`python -m bench`: sagas through RabbitMQ and PostgreSQL, with every process real and every participant durable.

Phase 1 keeps a fixed number of orders open (a closed loop) and counts completions: throughput, commits, CPU. Phase 2 places orders
evenly spaced at a moderate rate: latency. Prints a table, and as its last line one JSON object; ends with 1 and the reason when it cannot.
"""

from __future__ import annotations

import argparse
import os
import sys
from tempfile import TemporaryDirectory

from bench.core import decide_us, reference_us
from bench.load import Load, Unfinished
from bench.report import Figures, show
from bench.site import Site
from bench.usage import Usage, commits, cpu_ms, rss_mb
from tests.support.services import ServiceMissing

#: Orders open at once in phase 1: enough for full batches everywhere, far less than a backlog.
OPEN_ORDERS = 600
#: Orders placed in phase 1 at most, and for how long, in seconds: by default all ends within 45 s, however slow the machine is.
SAGAS, PLACING_S = 5_000, 14.0
#: The share of phase 1's completions that is left out as warm-up.
WARM_UP = 0.1
#: Phase 2: orders a second, and seconds.
RATE_PER_S, SPACED_S = 100, 8.0
#: Time for what is open at the end of a phase to complete, in seconds.
DRAIN_S = 10.0
#: After so long without load the backends have reported their commits, in seconds. Those of the ticks count too.
SETTLED_S = 1.5


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = _options()
    try:
        with TemporaryDirectory(prefix="escrow-bench-") as scratch, Site(scratch, workers=options.workers) as site:
            figures = measure(site, sagas=options.sagas, rate_per_s=options.rate)
    except (Unfinished, ServiceMissing, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(figures)
    return 0


def measure(site: Site, *, sagas: int | None, rate_per_s: int) -> Figures:
    """Both phases. Raises: Unfinished when an order does not complete."""
    with Load(site.amqp_url, site.topology) as load:
        before, cpu_before = commits(site.admin_url, site.database), cpu_ms(site)
        full = load.keep_open(OPEN_ORDERS, sagas or SAGAS, placing_s=None if sagas else PLACING_S, drain_s=DRAIN_S)
        used = Usage.between(cpu_before, cpu_ms(site), full.placed)
        load.rest(SETTLED_S)
        between = commits(site.admin_url, site.database)
        spaced = load.space(rate_per_s, SPACED_S, drain_s=DRAIN_S)
        load.rest(SETTLED_S)
        after = commits(site.admin_url, site.database)
        return Figures(
            sagas=full.measured(WARM_UP),
            sagas_per_s=full.per_second(WARM_UP),
            p50_ms=spaced.latency_ms(0.50),
            p99_ms=spaced.latency_ms(0.99),
            commits_per_saga=(between - before) / full.placed,
            commits_per_saga_spaced=(after - between) / spaced.placed,
            cpu_ms_per_saga=used,
            worker_rss_mb=rss_mb(site.worker_pids),
            decide_us=decide_us(),
            reference_us=reference_us(),
            rate_per_s=rate_per_s,
            cores=len(os.sched_getaffinity(0)),
            workers=len(site.worker_pids),
            load_1m=os.getloadavg()[0],
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure sagas through RabbitMQ and PostgreSQL.")
    parser.add_argument("--sagas", type=_positive, help=f"orders of phase 1 (default: {SAGAS}, or what {PLACING_S:.0f} s allow)")
    parser.add_argument("--workers", type=_positive, default=1, help="`escrow worker` processes (default: 1)")
    parser.add_argument("--rate", type=_positive, default=RATE_PER_S, help=f"orders a second of the latency phase (default: {RATE_PER_S})")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.history`: how fast orders are verified, decided again, and rebuilt from their journals.

Fills a database of its own with orders of every kind through the line, then goes through all of them. Each figure is given as events a
second, and as CPU an event, PostgreSQL's included, as other load on the machine takes from the first and not from the second. Prints a
table, and as its last line one JSON object; ends with 1 when anything differs. A package with this file in it, because processes that are
started would load it once more if it were a module, and it loads much.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from bench.core import reference_us
from bench.usage import cpu_of
from orchestrator.app.circuit import Circuit
from orchestrator.app.handle import Context, handle
from orchestrator.app.rebuild import Rebuilt
from orchestrator.app.registry import Registry
from orchestrator.app.restore import Report
from orchestrator.app.work import Work
from orchestrator.contract import Topology
from orchestrator.loading import load_definitions
from orchestrator.store import schema, tables, upkeep
from orchestrator.store.engine import make_engine
from orchestrator.store.transaction import SqlStore
from orchestrator.wiring import now
from tests.app.house import answer, placed
from tests.support.services import ServiceMissing, fresh_postgres

#: By default: some 200,000 events.
ORDERS = 48_000
#: Orders in a transaction while filling.
BATCH = 200
#: What a rebuild makes.
EMPTIED = (tables.orders, tables.order_data, tables.order_labels, tables.deadlines, tables.snapshots, tables.counters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement."""

    processes: int
    events: int
    events_per_s: float
    #: Of ours; of PostgreSQL's backends for the same work, None where it runs out of sight.
    cpu_us: float
    postgresql_cpu_us: float | None
    #: Of `json.dumps` of 60 integers at that moment, and how many of those an event costs.
    reference_us: float
    references: float


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description="Measure verify and rebuild.")
    parser.add_argument("--orders", type=int, default=ORDERS, help=f"orders, of four or five events each (default: {ORDERS})")
    options = parser.parse_args()
    try:
        with fresh_postgres() as url:
            fill(url, options.orders)
            figures = measure(url)
    except (ServiceMissing, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(figures)
    return 0


def fill(url: str, count: int) -> None:
    """Place orders and let them live: most complete, some are undone, some wait. Their messages count as confirmed."""
    schema.upgrade(url)
    engine = make_engine(url, clock=now)
    store = SqlStore(engine, shard=1)
    store.register(load_definitions(None))
    ids = itertools.count()
    context = Context(
        store=store,
        registry=Registry(store),
        topology=Topology(),
        owner="bench",
        new_id=lambda: f"m-{next(ids):09d}",
        parked_for=timedelta(hours=1),
        circuit=Circuit(orders_min=10),
    )
    for start in range(0, count, BATCH):
        for works in _lives(range(start, min(count, start + BATCH))):
            handled = handle(context, works)
            store.forget_outbox([message.outbox_id for message in handled.outbox])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    engine.dispose()


def _lives(numbers: range) -> Iterator[list[Work]]:
    # Ids in no order, as most are: an order's rows lie apart.
    made = {number: hashlib.md5(str(number).encode()).hexdigest()[:24] for number in numbers}  # no secret
    kinds = [(order_id, number % 10) for number, order_id in made.items()]
    yield [placed(order_id) for order_id, _ in kinds]
    yield [answer(order_id, "reserve_inventory", "InventoryReserved") for order_id, kind in kinds if kind < 9]
    paid = {"payment_id": "p-4711"}
    yield [
        answer(order_id, "take_payment", "PaymentTaken" if kind < 7 else "PaymentDeclined", data=paid)
        for order_id, kind in kinds
        if kind < 8
    ]
    yield [answer(order_id, "email_invoice", "InvoiceEmailed") for order_id, kind in kinds if kind < 7]
    yield [
        answer(order_id, "take_payment", "PaymentTaken", message_id=f"again-{order_id}", data=paid) for order_id, kind in kinds if kind < 7
    ]
    yield [answer(order_id, "reserve_inventory", "InventoryReleased", undo=True) for order_id, kind in kinds if kind == 7]


def measure(url: str) -> dict[str, Figure]:
    """Every figure. Raises: AssertionError when anything differs."""
    cores = len(os.sched_getaffinity(0))
    figures = {}
    for processes in sorted({1, cores}):
        figures[f"verify, {processes}"] = _timed(url, processes, lambda engine, n: upkeep.verify_all(engine, processes=n))
        figures[f"verify --deep, {processes}"] = _timed(url, processes, lambda engine, n: upkeep.verify_all(engine, deep=True, processes=n))
        figures[f"rebuild (nothing differs), {processes}"] = _timed(url, processes, _rebuild)
        _empty(url)
        figures[f"rebuild (all tables emptied), {processes}"] = _timed(url, processes, _rebuild)
    return figures


def _rebuild(engine: sa.Engine, processes: int) -> Rebuilt:
    return upkeep.rebuild_all(engine, actor="bench", processes=processes)


def _empty(url: str) -> None:
    engine = make_engine(url, clock=now)
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE " + ", ".join(table.name for table in EMPTIED)))
    engine.dispose()


def _timed(url: str, processes: int, work: Callable[[sa.Engine, int], Report | Rebuilt]) -> Figure:
    with upkeep.opened(url, now) as engine:
        used, began = _own_cpu_s(), time.perf_counter()
        result = work(engine, processes)
        took, used = time.perf_counter() - began, _own_cpu_s() - used
        # With one process every session of it is still there to be asked.
        theirs = _sessions_cpu_s(engine) if processes == 1 else None
    assert result.found == 0, result.findings
    reference = reference_us()
    cost_us = 1e6 * (used + (theirs or 0)) / result.entries
    return Figure(
        processes=processes,
        events=result.entries,
        events_per_s=round(result.entries / took, 1),
        cpu_us=round(1e6 * used / result.entries, 1),
        postgresql_cpu_us=None if theirs is None else round(1e6 * theirs / result.entries, 1),
        reference_us=round(reference, 2),
        references=round(cost_us / reference, 2),
    )


def _own_cpu_s() -> float:
    usage = (getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _sessions_cpu_s(engine: sa.Engine) -> float | None:
    """CPU of this engine's sessions so far; None where PostgreSQL runs out of sight."""
    with engine.connect() as connection:
        pids = connection.scalars(sa.text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")).all()
    return sum(map(cpu_of, pids)) / 1000 or None


def show(figures: dict[str, Figure]) -> None:
    """Print the table, then the JSON object as the last line."""
    table = Table(title=f"{next(iter(figures.values())).events} events, {len(os.sched_getaffinity(0))} cores")
    for column in ("what, processes", "events/s", "CPU an event", "of PostgreSQL", "json.dumps then", "in those"):
        table.add_column(column, justify="left" if column.startswith("what") else "right")
    for name, one in figures.items():
        theirs = "" if one.postgresql_cpu_us is None else f"{one.postgresql_cpu_us:.1f} µs"
        cells = (f"{one.events_per_s:,.0f}", f"{one.cpu_us:.1f} µs", theirs, f"{one.reference_us:.1f} µs", f"{one.references:.1f}")
        table.add_row(name, *cells)
    Console().print(table)
    print(json.dumps({"load_1m": round(os.getloadavg()[0], 2), "figures": {name: asdict(one) for name, one in figures.items()}}))


if __name__ == "__main__":
    sys.exit(main())

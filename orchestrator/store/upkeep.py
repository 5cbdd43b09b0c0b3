"""Going through all orders: verify them, rebuild them; piece by piece, in several processes, with its progress told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from orchestrator.app import restore
from orchestrator.app.again import Again
from orchestrator.app.rebuild import Rebuilt
from orchestrator.app.registry import Registry
from orchestrator.app.restore import Report
from orchestrator.contract import canonical
from orchestrator.errors import Conflict, SettingsError
from orchestrator.store import counters, schema, unfinished, verify, workers
from orchestrator.store.dialect import Clock, of, reading, writing
from orchestrator.store.engine import for_bulk, make_engine
from orchestrator.store.rebuild import lay_out, rebuild_span
from orchestrator.store.spans import ENTRIES, Answer, Span, each, entry_count, quiet, sizes, spans
from orchestrator.store.tables import audit, checkpoints, orders
from orchestrator.store.transaction import SqlStore

#: Told after every piece: journal entries gone through, and all there are.
Progress = Callable[[int, int], None]

#: With fewer journal entries several processes take longer to start than one to finish.
ALONE_BELOW = 100_000
#: Journal entries, at most, whose orders are rebuilt in one transaction: more take memory and gain nothing.
REBUILT_AT_ONCE = 25_000
#: The checkpoint that stands while a rebuild is not finished.
_REBUILD = "rebuild"
#: What is said while one of these checkpoints stands.
_UNFINISHED = {
    _REBUILD: "A rebuild was begun and not finished, so orders may be missing. Fix: run `escrow rebuild` to its end.",
    unfinished.UNDER_WAY: unfinished.UNFINISHED,
}
#: How long a rebuild waits for transactions that were under way when it began.
_LOCK_WAIT_S = 10
#: The counters' shard of a correction: any.
_SHARD = 0
#: Processes named in an error.
_NAMED_MAX = 3
#: Held while rebuilding, so that two do not meet. Any fixed number.
_REBUILD_LOCK = 6_715_202


@contextmanager
def opened(url: str, clock: Clock) -> Iterator[sa.Engine]:
    """An engine for what is done here, on a migrated database. Raises: SettingsError, StoreUnavailable."""
    engine = for_bulk(make_engine(url, clock=clock))
    try:
        schema.check(engine)
        yield engine
    finally:
        engine.dispose()


def verify_all(engine: sa.Engine, *, deep: bool = False, processes: int = 1, progress: Progress | None = None) -> Report:
    """Fold every journal and compare with everything that is stored; `deep`: decide every input again, too. Changes nothing.

    Raises: StoreUnavailable.
    """
    with reading(engine) as connection:
        begun_at = of(connection).now(connection)
    report = Report()
    for part, total in _parts(engine, _decide_span if deep else verify.verify_span, processes):
        report += part
        if progress is not None:
            progress(report.entries, total)
    return restore.recount(report, verify.counter_sums(engine)) + Report(moving=verify.moved_since(engine, begun_at))


def rebuild_all(engine: sa.Engine, *, actor: str, processes: int = 1, progress: Progress | None = None) -> Rebuilt:
    """Lay out every order anew from its journal, and count the counters anew, while nothing else runs.

    PostgreSQL: page by page, each committed by itself; killed at any point, it is to be run again, and no process starts before it was.
    SQLite: one transaction. Raises: Conflict while processes run, or another rebuild; StoreForbidden, StoreBusy, StoreUnavailable.
    """
    schema.check_rights(engine)
    with _alone(engine) as guard:
        result = Rebuilt()
        for part, total in _rebuild_parts(engine, guard, processes):
            result += part
            if progress is not None:
                progress(result.entries, total)
        result += Rebuilt(recounted=counters.reset(guard))
        detail = f"Orders: {result.orders}, written anew: {result.mended}, left as they are: {result.found}."
        _note(guard, actor, None, detail)
        guard.execute(sa.delete(checkpoints).where(checkpoints.c.name == _REBUILD))
    return result


def rebuild_order(engine: sa.Engine, order_id: str, *, actor: str) -> Rebuilt:
    """Lay out one order anew under its lock (R19), while everything runs; correct its counter, and leave a line in the audit.

    Raises: StoreBusy, StoreUnavailable.
    """
    schema.check_rights(engine)
    with writing(engine) as connection:
        _lock(connection, order_id)
        before = _counted_as(connection, order_id)
        result = lay_out(connection, [order_id])
        if result.mended:
            after = _counted_as(connection, order_id)
            _note(connection, actor, order_id, "Its rows were written anew from its journal.")
            counters.correct(connection, {key for key in (before, after) if key is not None}, _SHARD)
    return result


def refuse_unfinished(engine: sa.Engine) -> None:
    """Raises: SettingsError while a rebuild or a recovery is to be brought to its end; StoreUnavailable."""
    with reading(engine) as connection:
        found = set(connection.scalars(sa.select(checkpoints.c.name).where(checkpoints.c.name.in_(_UNFINISHED))))
    for name, what in _UNFINISHED.items():
        if name in found:
            raise SettingsError(what)


def _parts(
    engine: sa.Engine, work: Callable[[sa.Engine, Span], Answer], processes: int, largest: int = ENTRIES
) -> Iterator[tuple[Answer, int]]:
    """What `work` answers for every piece, and how many entries there are in all."""
    total = entry_count(engine)
    pieces = spans(engine, sizes(total, largest, processes))
    if processes > 1 and total >= ALONE_BELOW:
        answers = each(pieces, work, engine.url.render_as_string(hide_password=False), processes)
    else:
        answers = (work(engine, span) for span in pieces)
    with quiet():
        for answer in answers:
            yield answer, total


def _decide_span(engine: sa.Engine, span: Span) -> Report:
    return verify.verify_span(engine, span, again=Again(Registry(SqlStore(engine, shard=0))))


def _rebuild_parts(engine: sa.Engine, guard: sa.Connection, processes: int) -> Iterator[tuple[Rebuilt, int]]:
    if guard.dialect.name == "postgresql":
        yield from _parts(engine, rebuild_span, processes, REBUILT_AT_ONCE)
        return
    total, after = entry_count(engine), ""
    while order_ids := verify.next_ids(guard, after, None, verify.BATCH):
        yield lay_out(guard, order_ids), total
        after = order_ids[-1]


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction during which no order moves, whoever runs: every move appends to the journal, and nobody else can.

    It commits at the end of the block. What was committed beside it stands, marked as unfinished, when it does not.
    """
    with writing(engine) as guard:
        if guard.dialect.name != "postgresql":
            _refuse_living(guard)
            yield guard
            return
        guard.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        if not guard.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_REBUILD_LOCK))).scalar_one():
            raise Conflict("Another `escrow rebuild` is running. Fix: let it end, or stop it first.")
        _refuse_living(guard)
        with writing(engine) as connection:
            mark = {"name": _REBUILD, "position": canonical.encode({}), "updated_at": of(connection).now(connection)}
            connection.execute(of(connection).insert(checkpoints).values(mark).on_conflict_do_nothing())
        # From here on no process starts. One that started just before waits at its first move, and finds everything rebuilt.
        guard.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'")
        guard.exec_driver_sql("LOCK TABLE journal IN SHARE MODE")
        yield guard


def _refuse_living(connection: sa.Connection) -> None:
    living = workers.living(connection)
    if living:
        more = f" and {len(living) - _NAMED_MAX} more" if len(living) > _NAMED_MAX else ""
        named = ", ".join(living[:_NAMED_MAX]) + more
        raise Conflict(
            f"Escrow is running: {named}. Fix: stop every `serve`, `worker` and `up` (SIGTERM) and run this again, "
            "or rebuild one order while they run: --order ID."
        )


def _lock(connection: sa.Connection, order_id: str) -> None:
    """The lock of one order: its row, or its name where it has none (R19)."""
    statement = sa.select(orders.c.order_id).where(orders.c.order_id == order_id).with_for_update()
    if connection.execute(statement).one_or_none() is None:
        of(connection).lock_names(connection, [order_id])
        # Whoever held the name may have opened the order meanwhile.
        connection.execute(statement)


def _note(connection: sa.Connection, actor: str, order_id: str | None, detail: str) -> None:
    at = of(connection).now(connection)
    row = {"at": at, "actor": actor, "act": "rebuild", "order_id": order_id, "outcome": "done", "detail": detail}
    connection.execute(sa.insert(audit), row)


def _counted_as(connection: sa.Connection, order_id: str) -> counters.CounterKey | None:
    o = orders.c
    row = connection.execute(sa.select(o.definition, o.version, o.state, o.status).where(o.order_id == order_id)).one_or_none()
    return None if row is None else (row.definition, row.version, row.state, row.status)

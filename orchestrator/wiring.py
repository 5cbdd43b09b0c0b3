"""The composition root: the only place that makes real things. Engine, bus, clock, ids and threads are made here and handed down."""

from __future__ import annotations

import gc
import getpass
import os
import random
import secrets
import signal
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

from orchestrator import logs
from orchestrator.app import restore
from orchestrator.app.circuit import Circuit
from orchestrator.app.handle import Context
from orchestrator.app.in_turn import InTurn
from orchestrator.app.intake import Limits
from orchestrator.app.line import Line
from orchestrator.app.marks import REPLACED, Marks
from orchestrator.app.ports import Bus
from orchestrator.app.rebuild import Rebuilt
from orchestrator.app.registry import Registry
from orchestrator.app.watch import FAILPOINTS, LineWatcher
from orchestrator.app.work import Outcome, Work
from orchestrator.bus import recorder
from orchestrator.bus.rabbitmq import RabbitBus
from orchestrator.bus.topology import Retention
from orchestrator.config import Settings
from orchestrator.contract import Topology, Wire
from orchestrator.errors import EscrowError, SettingsError, TemporaryError
from orchestrator.metrics import Levels, Metrics
from orchestrator.store import audit, backup, backups, idempotency, recovery, schema, upkeep
from orchestrator.store.definitions import Registration
from orchestrator.store.engine import Engine, make_engine
from orchestrator.store.participants import Pace
from orchestrator.store.queries import Queries
from orchestrator.store.tokens import Tokens
from orchestrator.store.transaction import SqlStore
from orchestrator.store.upkeep import Progress
from orchestrator.timers import STALLED_AFTER_S, Metronome
from orchestrator.web.services import Readiness, Services

#: How often a worker asks whether it is its turn to write a backup, and to mark the recorder, in seconds.
_ASK_FOR_BACKUP_EVERY_S = _MARK_EVERY_S = 60.0

_log = logs.get(__name__)


def now() -> datetime:
    """The present, aware UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never go back."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def new_id() -> str:
    """A new unique id."""
    return str(uuid4())


def new_token() -> str:
    """A new bearer token: 256 random bits."""
    return "escrow_" + secrets.token_urlsafe(32)


# --- one process -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineGateway:
    """Implements `app.operate.Gateway` on this process's line."""

    line: Line
    registry: Registry
    queries: Queries

    def submit(self, work: Work) -> Future[Outcome]:
        """See the port."""
        return self.line.submit(work)

    def quarantined_wire(self, quarantine_id: str) -> Wire | None:
        """See the port."""
        row = self.queries.quarantined(quarantine_id)
        return None if row is None else row.wire

    def new_id(self) -> str:
        """See the port."""
        return new_id()

    def now(self) -> datetime:
        """See the port."""
        return now()


@dataclass(slots=True)
class Process:
    """One running Escrow process: its line, its metronome, and what the API needs. Made by `make_process`."""

    line: Line
    metronome: Metronome
    services: Services
    metrics: Metrics
    engine: Engine
    role: str
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to work; returns at once."""
        # What is there now stays to the end: without it a full collection costs an eighth of the handler's time.
        gc.freeze()
        self.line.start()
        self.metronome.start()
        _log.info("started", action="started", role=self.role)

    def run(self, stop: threading.Event) -> None:
        """Stay until told to stop; watches the metronome meanwhile."""
        while not stop.wait(0.5):
            self.metronome.watch()

    def stop(self) -> None:
        """Stop consuming, finish the batch, ack, publish, close. Idempotent."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self.metronome.stop()
        self.line.stop()
        self.engine.dispose()
        _log.info("stopped", action="stopped", role=self.role)


def open_database(settings: Settings) -> Engine:
    """The engine of a migrated database. Raises: SettingsError with what to do, StoreUnavailable."""
    settings.require("database_url")
    engine = make_engine(str(settings.database_url), clock=now)
    schema.check(engine)
    return engine


def rabbit_bus(settings: Settings, participants: frozenset[str]) -> RabbitBus:
    """The bus of a service. Raises: SettingsError."""
    settings.require("amqp_url")
    topology = Topology(settings.namespace)
    return RabbitBus(
        str(settings.amqp_url),
        topology,
        participants,
        jitter=random.random,
        prefetch=settings.prefetch_count,
        retention=retention(settings),
    )


def retention(settings: Settings) -> Retention | None:
    """What the recorder of these settings keeps; None: there is none."""
    return Retention(settings.recorder_keep_h, settings.recorder_bytes_max) if settings.recorder else None


def make_process(
    settings: Settings,
    engine: Engine,
    registrations: Sequence[Registration],
    bus: Bus,
    *,
    role: str,
    consume: bool,
) -> Process:
    """Register the definitions and put a process together. `consume` False: the API alone.

    Raises: StoreForbidden, StoreUnavailable; SettingsError for changed content under a registered version, and for a rebuild not finished.
    """
    incarnation = f"{role}-{os.getpid()}-{secrets.token_hex(6)}"
    schema.check_rights(engine)
    upkeep.refuse_unfinished(engine)
    store = SqlStore(engine, shard=zlib.crc32(incarnation.encode()), pace=pace(settings))
    store.register(registrations)
    registry, queries, metrics = Registry(store), Queries(engine), Metrics()
    metrics.read_levels_from(partial(_levels, queries))
    context = Context(
        store=store,
        registry=registry,
        topology=Topology(settings.namespace),
        owner=incarnation,
        new_id=new_id,
        parked_for=timedelta(hours=settings.parked_expiry_h),
        circuit=Circuit(orders_min=settings.silent_orders_min),
        records=bus.has_recorder,
    )
    ticks: list[Metronome] = []
    line = Line(
        context,
        bus,
        store,
        LineWatcher(metrics, failpoint=_failpoint(settings), die=_die),
        _limits(settings),
        role=role,
        monotonic=monotonic,
        pause=sleep,
        wake_at=lambda at_s: ticks[0].wake_at(at_s),  # noqa: PLW0108  # the metronome needs the line, and the line the metronome
        consume=consume,
    )
    metronome = Metronome(line.tick, interval_s=settings.tick_ms / 1000, monotonic=monotonic, now=now)
    ticks.append(metronome)
    if consume:
        _add_jobs(metronome, settings, store, engine, metrics, has_recorder=bus.has_recorder)
    services = _services(line, registry, queries, store, engine, metrics, consume=consume)
    return Process(line=line, metronome=metronome, services=services, metrics=metrics, engine=engine, role=role)


def _add_jobs(metronome: Metronome, settings: Settings, store: SqlStore, engine: Engine, metrics: Metrics, *, has_recorder: bool) -> None:
    """The jobs of the fleet that take longer than a tick may."""

    def backup_failed(error: EscrowError | OSError) -> None:
        metrics.alerts.labels(name="backup_failed").inc()
        _log.error("the backup failed", action="backup_failed", error=str(error))

    def not_marked(error: EscrowError | OSError) -> None:
        _log.info("the recorder cannot be asked now: its last mark stands", action="not_marked", error=str(error))

    def replaced() -> None:
        metrics.alerts.labels(name="database_replaced").inc()
        _log.error(REPLACED, action="database_replaced")

    if settings.backup_dir is not None:
        write = partial(_write_backup, settings, engine, settings.backup_dir)
        in_turn = InTurn(store, "backup", every=timedelta(hours=settings.backup_every_h), run=write, failed=backup_failed)
        metronome.also(in_turn.ask, interval_s=_ASK_FOR_BACKUP_EVERY_S)
    if has_recorder:
        marks = Marks(
            store,
            every=timedelta(seconds=_MARK_EVERY_S),
            marked_at=partial(recovery.marked_at, engine),
            move=partial(mark, settings, engine),
            lacks=partial(lacks_what_is_recorded, settings, engine),
            replaced=replaced,
            failed=not_marked,
        )
        metronome.also(marks.ask, interval_s=_MARK_EVERY_S)


def _write_backup(settings: Settings, engine: Engine, directory: Path, at: datetime) -> None:
    name = backup.create(engine, directory, backups.name_at(at)).name
    backups.prune(directory, settings.backup_keep, at)
    _log.info("a backup was written", action="backup_written", name=name)
    for complaint in backups.unreadable(directory):
        _log.warning("a backup cannot be read: it is not pruned", action="backup_unreadable", error=complaint)


def mark(settings: Settings, engine: Engine) -> datetime | None:
    """Write down a place in the recorder after which everything comes that the database does not have by now (R28).

    A recovery of this database begins there, by whatever tool it is restored. Of a database that is to be recovered the mark stays: what is
    missing comes after that. When it was written, by the database's clock; None: it was not. Raises: SettingsError, BusUnavailable,
    StoreUnavailable.
    """
    if settings.amqp_url is None or not settings.recorder:
        return None
    place = recorder.position(settings.amqp_url, Topology(settings.namespace), mark=new_id())
    return recovery.move_mark(engine, asdict(place))


def lacks_what_is_recorded(settings: Settings, engine: Engine) -> bool:
    """Whether the recorder has an entry, from since the mark, that the journal has not: then it is to be recovered (R28).

    Reads as far as the first of them; without any to the end, as a rule a minute of the recorder. Raises: as `mark`.
    """
    if settings.amqp_url is None or not settings.recorder:
        return False
    place = recovery.kept(engine, recovery.MARK) or {"offset": "first"}
    recorded = recorder.records(settings.amqp_url, Topology(settings.namespace), place["offset"], mark=new_id())
    return any(recovery.lacks(engine, body) for body in recorded)


def pace(settings: Settings) -> Pace:
    """How participants that were silent are fed."""
    return Pace(
        canary=timedelta(milliseconds=settings.canary_ms),
        first_per_s=settings.recovery_first_per_s,
        max_per_s=settings.recovery_max_per_s,
    )


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Call it from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def verify(settings: Settings, *, deep: bool = False, processes: int | None = None, progress: Progress | None = None) -> restore.Report:
    """Fold every journal and compare with everything that is stored, in so many processes (None: one a core).

    Raises: SettingsError, StoreUnavailable.
    """
    settings.require("database_url")
    with upkeep.opened(str(settings.database_url), now) as engine:
        return upkeep.verify_all(engine, deep=deep, processes=processes or os.cpu_count() or 1, progress=progress)


def rebuild(settings: Settings, *, order_id: str | None = None, processes: int | None = None, progress: Progress | None = None) -> Rebuilt:
    """Lay out one order, or all of them, anew from their journals.

    Raises: SettingsError, Conflict (all of them, while processes run), StoreForbidden, StoreBusy, StoreUnavailable.
    """
    settings.require("database_url")
    actor = f"{getpass.getuser()} (escrow rebuild)"
    with upkeep.opened(str(settings.database_url), now) as engine:
        if order_id is not None:
            return upkeep.rebuild_order(engine, order_id, actor=actor)
        return upkeep.rebuild_all(engine, actor=actor, processes=processes or os.cpu_count() or 1, progress=progress)


def _services(
    line: Line, registry: Registry, queries: Queries, store: SqlStore, engine: Engine, metrics: Metrics, *, consume: bool
) -> Services:
    def readiness() -> Readiness:
        checks = {
            "database": _answers(store.now),
            "broker": line.link.publishing and not line.link.blocked and (line.link.consuming or not consume),
            "ticking": line.beat_s is not None and monotonic() - line.beat_s < STALLED_AFTER_S,
        }
        # The API alone takes orders while the broker is away: their commands wait in the outbox.
        return Readiness(checks=checks, needed=frozenset(checks) if consume else frozenset(checks) - {"broker"})

    return Services(
        gateway=LineGateway(line, registry, queries),
        queries=queries,
        registry=registry,
        tokens=Tokens(engine),
        claim_key=partial(idempotency.claim, engine),
        audit=partial(audit.note, engine),
        begin_resync=store.begin_resync,
        metrics_text=lambda: metrics.render()[0],
        readiness=readiness,
        now=now,
        new_id=new_id,
    )


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except TemporaryError:
        return False
    return True


def _levels(queries: Queries) -> Levels:
    participants = queries.participants()
    return Levels(
        orders=queries.counts(),
        outbox_age_s=queries.outbox_age_s(),
        outbox_messages=queries.outbox_size(),
        parked=queries.parked_count(),
        quarantine_open=queries.quarantine_count(),
        participants={one.name: one.state for one in participants},
        held={one.name: one.held for one in participants},
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        require_user_id=settings.require_user_id,
        batch_count_max=settings.batch_count_max,
        batch_bytes_max=settings.batch_bytes_max,
        linger_s=settings.linger_ms / 1000,
        drain_grace_s=settings.drain_grace_s,
        tick_gap_max_s=STALLED_AFTER_S,
        # Half a second's worth: it never waits for us, nor do commands wait there for long.
        queue_count_max=max(10, settings.recovery_max_per_s // 2),
    )


def _failpoint(settings: Settings) -> str | None:
    if settings.failpoint is not None and settings.failpoint not in FAILPOINTS:
        raise SettingsError(f"ESCROW_FAILPOINT is {settings.failpoint}. Fix: unset it, or one of {', '.join(FAILPOINTS)}.")
    return settings.failpoint


def _die() -> None:
    """As kill -9 would: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)

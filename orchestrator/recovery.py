"""Recovery put together: a restored database, the recorder, and what is to be said of both (R28)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from orchestrator import wiring
from orchestrator.app import record, recover
from orchestrator.app.circuit import Circuit
from orchestrator.app.handle import Context
from orchestrator.app.record import Heard, Item
from orchestrator.app.recover import Staged, Tally
from orchestrator.app.registry import Registry
from orchestrator.app.restore import Report
from orchestrator.bus import recorder, waiting
from orchestrator.config import Settings
from orchestrator.contract import RECORD, Topology
from orchestrator.errors import BusUnavailable, MalformedMessage, SettingsError
from orchestrator.store import recovery, schema
from orchestrator.store.definitions import Registration
from orchestrator.store.engine import Engine, make_engine
from orchestrator.store.transaction import SqlStore
from orchestrator.store.upkeep import Progress

#: Items laid down in one transaction.
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery found and did."""

    #: The database as it was restored, and as it is now.
    before: recovery.Standing
    after: recovery.Standing
    #: Messages of the recorder that were read.
    read: int
    #: Why the recorder does not hold everything since the backup; None: it does.
    gap: str | None
    #: When the youngest event that waits in the inbox was said, by its sender's clock; None: none waits.
    heard_at: datetime | None
    tally: Tally
    verified: Report

    @property
    def is_sound(self) -> bool:
        """Whether every journal agrees with what is stored."""
        return not self.verified.findings


def run(settings: Settings, registrations: Sequence[Registration], progress: Progress | None) -> Recovered:
    """Recover the database of these settings, which any tool may have restored. Killed at any point, it is to be run again.

    Raises: SettingsError, Conflict while processes run or another recovery does, StoreUnavailable, BusUnavailable.
    """
    settings.require("database_url")
    engine = make_engine(str(settings.database_url), clock=wiring.now)
    try:
        schema.check(engine)
        schema.check_rights(engine)
        with recovery.alone(engine):
            recovered = _run(settings, engine, registrations, progress)
    finally:
        engine.dispose()
    return recovered


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A command that a participant knows and Escrow does not: it was asked in the time that was lost."""

    participant: str
    order_id: str
    command_id: str
    command_type: str
    #: `done`, `refused` or `undone`.
    state: str
    #: When the participant answered, by its clock.
    answered_at: str | None


def unknown_to_us(settings: Settings, participant: str, ledger: Iterable[Mapping[str, Any]]) -> list[Unknown]:
    """The rows of a participant's ledger whose orders, or commands, Escrow does not know."""
    engine = make_engine(str(settings.database_url), clock=wiring.now)
    found: list[Unknown] = []
    rows = iter(ledger)
    fields = ("order_id", "command_id", "command_type", "state", "answered_at")
    try:
        facts = SqlStore(engine, shard=0).known_types()
        while page := list(islice(rows, _PAGE)):
            known = recovery.known_commands(engine, {row["order_id"] for row in page})
            lost = (row for row in page if not _is_known(row, known, facts))
            found += [Unknown(participant=participant, **{name: row[name] for name in fields}) for row in lost]
    finally:
        engine.dispose()
    return found


def _is_known(row: Mapping[str, Any], known: Mapping[str, Collection[str]], facts: Collection[str]) -> bool:
    """What happened at a participant by itself is in its ledger, too; only some orders have it in theirs."""
    commands = known.get(row["order_id"])
    return commands is not None and (row["command_id"] in commands or row["command_type"] in facts)


def _run(settings: Settings, engine: Engine, registrations: Sequence[Registration], progress: Progress | None) -> Recovered:
    before = recovery.standing(engine)
    store = SqlStore(engine, shard=0, pace=wiring.pace(settings))
    store.register(registrations)
    shelf, tally = recovery.RecoveryShelf(engine), Tally()
    read, gap, mark = _read(settings, engine, shelf, tally, progress)
    context = _context(settings, store)

    recover.fold_in(context, shelf, tally, _counting(shelf, progress))
    _refuse_unregistered(engine)
    recover.handle_again(context, shelf, tally, _counting(shelf, progress), require_user_id=settings.require_user_id)
    for participant in sorted(store.participants()):
        store.begin_resync(participant, None)
    recovery.finish(engine, None if mark is None else asdict(mark))
    after = recovery.standing(engine)
    verified = wiring.verify(settings, progress=progress)
    return Recovered(before=before, after=after, read=read, gap=gap, heard_at=_heard_at(settings), tally=tally, verified=verified)


def _refuse_unregistered(engine: Engine) -> None:
    """Orders that were folded in may be of a definition that came after the backup."""
    if missing := recovery.unregistered(engine):
        named = ", ".join(f"{name} version {version}" for name, version in missing)
        raise SettingsError(
            f"Orders were recovered whose definition is not loaded: {named}. Fix: put its file into ESCROW_DEFINITIONS (a shipped one: "
            "name it in ESCROW_SHIPPED), and run `escrow recover` again: it goes on."
        )


def _heard_at(settings: Settings) -> datetime | None:
    try:
        return None if settings.amqp_url is None else waiting.newest(settings.amqp_url, Topology(settings.namespace))
    except (SettingsError, BusUnavailable):
        # The broker may be lost, too; then it is not there to be asked.
        return None


def _counting(shelf: recovery.RecoveryShelf, progress: Progress | None) -> Callable[[int], None]:
    """What is told how many items were gone through."""
    total, done = shelf.count(), 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        if progress is not None:
            progress(done, total)

    return count


def _context(settings: Settings, store: SqlStore) -> Context:
    return Context(
        store=store,
        registry=Registry(store),
        topology=Topology(settings.namespace),
        # It never beats: the workers adopt what it leaves.
        owner=f"recovery-{wiring.new_id()}",
        new_id=wiring.new_id,
        parked_for=timedelta(hours=settings.parked_expiry_h),
        circuit=Circuit(orders_min=settings.silent_orders_min),
        records=settings.recorder,
    )


def _read(
    settings: Settings, engine: Engine, shelf: recovery.RecoveryShelf, tally: Tally, progress: Progress | None
) -> tuple[int, str | None, recorder.Position | None]:
    """Lay down what the recorder has beyond the database; how many messages it read, what is missing, and how far the recorder goes."""
    if settings.amqp_url is None or not settings.recorder:
        return 0, "There is no recorder (ESCROW_AMQP_URL is not set, or ESCROW_RECORDER is false).", None
    url, topology = settings.amqp_url, Topology(settings.namespace)
    try:
        end = recorder.position(url, topology)
    except SettingsError as error:
        return 0, str(error), None
    begun = recovery.kept(engine, recovery.UNDER_WAY) or {}
    start, gap = (begun["next"], begun["gap"]) if begun else _start(url, topology, recovery.kept(engine, recovery.MARK))
    if end is None or recorder.first(url, topology, start) is None:
        return 0, gap, end
    read, page, following = 0, list[Staged](), start
    for found in recorder.read(url, topology, start, mark=wiring.new_id()):
        read, following = read + 1, found.offset + 1
        page += [Staged(key=(found.offset, place), item=item) for place, item in enumerate(_items(found, tally))]
        if len(page) >= _PAGE:
            shelf.lay_down(page, {"next": following, "gap": gap})
            page = []
            if progress is not None:
                progress(found.offset, end.offset)
    shelf.lay_down(page, {"next": following, "gap": gap})
    return read, gap, end


def _start(url: str, topology: Topology, mark: dict[str, object] | None) -> tuple[recorder.Start, str | None]:
    """Where to begin: at the place that the database names, if that is still there; else with the oldest that is."""
    if mark is not None:
        place = recorder.Position(**mark)  # type: ignore[arg-type]  # as `finish` and `Marks` keep it
        if recorder.first(url, topology, place.offset) == place:
            return place.offset, None
        return "first", (
            f"The recorder does not hold what the database was last marked at (offset {place.offset}): it was made anew, or that is "
            "older than it keeps."
        )
    oldest = recorder.first(url, topology, "first")
    if oldest is None or oldest.offset == 0:
        return "first", None
    return "first", f"The database has no mark, and the recorder begins at offset {oldest.offset}: what came before is not in it."


def _items(found: recorder.Recorded, tally: Tally) -> Iterator[Item]:
    if not (found.is_ours and found.wire.content_type == RECORD):
        yield Heard(wire=found.wire, user_id=found.user_id)
        return
    try:
        yield from record.read(found.wire.body)
    except MalformedMessage as error:
        tally.doubt("-", f"the record at offset {found.offset} is damaged: {error}")

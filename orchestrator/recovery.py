"""Recovery put together: a restored database, the recorder, and what is to be said of both (R28)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from orchestrator.bus import recorder, waiting
from orchestrator.bus.recorder import Position, Recorded, Start
from orchestrator.config import Settings
from orchestrator.contract import RECORD, Topology
from orchestrator.errors import BusUnavailable, MalformedMessage, NoRecorder, RequestError, SettingsError
from orchestrator.store import recovery, schema, unfinished
from orchestrator.store.definitions import Registration
from orchestrator.store.engine import Engine, make_engine
from orchestrator.store.transaction import SqlStore
from orchestrator.store.upkeep import Progress

#: Items laid down in one transaction.
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery found and did; with those before it, when they were killed, the fields that say so."""

    #: The database as it was restored, before the first of them, and as it is now.
    before: recovery.Standing
    after: recovery.Standing
    #: Messages of the recorder that were read.
    read: int
    #: Why the recorder does not hold everything since the backup; None: it does. Of all of them.
    gap: str | None
    #: When the youngest event that waits in the inbox was said, by its sender's clock; None: none waits.
    heard_at: datetime | None
    #: What was done; what is uncertain is of all of them.
    tally: Tally


def run(
    settings: Settings,
    registrations: Sequence[Registration],
    progress: Progress | None,
    *,
    start: Start | None = None,
    pause: Callable[[float], object] = wiring.sleep,
) -> Recovered:
    """Recover the database of these settings, which any tool may have restored. Killed at any point, it is to be run again.

    `start`: where to begin in the recorder; None: where the database's mark says, or where the run before was killed. `pause` waits.

    Raises: SettingsError, Conflict while processes run or another recovery does, StoreBusy, StoreUnavailable, BusUnavailable.
    """
    settings.require("database_url")
    engine = make_engine(str(settings.database_url), clock=wiring.now)
    try:
        schema.check(engine)
        schema.check_rights(engine)
        with recovery.alone(engine, pause) as guard:
            recovered = _Run(settings, engine, guard, progress).run(registrations, start)
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


class _Course:
    """How far a recovery has come, with what it cannot find out again: kept in the database, so that the next run goes on."""

    def __init__(self, engine: Engine) -> None:
        kept = recovery.kept(engine, unfinished.UNDER_WAY) or {}
        self._engine = engine
        self.before = recovery.standing_of(kept["before"]) if "before" in kept else recovery.standing(engine)
        #: Where an operator said to begin.
        self.start: Start | None = kept.get("start")
        #: The last message that was laid down.
        self.read_to = Position(**kept["read_to"]) if kept.get("read_to") else None
        self.gap: str | None = kept.get("gap")
        self.tally = _KeptTally(self.save, [tuple(one) for one in kept.get("uncertain", ())], kept.get("more", 0))

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "before": self.before.document(),
            "start": self.start,
            "read_to": None if self.read_to is None else asdict(self.read_to),
            "gap": self.gap,
            "uncertain": [list(one) for one in self.tally.uncertain],
            "more": self.tally.more,
        }

    def save(self) -> None:
        """Keep it."""
        recovery.keep(self._engine, unfinished.UNDER_WAY, self.document())


class _KeptTally(Tally):
    """A tally whose doubts outlive the process, as what raised them is not met again. The number of those not told is kept page by page."""

    def __init__(self, save: Callable[[], None], uncertain: list[tuple[str, str]], more: int) -> None:
        super().__init__(uncertain=uncertain, more=more)
        self._save = save

    def doubt(self, order_id: str, what: str) -> None:
        if (order_id, what) not in self.uncertain:
            super().doubt(order_id, what)
            if not self.more:
                self._save()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A recorder, and where to begin in it."""

    url: str
    topology: Topology
    start: Start
    #: Near its end, before reading began.
    end: Position
    #: It is another one than that of the run before, which was killed.
    is_another: bool = False


class _Run:
    """One run of a recovery."""

    def __init__(self, settings: Settings, engine: Engine, guard: recovery.Guard, progress: Progress | None) -> None:
        self._settings = settings
        self._engine = engine
        self._guard = guard
        self._progress = progress
        self._store = SqlStore(engine, shard=0, pace=wiring.pace(settings), recovers=True)
        self._shelf = recovery.RecoveryShelf(engine)
        self._course = _Course(engine)

    def run(self, registrations: Sequence[Registration], start: Start | None) -> Recovered:
        """From the beginning, or from where the run before came to, to the end. Raises: see `recovery.run`."""
        course = self._course
        self._store.register(registrations)
        source = self._source(start)
        course.save()
        if source is not None and source.is_another:
            # Its offsets would be taken for those of what lies there.
            self._work_off()
        read = 0 if source is None else self._lay_down(source)
        self._work_off()
        for participant in sorted(self._store.participants()):
            self._store.begin_resync(participant, None)
        after, heard_at = recovery.standing(self._engine), _heard_at(self._settings)
        self._guard.finish(None if source is None else asdict(source.end))
        return Recovered(before=course.before, after=after, read=read, gap=course.gap, heard_at=heard_at, tally=course.tally)

    def _source(self, start: Start | None) -> _Source | None:
        """Where to read; None: nowhere, which is then the gap of the course."""
        settings, course = self._settings, self._course
        if start is not None:
            course.start, course.read_to = start, None
        if not settings.recorder:
            course.gap = "There is no recorder (ESCROW_RECORDER is false)."
            return None
        if settings.amqp_url is None:
            course.gap = _unnamed(recovery.kept(self._engine, recovery.MARK))
            return None
        url, topology = settings.amqp_url, Topology(settings.namespace)
        try:
            end = recorder.position(url, topology, mark=wiring.new_id())
        except NoRecorder as error:
            course.gap = str(error)
            return None
        found = _Source(url=url, topology=topology, start="first", end=end)
        if course.read_to is not None:
            return self._after(found, course.read_to)
        if course.start is not None:
            course.gap = _gap_before(found, course.start)
            return replace(found, start=course.start)
        return self._at_mark(found, recovery.kept(self._engine, recovery.MARK))

    def _after(self, source: _Source, place: Position) -> _Source:
        """Go on where the run before was killed, if that is still there; else with the oldest that is."""
        if _first(source, place.offset) == place:
            return replace(source, start=place.offset + 1)
        self._course.read_to = None
        self._course.gap = (
            f"The recorder does not hold what the run before had read (up to offset {place.offset}): it was made anew, or that is older "
            "than it keeps."
        )
        return replace(source, is_another=True)

    def _at_mark(self, source: _Source, mark: dict[str, Any] | None) -> _Source:
        """Begin at the place that the database names, if that is still there; else with the oldest that is."""
        if mark is None:
            oldest = _first(source, "first")
            self._course.gap = None if oldest.offset == 0 else f"The database has no mark, and {_lacks(oldest)}."
            return source
        place = Position(**mark)
        if _first(source, place.offset) == place:
            self._course.gap = None
            return replace(source, start=place.offset)
        self._course.gap = (
            f"The recorder does not hold what the database was last marked at (offset {place.offset}): it was made anew, or that is "
            "older than it keeps."
        )
        return source

    def _lay_down(self, source: _Source) -> int:
        """Lay down what the recorder has beyond the database; how many messages were read."""
        read, page, last = 0, list[Staged](), None
        for found in recorder.read(source.url, source.topology, source.start, mark=wiring.new_id()):
            read, last = read + 1, found
            page += [Staged(key=(found.offset, place), item=item) for place, item in enumerate(_items(found, self._course.tally))]
            if len(page) >= _PAGE:
                self._turn_page(page, last)
                page = []
                if self._progress is not None:
                    self._progress(min(found.offset, source.end.offset), source.end.offset)
        if last is not None:
            self._turn_page(page, last)
        return read

    def _turn_page(self, page: Sequence[Staged], last: Recorded) -> None:
        self._guard.look()
        self._course.read_to = last.position
        self._shelf.lay_down(page, self._course.document())

    def _work_off(self) -> None:
        """Fold in what lies there, and handle the rest again."""
        context, tally = _context(self._settings, self._store), self._course.tally
        recover.fold_in(context, self._shelf, tally, self._counting())
        _refuse_unregistered(self._engine)
        recover.handle_again(context, self._shelf, tally, self._counting(), require_user_id=self._settings.require_user_id)

    def _counting(self) -> Callable[[int], None]:
        """What is told after every page how many items were gone through."""
        total, done = self._shelf.count(), 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            self._guard.look()
            if self._course.tally.more:
                self._course.save()
            if self._progress is not None:
                self._progress(done, total)

        return count


def _first(source: _Source, start: Start) -> Position:
    return recorder.first(source.url, source.topology, start, mark=wiring.new_id())


def _lacks(oldest: Position) -> str:
    return f"the recorder begins at offset {oldest.offset}: what came before is not in it"


def _gap_before(source: _Source, start: Start) -> str | None:
    """What an operator's beginning leaves out; None: nothing that is known. Raises: RequestError when it is beyond the end."""
    if isinstance(start, int) and (last := _first(source, start)).offset < start:
        raise RequestError(f"The recorder ends at offset {last.offset}: nothing is at {start}. Fix: --from first, or a smaller one.")
    oldest = _first(source, "first")
    wanted = start if isinstance(start, int) else 0
    return f"You said to begin at {start}, and {_lacks(oldest)}." if oldest.offset > wanted else None


def _unnamed(mark: dict[str, Any] | None) -> str:
    """The gap where no broker is named. Raises: SettingsError when there was a recorder: who goes on without it says so."""
    if mark is not None:
        raise SettingsError(
            "ESCROW_AMQP_URL is not set, and the database had a recorder. Fix: set it; "
            "or, when the recorder is lost, ESCROW_RECORDER=false."
        )
    return "There is no recorder (ESCROW_AMQP_URL is not set)."


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


def _items(found: Recorded, tally: Tally) -> Iterator[Item]:
    if not (found.is_ours and found.wire.content_type == RECORD):
        yield Heard(wire=found.wire, user_id=found.user_id)
        return
    try:
        yield from record.read(found.wire.body)
    except MalformedMessage as error:
        tally.doubt("-", f"the record at offset {found.offset} is damaged: {error}")

"""The history is the truth: fold every journal, compare with what is stored, and say what does not agree (R25, R26, R27)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.app.replay import LINE, Line, Replay
from orchestrator.app.sketch import sketch
from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated, MalformedMessage
from orchestrator.saga.order import Order

if TYPE_CHECKING:
    # What decides is not loaded where nothing is decided: each of several processes would wait for it.
    from orchestrator.app.again import Again

#: Findings that a report lists; the others are counted. Orders of an older form that it names.
FINDINGS_MAX = 1_000
FORMS_MAX = 10
#: The command that mends one order, before its id.
REBUILD_ORDER = "escrow rebuild --order"

_EFFECTS, _VERDICT = LINE.index("effects"), LINE.index("verdict")


class Kept(Protocol):
    """Everything the database holds about one order, at one moment."""

    @property
    def order_id(self) -> str:
        """The order."""

    @property
    def row(self) -> Mapping[str, Any] | None:
        """Columns of its row; None: it is missing."""

    @property
    def document(self) -> bytes | None:
        """Its canonical document; None: it is missing."""

    @property
    def lines(self) -> Iterable[Line]:
        """Its journal, by seq. Read once, and before the next order is asked for."""

    @property
    def deadlines(self) -> Sequence[Mapping[str, Any]]:
        """Its deadline rows, by name."""

    @property
    def labels(self) -> Sequence[Mapping[str, Any]]:
        """Its label rows, by name."""

    @property
    def outbox(self) -> Sequence[Mapping[str, Any]]:
        """Of its outbox rows: `outbox_id, seq, place, command_id, participant, message_type`."""

    @property
    def parked(self) -> Sequence[Mapping[str, Any]]:
        """Of what is parked for the order to open: `source, message_id, message_type, envelope`."""

    @property
    def snapshots(self) -> Mapping[int, bytes]:
        """Its snapshots: documents by seq."""


class Projection(Protocol):
    """How the store lays an order out in rows."""

    def row(self, order: Order) -> Mapping[str, Any]:
        """Columns of the order's row."""

    def deadlines(self, order: Order) -> Sequence[Mapping[str, Any]]:
        """Its deadline rows, by name."""

    def labels(self, order: Order) -> Sequence[Mapping[str, Any]]:
        """Its label rows, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that does not agree with the journal. `mend` says what to do; `order_id` is empty for counters."""

    order_id: str
    what: str
    mend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification saw. Reports of parts add up to that of the whole."""

    orders: int = 0
    entries: int = 0
    #: At most FINDINGS_MAX.
    findings: tuple[Discrepancy, ...] = ()
    #: Findings beyond those.
    more: int = 0
    #: Entries that were decided again (`deep`).
    decided: int = 0
    #: Of those, entries that say the same in another form: an older release wrote them. No finding.
    other_form: int = 0
    #: Some of the orders that have such entries.
    other_form_orders: tuple[str, ...] = ()
    #: Orders that were opened or moved while this ran: each was compared as it stood at one moment.
    moving: int = 0

    @property
    def found(self) -> int:
        """All findings."""
        return len(self.findings) + self.more

    def __add__(self, other: Report) -> Report:
        findings = (*self.findings, *other.findings)
        return Report(
            orders=self.orders + other.orders,
            entries=self.entries + other.entries,
            findings=findings[:FINDINGS_MAX],
            more=self.more + other.more + max(0, len(findings) - FINDINGS_MAX),
            decided=self.decided + other.decided,
            other_form=self.other_form + other.other_form,
            other_form_orders=(*self.other_form_orders, *other.other_form_orders)[:FORMS_MAX],
            moving=self.moving + other.moving,
        )


#: Orders by counter.
Counts = Mapping[tuple[str, str, str], int]


def verify(
    kept: Iterable[Kept], projection: Projection, counters: tuple[Counts, Counts] = ({}, {}), *, again: Again | None = None
) -> Report:
    """Fold every journal and compare. `counters`: as kept, and as counted. `again`: decide every input again, too."""
    report = Report()
    for one in kept:
        report += _examine(one, projection, again)
    return recount(report, counters)


def recount(report: Report, counters: tuple[Counts, Counts]) -> Report:
    """With what the counters say otherwise. `report`: of all orders; what mends one of them corrects its counter, too."""
    is_to_rebuild = any(finding.mend.startswith(REBUILD_ORDER) for finding in report.findings)
    mend = "first rebuild the orders above, then verify again" if is_to_rebuild else "stop `serve` and `worker`, then escrow rebuild"
    return report + Report(findings=tuple(_miscounted(*counters, mend)))


def rebuild_order(order_id: str) -> str:
    """The mend of what differs from a sound journal."""
    return f"{REBUILD_ORDER} {order_id}"


def _miscounted(said: Counts, counted: Counts, mend: str) -> Iterator[Discrepancy]:
    for key in sorted(said.keys() | counted.keys()):
        if said.get(key, 0) != counted.get(key, 0):
            what = f"the counter {'/'.join(key)} says {said.get(key, 0)}, and there are {counted.get(key, 0)} orders"
            yield Discrepancy(order_id="", what=what, mend=mend)


def _examine(one: Kept, projection: Projection, again: Again | None) -> Report:
    reading = _Reading(one, again)
    findings = reading.findings
    try:
        reading.read()
        document = reading.replay.bytes()
    except InvariantViolated as broken:
        if reading.replay.seq == 0 and _only_waits(one):
            return Report(findings=tuple(_unreadable_parked(one)))
        mend = "restore this order's journal from a backup; rebuilding leaves the order as it is"
        findings.append(Discrepancy(order_id=one.order_id, what=str(broken), mend=mend))
    else:
        findings.extend(_compare(one, projection, document, reading))
    return Report(
        orders=1,
        entries=reading.replay.seq,
        findings=tuple(findings),
        decided=reading.decided,
        other_form=reading.other_form,
        other_form_orders=(one.order_id,) if reading.other_form else (),
    )


def _only_waits(one: Kept) -> bool:
    """Whether nothing is known of the order but messages that wait for it to open."""
    rows = (one.deadlines, one.labels, one.outbox, one.snapshots)
    return bool(one.parked) and one.row is None and one.document is None and not any(rows)


@dataclass(slots=True)
class _Reading:
    """One order's journal being read: folded, and what other tables say of its entries looked up on the way."""

    one: Kept
    again: Again | None
    replay: Replay = field(init=False)
    findings: list[Discrepancy] = field(default_factory=list)
    decided: int = 0
    other_form: int = 0
    #: What each entry with an outbox row has to say: (command id, participant, type), by place.
    said: dict[int, list[tuple[str | None, str | None, str]]] = field(default_factory=dict)
    #: Entries that parked their message.
    kept_early: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.replay = Replay(self.one.order_id)

    def read(self) -> None:
        """Raises: InvariantViolated for a journal that cannot be folded."""
        replay, snapshots = self.replay, self.one.snapshots
        wanted = {row["seq"] for row in self.one.outbox}
        second = self.again.order(self.one.order_id) if self.again is not None else None
        for line in self.one.lines:
            replay.take(line)
            seq = replay.seq
            if seq in wanted:
                self.said[seq] = _said(canonical.load(line[_EFFECTS]))
            if line[_VERDICT] == "parked":
                self.kept_early.add(seq)
            if seq in snapshots and replay.bytes() != snapshots[seq]:
                self._find(f"the snapshot at entry {seq} differs from the journal", rebuild_order(self.one.order_id))
            if second is not None:
                second.take(line, replay)
        if second is not None:
            second.close(replay)
            self.decided, self.other_form = second.decided, second.other_form
            for what, mend in second.findings:
                self._find(what, mend)
        for seq in sorted(seq for seq in snapshots if seq > replay.seq):
            self._find(f"there is a snapshot at entry {seq}, which the journal does not have", rebuild_order(self.one.order_id))

    def _find(self, what: str, mend: str) -> None:
        self.findings.append(Discrepancy(order_id=self.one.order_id, what=what, mend=mend))


def _compare(one: Kept, projection: Projection, document: bytes, reading: _Reading) -> Iterator[Discrepancy]:
    order_id, mend = one.order_id, rebuild_order(one.order_id)
    order = sketch(document)
    if one.document != document:
        what = "the stored order is missing" if one.document is None else "the stored order differs from its journal"
        yield Discrepancy(order_id=order_id, what=what, mend=mend)
    if one.row is None or dict(one.row) != dict(projection.row(order)):
        what = "the order's row is missing" if one.row is None else "the order's row differs from its journal"
        yield Discrepancy(order_id=order_id, what=what, mend=mend)
    if [dict(row) for row in one.deadlines] != [dict(row) for row in projection.deadlines(order)]:
        yield Discrepancy(order_id=order_id, what="the armed deadlines differ from the journal", mend=mend)
    if [dict(row) for row in one.labels] != [dict(row) for row in projection.labels(order)]:
        yield Discrepancy(order_id=order_id, what="the labels differ from the journal", mend=mend)
    waits = order.direction != "ended" or any(ask.undo_is_open for ask in order.asks.values())
    if waits and order.next_due_at is None:
        yield Discrepancy(order_id=order_id, what="it waits, and no deadline is armed (R27)", mend="retry or abort the order")
    for seq in sorted({int(seq) for seq in order.parked} - reading.kept_early):
        what = f"it keeps the event of entry {seq}, which parked none"
        yield Discrepancy(order_id=order_id, what=what, mend="report it: the journal says what its own entries deny")
    yield from _stray_messages(one, reading)
    yield from _stray_parked(one)


def _stray_messages(one: Kept, reading: _Reading) -> Iterator[Discrepancy]:
    """Messages on their way out that the order's history never wrote (R17)."""
    for row in one.outbox:
        said = reading.said.get(row["seq"], [])
        place = row["place"]
        if not 0 <= place < len(said) or said[place] != (row["command_id"], row["participant"], row["message_type"]):
            what = f"the outbox holds {row['message_type']} ({row['outbox_id']}), which entry {row['seq']} did not write"
            mend = "remove that row of the table outbox; what the order still waits for is sent again by its deadline"
            yield Discrepancy(order_id=one.order_id, what=what, mend=mend)


def _stray_parked(one: Kept) -> Iterator[Discrepancy]:
    """Messages that wait for an order to open which is there: nobody will look for them."""
    for row in one.parked:
        what = f"{row['message_type']} ({row['message_id']} of {row['source']}) waits for the order to open, and it is open"
        yield Discrepancy(order_id=one.order_id, what=what, mend="replay it from the quarantine, where it goes when it expires")


def _unreadable_parked(one: Kept) -> Iterator[Discrepancy]:
    """Messages that wait for their order to open, and could not be applied then."""
    for row in one.parked:
        try:
            event = canonical.decode(row["envelope"])
            named = (event["subject"], event["source"], event["id"], event["type"])
        except (MalformedMessage, LookupError, TypeError):
            named = None
        if named != (one.order_id, row["source"], row["message_id"], row["message_type"]):
            what = f"the parked {row['message_type']} ({row['message_id']} of {row['source']}) is not what its row says"
            mend = "let its sender send it again: it is quarantined when it expires"
            yield Discrepancy(order_id=one.order_id, what=what, mend=mend)


def _said(effects: Mapping[str, Any]) -> list[tuple[str | None, str | None, str]]:
    commands = [(command["command_id"], command["participant"], command["name"]) for command in effects.get("commands", ())]
    return [*commands, *((None, None, announcement["name"]) for announcement in effects.get("announcements", ()))]

"""A small world for the core: a rulebook, and a story that feeds one order its inputs and checks the laws after each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, canonical, first_command_id, undo_id
from orchestrator.errors import DefinitionError
from orchestrator.saga import inputs
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.check import check
from orchestrator.saga.decide import Decided, decide, decide_all
from orchestrator.saga.decision import Command, Decision, Entry
from orchestrator.saga.definition import Definition, read
from orchestrator.saga.fold import apply_patch, fold
from orchestrator.saga.inputs import ActName, DeadlineDue, Input, Message, OperatorAct, SentLate
from orchestrator.saga.order import Ask, Order, from_document, to_document
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.verdicts import PARKED_MAX
from orchestrator.saga.waiting import waits

DEFINITIONS = Path(__file__).parents[2] / "orchestrator" / "definitions"
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
DATA: Mapping[str, Any] = {"order_id": "o1", "lines": [{"sku": "a", "quantity": 1}], "amount_minor": 500, "currency": "EUR"}


def compiled(text: str) -> Rulebook:
    """A rulebook from YAML that must pass every check."""
    definition: Definition = read(text, "test.yaml")
    if findings := check(definition):
        raise DefinitionError(findings)
    return Rulebook(definition.expanded)


ORDER_TEXT = (DEFINITIONS / "order.yaml").read_text()
ORDER_RULES = compiled(ORDER_TEXT)

#: A step after the pivot, a harmless step before it, a pivot with an undo: what the shipped definition does not have.
TOUR_RULES = compiled("""
definition: tour
version: 1
opens_on: TourPlaced
key: order_id
patience: 10m
abort_on: [TourCancelled]
steps:
  - step: look_up
    ask: catalogue
    command: LookUp
    done_on: LookedUp
    refused_on: LookUpFailed
    deadline: 10s
    harmless: true
  - step: reserve
    ask: hotel
    command: Reserve
    done_on: Reserved
    deadline: 10s
    retry: {attempts: 2, first: 1s}
    undo: {command: Release, done_on: Released, deadline: 10s, retry: {stuck_after: 2}}
  - step: pay
    ask: bank
    command: Pay
    done_on: Paid
    refused_on: Declined
    deadline: 10s
    pivot: true
    retry: {stuck_after: 2}
    undo: {command: Refund, done_on: Refunded, deadline: 10s}
  - step: send
    ask: post
    command: Send
    done_on: Sent
    refused_on: SendFailed
    deadline: 10s
    retry: {stuck_after: 2}
announce: {completed: TourBooked, compensated: TourOff, abandoned: TourLost}
""")

#: Life after the pivot, which the others come to only late: refusals there, with an undo and without.
PARCEL_RULES = compiled("""
definition: parcel
version: 1
opens_on: ParcelPlaced
key: order_id
patience: 10m
steps:
  - step: pay
    ask: bank
    command: Pay
    done_on: Paid
    refused_on: Declined
    deadline: 10s
    pivot: true
    retry: {stuck_after: 1}
  - step: pack
    ask: store
    command: Pack
    done_on: Packed
    refused_on: PackingFailed
    deadline: 10s
    retry: {stuck_after: 1}
    undo: {command: Unpack, done_on: Unpacked, deadline: 10s, retry: {stuck_after: 1}}
  - step: send
    ask: post
    command: Send
    done_on: Sent
    refused_on: SendFailed
    deadline: 10s
    retry: {stuck_after: 1}
""")

#: Steps side by side: before the pivot with undos, one of them harmless; after it without.
TRIP_RULES = compiled("""
definition: trip
version: 1
opens_on: TripPlaced
key: order_id
patience: 10m
abort_on: [TripCancelled]
steps:
  - step: quote
    ask: desk
    command: Quote
    done_on: Quoted
    deadline: 10s
    undo: {command: Unquote, done_on: Unquoted, deadline: 10s}
  - parallel: book
    state: booking
    steps:
      - step: room
        ask: hotel
        command: BookRoom
        done_on: RoomBooked
        refused_on: RoomRefused
        deadline: 10s
        retry: {attempts: 1}
        undo: {command: CancelRoom, done_on: RoomCancelled, deadline: 10s, retry: {stuck_after: 1}}
      - step: flight
        ask: airline
        command: BookFlight
        done_on: FlightBooked
        refused_on: FlightRefused
        deadline: 20s
        retry: {attempts: 2, first: 1s}
        undo: {command: CancelFlight, done_on: FlightCancelled, deadline: 10s, retry: {stuck_after: 1}}
      - step: weather
        ask: station
        command: LookUp
        done_on: LookedUp
        deadline: 5s
        retry: {attempts: 1}
        harmless: true
  - step: pay
    ask: bank
    command: Pay
    done_on: Paid
    refused_on: Declined
    deadline: 10s
    pivot: true
  - parallel: tell
    steps:
      - step: mail
        ask: post
        command: Mail
        done_on: Mailed
        refused_on: MailRefused
        deadline: 10s
        retry: {stuck_after: 1}
      - step: call
        ask: phone
        command: Call
        done_on: Called
        refused_on: CallRefused
        deadline: 10s
        retry: {stuck_after: 1}
announce: {completed: TripBooked, compensated: TripOff}
""")

#: A choice, a loop before the pivot that is undone in vain, one after it that goes on, and computed fields.
LOAN_RULES = compiled("""
definition: loan
version: 1
opens_on: LoanAsked
key: order_id
patience: 30m
steps:
  - choose: by_amount
    cases:
      - when: order.amount_minor > 100000
        steps:
          - step: visit
            ask: branch
            command: Visit
            done_on: Visited
            refused_on: VisitRefused
            deadline: 10s
            retry: {attempts: 1}
            undo: {command: Unvisit, done_on: Unvisited, deadline: 10s}
          - {step: sign, ask: branch, command: Sign, done_on: Signed, deadline: 10s, harmless: true, retry: {attempts: 1}}
      - when: order.amount_minor < 0
        steps: [{step: complain, ask: branch, command: Complain, done_on: Complained, deadline: 10s, harmless: true, retry: {attempts: 1}}]
  - repeat: scoring
    until: has(replies.score) && has(replies.score.points) && replies.score.points >= 5
    at_most: 3
    steps:
      - step: score
        ask: bureau
        command: Score
        with: {who: order.order_id, twice: order.amount_minor * 2}
        done_on: Scored
        deadline: 10s
        retry: {attempts: 1}
        undo: {command: Unscore, with: {points: replies.score.points}, done_on: Unscored, deadline: 10s}
  - {step: pay, ask: bank, command: Pay, done_on: Paid, refused_on: Declined, deadline: 10s, pivot: true}
  - repeat: thanking
    until: has(replies.thank) && has(replies.thank.heard) && replies.thank.heard
    at_most: 2
    then: go_on
    steps:
      - {step: thank, ask: post, command: Thank, done_on: Thanked, deadline: 10s}
""")


class Story:
    """One order's life: the order as it is, its journal, every decision, and a virtual clock."""

    def __init__(self, rulebook: Rulebook = ORDER_RULES, data: Mapping[str, Any] = DATA) -> None:
        self.rulebook = rulebook
        self.data = data
        self.now = START
        self.maybe: Order | None = None
        self.journal: list[Entry] = []
        self.decisions: list[Decision] = []
        self.messages = 0

    @property
    def order(self) -> Order:
        """The order, which was opened."""
        assert self.maybe is not None
        return self.maybe

    @property
    def last(self) -> Decision:
        """The latest decision."""
        return self.decisions[-1]

    @property
    def sent(self) -> list[str]:
        """Names of all commands sent so far."""
        return [command.name for command in self.commands]

    @property
    def commands(self) -> list[Command]:
        """All commands sent so far."""
        return [command for decision in self.decisions for command in decision.commands]

    @property
    def announced(self) -> list[str]:
        """Names of all announcements so far."""
        return [announcement.name for decision in self.decisions for announcement in decision.announcements]

    def feed(self, input_: Input) -> Decision:
        """Decide one input and what follows from it, check the laws, and take the outcome. The input's own decision."""
        decided = all_checked(self.rulebook, self.maybe, input_, self.now)
        for decision in decisions_of(decided):
            self.decisions.append(decision)
            self.maybe = decision.order
            if decision.entry is not None:
                self.journal.append(decision.entry)
                assert fold(self.journal) == self.maybe
        return decided.own

    def place(self) -> Decision:
        """The order is placed."""
        return self.feed(self.message(self.rulebook.opens_on, source="shop", data=self.data))

    def message(self, type_: str, *, source: str, commandid: str | None = None, data: Mapping[str, Any] | None = None) -> Message:
        """A message with an id of its own."""
        self.messages += 1
        return Message(
            envelope=Envelope(id=f"m{self.messages}", source=source, type=type_, subject="o1", data=dict(data or {}), commandid=commandid)
        )

    def ask(self, step: str, which: int = -1) -> Ask:
        """An ask of a step, by default the latest."""
        return [ask for ask in self.order.asks.values() if ask.step == step][which]

    def answer(
        self, step: str, kind: str = "done", *, undo: bool = False, which: int = -1, data: Mapping[str, Any] | None = None
    ) -> Decision:
        """The participant answers: `done`, `refused` or `too_late`; with `undo` it confirms the undo."""
        rule, ask = self.rulebook.by_name[step], self.ask(step, which)
        if undo:
            assert rule.undo is not None
            type_, commandid = rule.undo.done_on, undo_id(ask.command_id)
        else:
            types = {"done": rule.done_on, "too_late": COMMAND_TOO_LATE, "refused": next(iter(sorted(rule.refused_on)), "")}
            type_, commandid = types[kind], ask.command_id
        return self.feed(self.message(type_, source=rule.participant, commandid=commandid, data=data))

    def due(self, name: str | None = None, *, excused: bool = False) -> Decision:
        """Time passes until a deadline is due (by default the next one), and it fires."""
        armed = [deadline for deadline in self.order.deadlines.values() if deadline.due_at is not None]
        found = min(armed, key=lambda d: d.due_at or self.now) if name is None else self.order.deadlines[name]
        assert found.due_at is not None
        self.now = max(self.now, found.due_at)
        return self.feed(DeadlineDue(name=found.name, generation=found.generation, excused=excused))

    def silence(self, step: str) -> Decision:
        """The step's participant stays silent for one deadline."""
        return self.due(f"reply:{self.ask(step).key}")

    def exhaust(self, step: str) -> Decision:
        """The participant stays silent until the attempts are used up."""
        while True:
            decision = self.silence(step)
            retry = f"retry:{self.ask(step).key}"
            if retry not in self.order.deadlines:
                return decision
            self.due(retry)

    def act(self, act: ActName, *, admin: bool = False, seq: int | None = None, **arguments: Any) -> Decision:
        """An operator acts on what they see."""
        return self.feed(
            OperatorAct(
                act=act,
                actor="ann",
                reason="because",
                seq=self.order.seq if seq is None else seq,
                is_admin=admin,
                arguments=arguments,
            )
        )

    def wait(self, **units: float) -> None:
        """Time passes, and nothing fires."""
        self.now += timedelta(**units)


def story(*done: str, rulebook: Rulebook = ORDER_RULES, data: Mapping[str, Any] = DATA) -> Story:
    """A story whose order was placed, and these steps done."""
    told = Story(rulebook, data)
    told.place()
    for step in done:
        told.answer(step, data={"payment_id": "p1"})
    return told


def all_checked(rulebook: Rulebook, before: Order | None, input_: Input, now: datetime) -> Decided:
    """Decide an input and what follows from it, and hold each decision to the laws, and the last order to those of what is parked (R1)."""
    decided = decide_all(rulebook, before, input_, now)
    order = before
    for message, decision in decided.before:
        assert message.at_last
        assert checked(rulebook, order, message, now) == decision
        order = decision.order
    saw = replace(input_, seq=order.seq) if decided.before and order and isinstance(input_, OperatorAct) else input_
    assert checked(rulebook, order, saw, now) == decided.own
    order = decided.own.order
    for message, decision in decided.after:
        assert checked(rulebook, order, message, now) == decision
        order = decision.order
    assert order == decided.order
    if order is not None:
        assert not order.parked or order.direction == "forward", order.parked
        assert len(order.parked) <= PARKED_MAX
    return decided


def decisions_of(decided: Decided) -> list[Decision]:
    """All decisions that an input brought about, in order."""
    return [*(one for _, one in decided.before), decided.own, *(one for _, one in decided.after)]


def checked(rulebook: Rulebook, before: Order | None, input_: Input, now: datetime) -> Decision:
    """Decide, and hold the decision to the laws that bind every one of them (R1, R2, R25, R26, R27)."""
    decision = decide(rulebook, before, input_, now)
    assert decision == decide(rulebook, before, input_, now)
    assert decision.verdict in {"moved", "duplicate", "late", "refused", "parked", "ignored"}
    entry, after = decision.entry, decision.order
    if entry is None:
        assert after is before
        assert not decision.commands
        assert not decision.announcements
        assert decision.verdict == "moved" or decision.reason
        return decision
    assert after is not None
    assert after.seq == entry.seq == (before.seq if before else 0) + 1
    assert entry.prev_hash == (before.hash if before else "")
    assert from_document(canonical.load(canonical.encode(to_document(after)))) == after
    document = canonical.load(canonical.encode(to_document(before))) if before else _blank()
    apply_patch(document, canonical.load(entry.patch))
    document["hash"] = entry.hash
    assert from_document(document) == after
    written = {name: getattr(entry, name) for name in Entry.__dataclass_fields__ if name != "hash"}
    assert entry_hash(written) == entry.hash
    again = decide(rulebook, before, inputs.from_document(canonical.load(entry.input)), now)
    assert again.entry == entry
    assert_waits(rulebook, after)
    return decision


def _blank() -> dict[str, Any]:
    return {"fields": {}, "data": {}, "labels": {}, "replies": {}, "turns": {}, "asks": {}, "deadlines": {}, "hash": ""}


def assert_waits(rulebook: Rulebook, order: Order) -> None:
    """R27: whatever is not over waits for somebody, has an armed deadline for it, and only stopped clocks have no time."""
    over = order.direction == "ended" and not any(ask.undo_is_open for ask in order.asks.values())
    assert over == (not order.deadlines), (order.state, list(order.deadlines))
    assert over == (not waits(order)), (order.state, list(order.asks.values()))
    for ask in order.asks.values():
        assert not ask.is_open or (order.direction, order.state) == ("forward", rulebook.by_name[ask.step].state), ask
    assert order.held == ("hold" in order.deadlines)
    for name, deadline in order.deadlines.items():
        assert (deadline.due_at is None) == (order.held and name != "hold"), name
        assert (deadline.remaining_ms is None) == (deadline.due_at is not None), name


def every_input(rulebook: Rulebook, order: Order, now: datetime, tag: str = "x") -> Iterator[tuple[Input, datetime]]:
    """Every kind of input, fitting or not, with the time it comes at. `tag` makes message ids unique."""
    yield from ((message, now) for message in _every_message(rulebook, order, tag))
    yield from _every_deadline(order, now)
    yield from ((act, now) for act in _every_act(rulebook, order, now))


#: What events from outside may carry: with this they are taken, refused by their guards, or cannot be decided on.
EVENT_DATA: tuple[Mapping[str, Any], ...] = (
    {"amount": 120, "number": 2, "name": "n", "until": "2026-11-09T12:00:00Z", "amount_minor": 900, "price_minor": 900}
    | {"amendment": 1, "funds_due_at": "2026-11-20T12:00:00Z"},
    {"amount": 60, "number": 3, "until": "soon", "amount_minor": 1, "price_minor": 1, "amendment": 2, "funds_due_at": "soon"},
    {"amount": -1, "number": 1, "name": "n", "until": "2026-01-01T00:00:00Z", "amount_minor": 1},
    {},
)


def _every_message(rulebook: Rulebook, order: Order, tag: str) -> Iterator[Message]:
    number = [0]

    def event(type_: str, source: str = "shop", commandid: str | None = None, data: Mapping[str, Any] | None = None) -> Message:
        number[0] += 1
        name = f"{tag}.{order.seq}.{number[0]}"
        return Message(
            envelope=Envelope(id=name, source=source, type=type_, subject=order.order_id, data=dict(data or {}), commandid=commandid)
        )

    yield event(rulebook.opens_on, data=order.data)
    yield event(rulebook.opens_on, data={"order_id": order.order_id, "other": True})
    yield replace(event("OtherPlaced"), opens=True)
    yield replace(event("Anything"), seen="same")
    yield replace(event("Anything"), seen="other")
    yield event("Nothing")
    yield from (event(name) for name in sorted(rulebook.abort_on))
    for ask in order.asks.values():
        step = rulebook.by_name[ask.step]
        for type_ in [step.done_on, *sorted(step.refused_on), COMMAND_TOO_LATE, "Nonsense"]:
            yield event(type_, step.participant, ask.command_id or None, {"payment_id": "p"})
        yield event(step.done_on, step.participant)
        yield event(step.done_on, "stranger", ask.command_id or None)
        yield event(step.done_on, step.participant, "no-such-command")
        if step.undo is not None:
            yield event(step.undo.done_on, step.participant, undo_id(ask.command_id))
            yield event(step.done_on, step.participant, undo_id(ask.command_id))
    for step in rulebook.watched:
        for type_ in [step.done_on, *sorted(step.refused_on), COMMAND_TOO_LATE]:
            for commandid in (None, first_command_id(order.order_id, step.name)):
                yield event(type_, step.participant, commandid, {"shelf": 7})
                yield event(type_, step.participant, commandid, {"shelf": 0})
                yield event(type_, "stranger", commandid)
    for name, rule in sorted(rulebook.events.items()):
        for data in EVENT_DATA:
            yield event(name, rule.source or "anyone", data=data)
        yield event(name, "stranger", data=EVENT_DATA[0])
        yield event(name, rule.source or "anyone", "no-such-command")


def _every_deadline(order: Order, now: datetime) -> Iterator[tuple[Input, datetime]]:
    yield DeadlineDue(name="reply:nothing.0.1", generation=1), now
    yield SentLate(command_id="no-such-command"), now
    for name, deadline in sorted(order.deadlines.items()):
        at = max(now, deadline.due_at or now)
        yield DeadlineDue(name=name, generation=deadline.generation), at
        yield DeadlineDue(name=name, generation=deadline.generation, excused=True), at
        yield DeadlineDue(name=name, generation=deadline.generation), at - timedelta(microseconds=1)
        yield DeadlineDue(name=name, generation=deadline.generation - 1), at
        if deadline.command_id is not None:
            yield SentLate(command_id=deadline.command_id), now


def _every_act(rulebook: Rulebook, order: Order, now: datetime) -> Iterator[OperatorAct]:
    def act(name: ActName, /, *, admin: bool = True, late: int = 0, **arguments: Any) -> OperatorAct:
        return OperatorAct(act=name, actor="ann", reason="because", seq=order.seq - late, is_admin=admin, arguments=arguments)

    for to in [
        *rulebook.by_state,
        *rulebook.endings,
        "completed",
        "compensated",
        undoing(rulebook.stages[0].name),
        "nowhere",
        7,
        ["a"],
        None,
    ]:
        yield act("force", to=to)
        yield act("force", to=to, admin=False)
    plain: tuple[ActName, ...] = ("retry", "abort", "hold", "release", "abandon")
    for name in plain:
        yield act(name)
        yield act(name, admin=False)
        yield act(name, late=1)
    naive = now.replace(tzinfo=None)
    for at in [now + timedelta(hours=1), now - timedelta(hours=1), naive, "tomorrow", 7, datetime.max.replace(tzinfo=UTC)]:
        yield act("hold", until=at)
        for armed in [*sorted(order.deadlines)[:2], "nothing"]:
            yield act("deadline", name=armed, due_at=at)
    for step in [*rulebook.by_name, "nothing", 7, ["a"], None]:
        yield act("skip", step=step)
        yield act("confirm", step=step)


def loaded(raw: bytes) -> Any:
    """The JSON value of a journal column."""
    return json.loads(raw)

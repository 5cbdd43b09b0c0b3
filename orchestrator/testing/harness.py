"""One order on the pure core, with a clock that moves only when it is told to: what an author's test speaks to.

Nothing here is a stand-in for Escrow. Every input goes through `decide`, as in production; left out are the database, the broker and the
participants, in whose place the test says what comes, and when.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, canonical, digest, is_order_id, undo_id
from orchestrator.contract.envelope import attributes
from orchestrator.errors import RequestError
from orchestrator.saga.decide import decide_all
from orchestrator.saga.decision import Announcement, Command, Decision, Entry
from orchestrator.saga.inputs import ActName, DeadlineDue, Input, Message, OperatorAct, Seen, SentLate
from orchestrator.saga.language import DURATION_MS_MAX, parse_duration
from orchestrator.saga.order import Ask, Cause, Deadline, Order, Status
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule
from orchestrator.testing.expect import Expected, differences, span

#: When a test begins, unless it says otherwise.
START = datetime(2026, 1, 1, tzinfo=UTC)
#: The order's id, unless its data names one.
ORDER_ID = "order-1"
#: Deadlines that one `advance` fires at most. A participant asked every 5 minutes passes it after about a year.
FIRED_MAX = 200_000
#: Lines of the story that a failure shows.
_STORY_LINES_MAX = 40
#: Arguments of acts that are times: a duration from now says the same.
_TIME_ARGUMENTS = ("until", "due_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One input and what became of it."""

    at: datetime
    input: Input
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What an order sent."""

    commands: tuple[Command, ...]
    announcements: tuple[Announcement, ...]


class Harness:
    """One order, from before it opens. Every method that lets something happen returns what was decided."""

    def __init__(self, rulebook: Rulebook, *, now: datetime = START) -> None:
        self.rulebook = rulebook
        #: The clock; aware.
        self.now = now
        #: Everything that happened, in order.
        self.turns: list[Turn] = []
        #: Every message delivered, in order.
        self.messages: list[Envelope] = []
        #: All commands sent so far. Each has its body, also those of which the journal holds it only once.
        self.commands: list[Command] = []
        self.announcements: list[Announcement] = []
        #: The journal.
        self.history: list[Entry] = []
        self._started_at = now
        self._order: Order | None = None
        self._parked: list[Envelope] = []
        self._recorded: dict[tuple[str, str], str] = {}
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._looked_at = (0, 0)

    def __repr__(self) -> str:
        where = "not open" if self._order is None else f"{self._order.order_id}: {self._order.state}, {self._order.status}"
        return f"<{self.rulebook.name} {where}, after {span(self.now - self._started_at)}>"

    # --- what happens

    def open(self, data: Mapping[str, Any] | None = None, *, order_id: str | None = None, source: str = "test") -> Decision:
        """The opening event comes. Its subject is `order_id`, else the key field of `data`, which is put in where it is missing."""
        content = dict(data or {})
        subject = content.setdefault(self.rulebook.key, order_id or ORDER_ID) if order_id is None else order_id
        content.setdefault(self.rulebook.key, subject)
        return self.deliver(self._message(self.rulebook.opens_on, content, source=source, subject=subject))

    def reply(self, step: str, data: Mapping[str, Any] | None = None) -> Decision:
        """The participant reports the step done. `step`: its name, for its latest ask, or an ask's key (`take_payment.0.1`).

        A watched step can be done before the order comes to it.
        """
        if (watched := self._watched_ahead(step)) is not None:
            return self.deliver(self._message(watched.done_on, data, source=watched.participant))
        ask = self.ask(step)
        rule = self.rulebook.by_name[ask.step]
        return self.deliver(self._message(rule.done_on, data, source=rule.participant, command_id=ask.command_id))

    def refuse(self, step: str, data: Mapping[str, Any] | None = None, *, event: str | None = None) -> Decision:
        """The participant refuses the step, with `event`, else with the first (by name) that the definition has, or `CommandTooLate`."""
        watched = self._watched_ahead(step)
        ask = None if watched is not None else self.ask(step)
        rule = watched or self.rulebook.by_name[self.ask(step).step]
        name = event or min(rule.refused_on, default=COMMAND_TOO_LATE)
        if name not in rule.refused_on and name != COMMAND_TOO_LATE:
            raise RequestError(f"{name} refuses nothing of {rule.name}; {_listed([*sorted(rule.refused_on), COMMAND_TOO_LATE])} do.")
        return self.deliver(self._message(name, data, source=rule.participant, command_id=ask.command_id if ask else None))

    def undone(self, step: str, data: Mapping[str, Any] | None = None) -> Decision:
        """The participant confirms that the step is undone."""
        ask = self.ask(step)
        rule = self.rulebook.by_name[ask.step]
        if rule.undo is None or not ask.undo_attempts:
            raise RequestError(f"The undo of {ask.step} was not sent.")
        return self.deliver(self._message(rule.undo.done_on, data, source=rule.participant, command_id=undo_id(ask.command_id)))

    def event(
        self,
        type_: str,
        data: Mapping[str, Any] | None = None,
        *,
        source: str | None = None,
        command_id: str | None = None,
        message_id: str | None = None,
    ) -> Decision:
        """Any event of the definition comes, each under an id of its own unless told. Before the opening it is parked, and applied then.

        `source`: unless told, the one that the definition names, else `test`.
        """
        known = self.rulebook.event_types
        if type_ not in known:
            raise RequestError(f"No event of {self.rulebook.name} is called {type_}; there are {_listed(sorted(known))}.")
        rule = self.rulebook.events.get(type_)
        publisher = source or (rule.source if rule is not None else None) or "test"
        return self.deliver(self._message(type_, data, source=publisher, command_id=command_id, message_id=message_id))

    def deliver(self, envelope: Envelope) -> Decision:
        """A message comes as it is. One of `messages` delivered again is a duplicate."""
        self.messages.append(envelope)
        known = self._recorded.get((envelope.source, envelope.id))
        seen: Seen = "no" if known is None else "same" if known == _digest(envelope) else "other"
        opened = self._order is not None
        decision = self._feed(Message(envelope=envelope, seen=seen, opens=envelope.type == self.rulebook.opens_on))
        if decision.entry is not None and decision.entry.message_id is not None:
            self._recorded[envelope.source, envelope.id] = _digest(envelope)
        if decision.order is None and decision.verdict == "parked":
            self._parked.append(envelope)
        elif not opened and self._order is not None:
            parked, self._parked = self._parked, []
            for early in parked:
                self.deliver(early)
        return decision

    def advance(self, duration: str | timedelta) -> list[Decision]:
        """The clock goes on, and every deadline that passes meanwhile fires, in order, at its exact instant.

        `duration`: as in a definition (`30s`, `1h30m`). Raises: RequestError when more than `FIRED_MAX` deadlines would fire.
        """
        until = self.now + _duration(duration)
        decisions: list[Decision] = []
        while (due := self._next_due(until)) is not None:
            if len(decisions) >= FIRED_MAX:
                raise RequestError(f"More than {FIRED_MAX} deadlines fired before {until}: advance in smaller parts.")
            decisions.append(self._fire(due))
        self.now = until
        return decisions

    def silence(self, deadline: str, *, excused: bool = False) -> Decision:
        """The clock goes to a deadline's instant, and it alone fires: also before others that are due earlier, as may happen.

        `deadline`: its name (`reply:take_payment.0.1`, `patience`), for the latest ask without its tail (`reply:take_payment`).
        """
        name = self.deadline_name(deadline)
        armed = self.order.deadlines.get(name)
        if armed is None or armed.due_at is None:
            raise RequestError(f"{deadline} is not running; {_listed(self._running())} are.")
        return self._fire(armed, excused=excused)

    def sent_late(self, step: str) -> Decision:
        """The step's open command, or undo, reached the broker late: its deadline counts from now."""
        key = self.ask(step).key
        for armed in self.order.deadlines.values():
            if armed.command_id is not None and armed.name.partition(":")[2] == key:
                return self._feed(SentLate(command_id=armed.command_id))
        raise RequestError(f"No reply to a command of {step} is awaited.")

    def act(
        self,
        act: ActName,
        /,
        *,
        actor: str = "operator",
        reason: str = "test",
        admin: bool = False,
        seq: int | None = None,
        **arguments: Any,
    ) -> Decision:
        """An operator acts on what they see. `arguments` are the act's; `until` and `due_at` may be durations from now.

        `seq`: what the operator saw, if not the present. A refused act has `problem` and changes nothing.
        """
        for name in _TIME_ARGUMENTS:
            if isinstance(arguments.get(name), str | timedelta):
                arguments[name] = self.now + _duration(arguments[name])
        if act == "deadline" and "name" in arguments:
            arguments["name"] = self.deadline_name(str(arguments["name"]))
        saw = self.order.seq if seq is None else seq
        return self._feed(OperatorAct(act=act, actor=actor, reason=reason, seq=saw, is_admin=admin, arguments=arguments))

    # --- what is seen

    @property
    def order(self) -> Order:
        """The order as it is. Raises: RequestError before it is open."""
        if self._order is None:
            raise RequestError("The order is not open: call open() first.")
        return self._order

    @property
    def state(self) -> str:
        """What the order waits for, or its end."""
        return self.order.state

    @property
    def status(self) -> Status:
        """How it stands."""
        return self.order.status

    @property
    def cause(self) -> Cause | None:
        """Why it turned back, or came to need a human."""
        return self.order.cause

    @property
    def deadlines(self) -> dict[str, timedelta | None]:
        """The time left of each armed deadline, the next first; None: its clock is stopped."""
        armed = sorted(self.order.deadlines.values(), key=_due_order)
        return {deadline.name: None if deadline.due_at is None else deadline.due_at - self.now for deadline in armed}

    @property
    def last(self) -> Decision:
        """The latest decision. Raises: RequestError before anything happened."""
        if not self.turns:
            raise RequestError("Nothing happened yet.")
        return self.turns[-1].decision

    def ask(self, step: str) -> Ask:
        """The latest ask of a step, or the one with that key. Raises: RequestError when it was not asked."""
        asked = [ask for ask in self.order.asks.values() if ask.command_id]
        found = [ask for ask in asked if step in {ask.step, ask.key}]
        if not found:
            raise RequestError(f"{step} was not asked; {_listed([ask.key for ask in asked])} were.")
        return found[-1]

    def deadline_name(self, name: str) -> str:
        """The whole name of a deadline that is named without its tail: that of the step's latest ask."""
        what, _, step = name.partition(":")
        latest = [ask for ask in self.order.asks.values() if ask.step == step]
        return f"{what}:{latest[-1].key}" if latest else name

    def look(self) -> News:
        """What was sent since the last look, or `expect`."""
        commands, announcements = self._looked_at
        self._looked_at = len(self.commands), len(self.announcements)
        return News(commands=tuple(self.commands[commands:]), announcements=tuple(self.announcements[announcements:]))

    def expect(self, **expected: Unpack[Expected]) -> None:
        """Compare what is named, `commands` and `announcements` with those since the last look.

        Raises: AssertionError with every difference, and what happened so far.
        """
        if found := differences(self, expected, self.look()):
            lines = [f"{self!r} is not as expected.", *(f"  {name}: {text}" for name, text in found), *self.story()]
            raise AssertionError("\n".join(lines))

    def story(self) -> list[str]:
        """What happened so far, a line each; the last part of a long story."""
        lines = list(self._story_lines())
        left_out = len(lines) - _STORY_LINES_MAX
        return [f"What happened so far ({len(lines)} inputs):", *(["  …"] if left_out > 0 else []), *lines[-_STORY_LINES_MAX:]]

    # --- inside

    def _feed(self, input_: Input) -> Decision:
        """Decide an input and what follows from it for what was parked; the input's own decision."""
        decided = decide_all(self.rulebook, self._order, input_, self.now)
        for message, decision in decided.before:
            self._note(message, decision)
        self._note(input_, decided.own)
        for message, decision in decided.after:
            self._note(message, decision)
        return decided.own

    def _note(self, input_: Input, decision: Decision) -> None:
        self._order = decision.order
        self.turns.append(Turn(at=self.now, input=input_, decision=decision))
        if decision.entry is not None:
            self.history.append(decision.entry)
        for command in decision.commands:
            body = self._bodies.setdefault(command.command_id, command.data or {})
            self.commands.append(command if command.data is not None else replace(command, data=body))
        self.announcements.extend(decision.announcements)

    def _fire(self, deadline: Deadline, *, excused: bool = False) -> Decision:
        assert deadline.due_at is not None
        self.now = max(self.now, deadline.due_at)
        return self._feed(DeadlineDue(name=deadline.name, generation=deadline.generation, excused=excused))

    def _watched_ahead(self, step: str) -> StepRule | None:
        """A watched step that is not in the ledger yet."""
        asked = self._order.asks.values() if self._order is not None else ()
        return next((rule for rule in self.rulebook.watched if rule.name == step and all(ask.step != step for ask in asked)), None)

    def _next_due(self, until: datetime) -> Deadline | None:
        armed = self._order.deadlines.values() if self._order is not None else ()
        due = [deadline for deadline in armed if deadline.due_at is not None and deadline.due_at <= until]
        return min(due, key=_due_order, default=None)

    def _running(self) -> list[str]:
        return [name for name, left in self.deadlines.items() if left is not None]

    def _message(
        self,
        type_: str,
        data: Mapping[str, Any] | None,
        *,
        source: str,
        subject: str | None = None,
        command_id: str | None = None,
        message_id: str | None = None,
    ) -> Envelope:
        content = dict(data or {})
        canonical.check(content)
        order_id = subject or (self._order.order_id if self._order is not None else ORDER_ID)
        if not is_order_id(order_id):
            raise RequestError(f"{order_id!r} is no order id.")
        return Envelope(
            id=message_id or f"message-{len(self.messages) + 1}",
            source=source,
            type=type_,
            subject=order_id,
            time=self.now,
            data=content,
            commandid=command_id,
        )

    def _story_lines(self) -> Iterator[str]:
        for turn in self.turns:
            decision, order = turn.decision, turn.decision.order
            sent = [f"{command.name}#{command.attempt}" for command in decision.commands]
            parts = [
                f"  {'+' + span(turn.at - self._started_at):<10}",
                f"{_input_name(turn.input):<32}",
                f"{decision.verdict:<9}",
                "" if order is None else f"→ {order.state}, {order.status}",
                f"sent {', '.join(sent)}" if sent else "",
                f"({decision.reason})" if decision.reason else "",
            ]
            yield "  ".join(part for part in parts if part).rstrip()


def _input_name(input_: Input) -> str:
    match input_:
        case Message(envelope=envelope):
            return envelope.type
        case DeadlineDue():
            return input_.name
        case SentLate():
            return "sent late"
        case OperatorAct():
            return input_.act


def _digest(envelope: Envelope) -> str:
    return digest(attributes(envelope) | {"data": envelope.data})


def _due_order(deadline: Deadline) -> tuple[bool, datetime, int]:
    return deadline.due_at is None, deadline.due_at or START, deadline.generation


def _duration(duration: str | timedelta) -> timedelta:
    if isinstance(duration, str):
        try:
            return timedelta(milliseconds=parse_duration(duration))
        except ValueError as error:
            raise RequestError(f"{duration!r}: {error}.") from error
    if not timedelta(0) <= duration <= timedelta(milliseconds=DURATION_MS_MAX):
        raise RequestError(f"The clock does not go {duration}.")
    return duration


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"

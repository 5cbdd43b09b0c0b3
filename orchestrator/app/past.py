"""What an order's journal says that a participant was sent, and what it told: the past, as a replay tells it (R29).

Each command and undo comes once, whatever its attempts, with the body that every attempt had (R6) and the answer that the journal recorded
first, late ones too. What a participant of a choreography did by itself comes as the event that it took for the step's command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from orchestrator.app.replay import LINE, Line, Replay
from orchestrator.app.sheet import SOURCE
from orchestrator.contract import COMMAND_TOO_LATE, Envelope, attempt_message_id, canonical, first_command_id, undo_id
from orchestrator.contract.replay import Outcome, ReplayedCommand, ReplayedFact
from orchestrator.errors import InvariantViolated
from orchestrator.saga.inputs import message_of
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule

#: Orders named in a report.
NAMED_MAX = 100

_SEQ, _AT, _KIND, _VERDICT, _CAUSE_SEQ, _SOURCE, _MESSAGE_ID, _INPUT, _EFFECTS = (
    LINE.index(name) for name in ("seq", "at", "kind", "verdict", "cause_seq", "source", "message_id", "input", "effects")
)
#: What is in every `effects` that send a command.
_SENDS = b'"commands"'

Rulebooks = Callable[[str, int], Rulebook]
Told = ReplayedCommand | ReplayedFact


@dataclass(slots=True)
class Summary:
    """What was told of all orders."""

    orders: int = 0
    commands: int = 0
    undos: int = 0
    #: Of both, those of which no answer is known: they are asked for again.
    unanswered: int = 0
    facts: int = 0
    #: What it did by itself, of which the event is in no journal.
    causes_unknown: int = 0
    #: Orders whose journals cannot be read: (order id, why); at most NAMED_MAX. `more`: beyond those.
    damaged: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0

    def damage(self, order_id: str, why: str) -> None:
        """An order of which nothing can be told."""
        if len(self.damaged) < NAMED_MAX:
            self.damaged.append((order_id, why))
        else:
            self.more += 1

    def count(self, told: Told) -> None:
        """One more message."""
        if isinstance(told, ReplayedFact):
            self.facts += 1
        elif told.message.undoes is not None:
            self.undos += 1
        else:
            self.commands += 1
        self.unanswered += isinstance(told, ReplayedCommand) and told.answer is None


def tell(
    journals: Iterable[tuple[str, Iterable[Line]]], participant: str, rulebooks: Rulebooks, since: datetime | None, summary: Summary
) -> Iterator[Told]:
    """What a participant did and told since an instant (None: ever), order by order, in the order of its journal.

    A command is of the time of its answer; one that has none, of the time when it was first sent.

    `summary` is counted up. Memory is bounded by one order.
    """
    for order_id, lines in journals:
        past = _Past(order_id, participant, rulebooks, since)
        summary.orders += 1
        try:
            for line in lines:
                past.take(line)
            told = past.told()
        except InvariantViolated as broken:
            summary.damage(order_id, str(broken))
            continue
        summary.causes_unknown += past.causes_unknown
        for message in told:
            summary.count(message)
            yield message


@dataclass(frozen=True, slots=True)
class _Sent:
    seq: int
    at: datetime
    message: Envelope


class _Past:
    """One order's journal being read."""

    def __init__(self, order_id: str, participant: str, rulebooks: Rulebooks, since: datetime | None) -> None:
        self._order_id = order_id
        self._participant = participant
        self._rulebooks = rulebooks
        self._since = since
        self._replay = Replay(order_id)
        #: By command id, with the number of the last attempt.
        self._sent: dict[str, _Sent] = {}
        self._attempts: dict[str, int] = {}
        #: Messages of the participant, each once.
        self._said: list[_Sent] = []
        self._heard: set[str] = set()
        #: Messages of others, by id: what it may have acted on by itself.
        self._causes: dict[str, bytes] = {}
        self._watches: bool | None = None
        self.causes_unknown = 0

    def take(self, line: Line) -> None:
        """Read one more entry. Raises: InvariantViolated."""
        self._replay.take(line)
        if self._watches is None:
            self._watches = any(step.participant == self._participant for step in self._rulebook().watched)
        if self._watches and line[_MESSAGE_ID] is not None and line[_SOURCE] != self._participant:
            self._causes[line[_MESSAGE_ID]] = line[_INPUT]
        if _SENDS in line[_EFFECTS]:
            for command in canonical.load(line[_EFFECTS])["commands"]:
                if command["participant"] == self._participant:
                    self._note_sent(line, command)
        if line[_KIND] == "message" and line[_CAUSE_SEQ] is None and line[_SOURCE] in {self._participant, None}:
            self._note_said(line)

    def told(self) -> list[Told]:
        """Everything, in order. Raises: InvariantViolated."""
        if self._replay.seq == 0 or not (self._sent or self._said):
            return []
        answers, too_late, facts = self._answers()
        found: list[tuple[int, Told]] = [(fact.seq, ReplayedFact(message=fact.message)) for fact in facts if self._is_since(fact)]
        for command_id, sent in self._sent.items():
            answer, outcome = answers.pop(command_id, (None, None))
            if (answer is None and command_id in too_late) or not self._is_since(answer or sent):
                continue
            message = self._acted_on(command_id, answer.message) if answer is not None else None
            found.append((sent.seq, _command(message or sent.message, answer, outcome)))
        for command_id, (answer, outcome) in answers.items():
            if not self._is_since(answer):
                continue
            message = self._acted_on(command_id, answer.message)
            if message is None:
                self.causes_unknown += 1
            else:
                found.append((answer.seq, _command(message, answer, outcome)))
        told = [message for _, message in sorted(found, key=lambda one: one[0])]
        # What came too late came after its undo, whatever was sent first.
        for command_id, answer in too_late.items():
            if not self._is_since(answer):
                continue
            message = self._sent[command_id].message if command_id in self._sent else self._acted_on(command_id, answer.message)
            told += [] if message is None else [_command(message, answer, "too_late")]
        return told

    def _is_since(self, sent: _Sent) -> bool:
        """Whether it was sent, or said, since the instant."""
        return self._since is None or sent.at >= self._since

    def _answers(self) -> tuple[dict[str, tuple[_Sent, Outcome]], dict[str, _Sent], list[_Sent]]:
        """By command id the first answer, and the first that it was too late; and what the participant told by itself."""
        steps, undos, watched = self._steps()
        answers: dict[str, tuple[_Sent, Outcome]] = {}
        too_late: dict[str, _Sent] = {}
        facts: list[_Sent] = []
        for said in self._said:
            command_id, name = said.message.commandid, said.message.type
            if command_id is None and name in watched:
                command_id = watched[name]
                said = replace(said, message=replace(said.message, commandid=command_id))  # noqa: PLW2901 - read as its answer
            if command_id is None:
                facts.append(said)
            elif name == COMMAND_TOO_LATE:
                too_late.setdefault(command_id, said)
            elif (outcome := _outcome(name, steps.get(command_id), undos.get(command_id))) is not None:
                answers.setdefault(command_id, (said, outcome))
        return answers, too_late, facts

    def _steps(self) -> tuple[dict[str, StepRule], dict[str, StepRule], dict[str, str]]:
        """The participant's steps by command id, and by the id of their undos; and the command ids of what is watched, by answer."""
        rulebook = self._rulebook()
        steps = {
            ask["command_id"]: rulebook.by_name[ask["step"]]
            for ask in canonical.load(self._replay.bytes())["asks"].values()
            if ask["participant"] == self._participant and ask["step"] in rulebook.by_name
        }
        watched: dict[str, str] = {}
        for step in rulebook.watched:
            if step.participant == self._participant:
                own_id = first_command_id(self._order_id, step.name)
                steps.setdefault(own_id, step)
                watched |= dict.fromkeys((step.done_on, *step.refused_on), own_id)
        return steps, {undo_id(command_id): step for command_id, step in steps.items()}, watched

    def _acted_on(self, command_id: str, answer: Envelope) -> Envelope | None:
        """The event that an answer names as its cause; None: it was a command, or it is in no journal."""
        cause = answer.causationid
        if cause is None or cause not in self._causes:
            return None
        if any(cause == attempt_message_id(command_id, attempt) for attempt in range(1, self._attempts.get(command_id, 0) + 1)):
            return None
        return message_of(canonical.load(self._causes[cause])["message"])

    def _note_sent(self, line: Line, command: Mapping[str, Any]) -> None:
        command_id, attempt = command["command_id"], command["attempt"]
        self._attempts[command_id] = max(attempt, self._attempts.get(command_id, 0))
        if command_id in self._sent or "data" not in command:
            return
        message = Envelope(
            id=attempt_message_id(command_id, attempt),
            source=SOURCE,
            type=command["name"],
            subject=self._order_id,
            time=line[_AT],
            data=command["data"],
            commandid=command_id,
            undoes=command.get("undoes"),
            attempt=attempt,
            epoch=command["epoch"],
        )
        self._sent[command_id] = _Sent(line[_SEQ], line[_AT], message)

    def _note_said(self, line: Line) -> None:
        message = message_of(canonical.load(line[_INPUT])["message"])
        if message.source != self._participant or message.id in self._heard:
            return
        # What was refused with a code of the quarantine was no answer; what nothing awaited may be a fact, and is no answer.
        is_answer = line[_VERDICT] in {"moved", "late", "duplicate", "parked"} or (
            line[_VERDICT] == "refused" and line[_SOURCE] is not None
        )
        if is_answer or message.commandid is None:
            self._heard.add(message.id)
            self._said.append(_Sent(line[_SEQ], line[_AT], message))

    def _rulebook(self) -> Rulebook:
        fields = self._replay.document["fields"]
        return self._rulebooks(fields["definition"], fields["version"])


def _outcome(name: str, step: StepRule | None, undone: StepRule | None) -> Outcome | None:
    """What an event of this type says as an answer; None: it is none."""
    if undone is not None and undone.undo is not None and name == undone.undo.done_on:
        return "undone"
    if step is not None and name == step.done_on:
        return "done"
    return "refused" if step is not None and name in step.refused_on else None


def _command(message: Envelope, answer: _Sent | None, outcome: Outcome | None) -> ReplayedCommand:
    return ReplayedCommand(message=message, answer=None if answer is None else answer.message, outcome=outcome)

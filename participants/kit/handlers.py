"""What a participant can do: its handlers, registered by decorators, and what they are given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator.contract import Envelope, canonical, first_command_id
from participants.kit.answers import Refusal, Reply
from participants.kit.database import Rows
from participants.kit.facts import Fact
from participants.kit.hearing import Heard, make_heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command, or an undo (then `undoes` is set), or a reaction (then `event` is set), as a handler sees it."""

    command_id: str
    message_id: str
    order_id: str
    name: str
    data: Mapping[str, Any]
    undoes: str | None = None
    #: The type of the event that was reacted to; its data and message id are the command's. None: the participant was asked.
    event: str | None = None
    #: It comes from a replay: it was done once, or, when it is a notice, told, and the state that was lost is being rebuilt. Whatever
    #: stands against it today, it happened.
    replayed: bool = False
    #: In a replay the data of the answer that was given then: numbers and names in it hold.
    recorded: Mapping[str, Any] | None = None

    @property
    def digest(self) -> str | None:
        """What makes two bodies equal: type, order and data; not the attempt, which differs from copy to copy.

        None for a reaction: an event and the command that asks for the same step need not carry the same data.
        """
        if self.event is not None:
            return None
        return hashlib.sha256(canonical.encode([self.name, self.order_id, dict(self.data)])).hexdigest()


class Tx:
    """The transaction of one batch, as handlers use it."""

    def __init__(self, connection: sa.Connection) -> None:
        #: For statements of your own. They do not see rows that are added or changed through `rows` in the same batch.
        self.connection = connection
        self._rows: dict[str, Rows] = {}

    def rows(self, table: sa.Table) -> Rows:
        """The rows of a table, read and written in sets."""
        if table.name not in self._rows:
            self._rows[table.name] = Rows(self.connection, table)
        return self._rows[table.name]

    def flush(self) -> None:
        """Write all rows, table by table in the order of first use."""
        for rows in self._rows.values():
            rows.flush()


Handler = Callable[[Tx, Command], Reply | Refusal]
UndoHandler = Callable[[Tx, Command], Mapping[str, Any]]
NoticeHandler = Callable[[Tx, Command], None]
FactHandler = Callable[[Tx, Fact], Mapping[str, Any]]
HeardHandler = Callable[[Tx, Heard], None]
PrepareHook = Callable[[Tx, Sequence[Command]], None]


@dataclass(frozen=True, slots=True)
class Forward:
    """How a command is done, and the event that refuses it."""

    handler: Handler
    refused_by: str | None


@dataclass(frozen=True, slots=True)
class Undo:
    """How the command or fact `of` is reversed, and the event that confirms it."""

    handler: UndoHandler
    of: str
    confirmed_by: str


@dataclass(frozen=True, slots=True)
class Reaction:
    """An event is taken as the first ask of this step by this command."""

    command: str
    step: str


class Handlers:
    """The handlers of one participant, by the names of the messages they are for."""

    def __init__(self, *, choreographed: bool) -> None:
        self.choreographed = choreographed
        self.forwards: dict[str, Forward] = {}
        self.undos: dict[str, Undo] = {}
        self.notices: dict[str, NoticeHandler] = {}
        self.facts: dict[str, FactHandler] = {}
        self.heard: dict[str, HeardHandler] = {}
        self.reactions: dict[str, list[Reaction]] = {}
        self.prepare_hooks: list[PrepareHook] = []
        self.settle_hooks: list[Callable[[], None]] = []

    @property
    def subscriptions(self) -> frozenset[str]:
        """The types of the events it reacts to, when it hears them: those published while its link is down are gone."""
        return frozenset(self.reactions)

    @property
    def hearing(self) -> frozenset[str]:
        """The types of the events that change its own tables: they wait for it in a queue."""
        return frozenset(self.heard)

    def command(self, name: str, *, refused_by: str | None = None) -> Callable[[Handler], Handler]:
        """Register the handler of a command. `refused_by` is the event that refuses a command id reused with another body."""

        def register(handler: Handler) -> Handler:
            self._claim(name)
            self.forwards[name] = Forward(handler, refused_by)
            return handler

        return register

    def reacts_to(self, event_type: str, *, step: str) -> Callable[[Handler], Handler]:
        """Run the command registered right below for an event of this type too, as the first ask of `step` (R6).

        The handler then gets a command with `event` set, whose data is the event's. Whichever comes first, event or command, does the
        work, and the other finds it done: one effect, one answer. Nothing is registered when the participant is not choreographed.

        Raises: ValueError when no command is registered below.
        """

        def register(handler: Handler) -> Handler:
            command = next((name for name, forward in reversed(self.forwards.items()) if forward.handler is handler), None)
            if command is None:
                raise ValueError(f"reacts_to({event_type!r}) stands on no command. Fix: put it on top of @participant.command(...).")
            if self.choreographed:
                self.reactions.setdefault(event_type, []).append(Reaction(command, step))
            return handler

        return register

    def undo(self, name: str, *, of: str, confirmed_by: str) -> Callable[[UndoHandler], UndoHandler]:
        """Register what reverses the command or fact `of`: called only when that was done, and at most once; returns the event's data."""

        def register(handler: UndoHandler) -> UndoHandler:
            self._claim(name)
            self.undos[name] = Undo(handler, of, confirmed_by)
            return handler

        return register

    def notice(self, name: str) -> Callable[[NoticeHandler], NoticeHandler]:
        """Register the handler of a command that nobody waits for: carried out once a command id, never answered or undone."""

        def register(handler: NoticeHandler) -> NoticeHandler:
            self._claim(name)
            self.notices[name] = handler
            return handler

        return register

    def fact(self, event_type: str) -> Callable[[FactHandler], FactHandler]:
        """Register what a fact changes, and the data of its event (see `Participant.happened`).

        The handler may raise ValueError for data that makes no sense, and FactRefusedError for a fact that cannot be.
        """

        def register(handler: FactHandler) -> FactHandler:
            self._claim(event_type)
            self.facts[event_type] = handler
            return handler

        return register

    def hears(self, event_type: str) -> Callable[[HeardHandler], HeardHandler]:
        """Register what an event of others, from whomever, changes in the tables: once a source and message id, never answered.

        Unlike what it reacts to, such events wait while the participant is away, and are replayed when it lost its state. The handler
        raises for an event that makes no sense: it changes nothing then, and is logged.
        """

        def register(handler: HeardHandler) -> HeardHandler:
            self._claim(event_type)
            self.heard[event_type] = handler
            return handler

        return register

    def prepare(self, hook: PrepareHook) -> PrepareHook:
        """Register what loads rows for a whole batch, so that its handlers need no select each. It gets unchecked commands."""
        self.prepare_hooks.append(hook)
        return hook

    def settled_by(self, hook: Callable[[], None]) -> Callable[[], None]:
        """Register an effect outside the database, run at start and after every commit, before the replies leave. Must be idempotent."""
        self.settle_hooks.append(hook)
        return hook

    def read(self, envelope: Envelope) -> list[Command | Heard]:
        """What a message asks for: one command, or one for each reaction to an event; none when it is not for this participant."""
        name, command_id = envelope.type, envelope.commandid
        if name in self.undos and envelope.undoes is None:
            return []
        if name in self.forwards or name in self.undos or name in self.notices:
            return [_command(envelope, command_id)] if command_id is not None else []
        heard = [make_heard(envelope)] if name in self.heard else []
        return [*heard, *(_reaction(envelope, reaction) for reaction in self.reactions.get(name, ()))]

    def _claim(self, name: str) -> None:
        if any(name in known for known in (self.forwards, self.undos, self.notices, self.facts, self.heard)):
            raise ValueError(f"{name} has a handler already.")


def _command(envelope: Envelope, command_id: str) -> Command:
    return Command(
        command_id=command_id,
        message_id=envelope.id,
        order_id=envelope.subject,
        name=envelope.type,
        data=envelope.data,
        undoes=envelope.undoes,
    )


def _reaction(envelope: Envelope, reaction: Reaction) -> Command:
    return Command(
        command_id=first_command_id(envelope.subject, reaction.step),
        message_id=envelope.id,
        order_id=envelope.subject,
        name=reaction.command,
        data=envelope.data,
        event=envelope.type,
    )

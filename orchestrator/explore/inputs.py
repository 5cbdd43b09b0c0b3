"""The single things that can happen, and what each is for an order: an input, and the time it comes at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, undo_id
from orchestrator.errors import InvariantViolated
from orchestrator.explore.world import Sending
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct, SentLate
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.standing import allowed_acts

#: `works`, `declines` and `reverses` happen at a participant; all others are inputs of the order.
Kind = Literal[
    "opens",
    "reply",
    "refusal",
    "too_late",
    "undone",
    "deadline",
    "silence",
    "excused",
    "event",
    "act",
    "sent_late",
    "works",
    "declines",
    "reverses",
]
ORDER_ID = "explored"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Move(NamedTuple):
    """One thing that happens."""

    kind: Kind
    #: Key of the ask, name of the deadline, event or act.
    subject: str
    #: Arguments of an act; the deadlines that a silence lets pass; whether the command that is sent late is an undo.
    arguments: tuple[tuple[str, str], ...] = ()
    #: The same message came before.
    again: bool = False
    #: Number of the variant: how the guards came out.
    variant: int = 0


def opening(rulebook: Rulebook) -> Message:
    """The event that opens the order that is explored."""
    data = {rulebook.key: ORDER_ID}
    return Message(envelope=Envelope(id="opening", source="shop", type=rulebook.opens_on, subject=ORDER_ID, data=data))


def acts(rulebook: Rulebook, order: Order) -> Iterator[Move]:
    """Every act whose moment this is, with all arguments that differ. To move a deadline makes no difference: any may fire at any time."""
    asked = dict.fromkeys(ask.step for ask in order.asks.values())
    targets: Mapping[str, list[tuple[tuple[str, str], ...]]] = {
        "force": [(("to", state),) for state in [*rulebook.by_state, "completed"]],
        "skip": [(("step", step),) for step in asked],
        "confirm": [(("step", step),) for step in asked],
        "deadline": [],
    }
    for act in allowed_acts(order, is_admin=True):
        for arguments in targets.get(act, [()]):
            yield Move("act", act, arguments)


def input_of(rulebook: Rulebook, order: Order, move: Move) -> tuple[Input, datetime]:
    """The input that a move is for an order, and when it comes. Raises: InvariantViolated for one that is not the order's."""
    now = order.updated_at
    if move.kind in {"deadline", "excused"}:
        deadline = order.deadlines[move.subject]
        due = DeadlineDue(name=deadline.name, generation=deadline.generation, excused=move.kind == "excused")
        return due, max(now, deadline.due_at or now)
    if move.kind == "act":
        arguments: dict[str, Any] = dict(move.arguments)
        act: Any = move.subject
        return OperatorAct(act=act, actor="operator", reason="explored", seq=order.seq, is_admin=True, arguments=arguments), now
    if move.kind == "opens":
        return replace(opening(rulebook), seen="same" if move.again else "no"), now
    if move.kind == "sent_late":
        command = order.asks[move.subject].command_id
        return SentLate(command_id=_undo_id(command) if move.arguments else command), now
    if move.kind == "event":
        envelope = Envelope(id=f"event.{order.seq}", source="shop", type=move.subject, subject=ORDER_ID, data={})
        return Message(envelope=envelope), now
    ask = order.asks[move.subject]
    source, type_, commandid = answer_of(rulebook, ask, move.kind)
    identity = f"{move.subject}.{move.kind}.{ask.undo_attempts if move.kind == 'undone' else ''}"
    envelope = Envelope(id=identity, source=source, type=type_, subject=ORDER_ID, data={}, commandid=commandid)
    return Message(envelope=envelope, seen="same" if move.again else "no"), now + timedelta(milliseconds=1)


def answer_of(rulebook: Rulebook, ask: Ask, kind: Kind) -> tuple[str, str, str]:
    """Source, type and commandid of an honest participant's answer."""
    rule = rulebook.by_name[ask.step]
    if kind == "undone" and rule.undo is not None:
        return rule.participant, rule.undo.done_on, _undo_id(ask.command_id)
    types = {"reply": rule.done_on, "refusal": next(iter(sorted(rule.refused_on)), COMMAND_TOO_LATE), "too_late": COMMAND_TOO_LATE}
    if kind not in types:
        raise InvariantViolated(f"{kind} of {ask.key} is no input of an order.")
    return rule.participant, types[kind], ask.command_id


@lru_cache(maxsize=10_000)
def _undo_id(command_id: str) -> str:
    """Remembered: an exploration has few commands, and asks for these ids all the time."""
    return undo_id(command_id)


def places(order: Order) -> dict[str, Sending]:
    """Where the commands of an order belong, by command id."""
    asks = list(enumerate(order.asks.values()))
    undos = {_undo_id(ask.command_id): (place, True) for place, ask in asks if ask.undo_attempts}
    return {ask.command_id: (place, False) for place, ask in asks if ask.attempts} | undos


def sendings_of(order: Order, decision: Decision) -> frozenset[Sending]:
    """The commands that a decision sends; `order` is the one after it."""
    if not decision.commands:
        return frozenset()
    known = places(order)
    return frozenset(known[command.command_id] for command in decision.commands if command.command_id in known)

"""The single things that can happen, and what each is for an order: an input, and the time it comes at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, undo_id
from orchestrator.errors import InvariantViolated
from orchestrator.explore.world import Sending
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct, SentLate
from orchestrator.saga.order import Order
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
#: Of an event, that it is older than the last of its type, or may be.
OLDER = (("mark", "older"),)


class Move(NamedTuple):
    """One thing that happens."""

    kind: Kind
    #: Key of the ask, name of the deadline, event or act.
    subject: str
    #: Arguments of an act; the deadlines that a silence lets pass; whether the command that is sent late is an undo; that an event is older
    #: than the last of its type.
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
    """Every act whose moment this is, with all arguments that differ.

    To move a deadline makes no difference: any may fire at any time. To migrate needs another definition.
    """
    asked = dict.fromkeys(ask.step for ask in order.asks.values())
    targets: Mapping[str, list[tuple[tuple[str, str], ...]]] = {
        "force": [(("to", state),) for state in [*rulebook.by_state, *rulebook.completed_states]],
        "skip": [(("step", step),) for step in asked],
        "confirm": [(("step", step),) for step in asked],
        "deadline": [],
        "migrate": [],
    }
    for act in allowed_acts(order, is_admin=True):
        for arguments in targets.get(act, [()]):
            yield Move("act", act, arguments)


def events(rulebook: Rulebook, order: Order, at_most: int) -> Iterator[Move]:
    """Every event from outside that may come, of each type a younger and an older one where that is told. `at_most`: see `Bound.events`."""
    for name in sorted(rulebook.abort_on):
        yield Move("event", name)
    for name, rule in sorted(rulebook.events.items()):
        come = sum(message["type"] == name for message in order.parked.values())
        if rule.undone_as is not None:
            come += sum(ask.step == name for ask in order.asks.values())
        if come < at_most:
            yield Move("event", name)
            if rule.order_by is not None:
                yield Move("event", name, OLDER)


def copies(rulebook: Rulebook, order: Order) -> Iterator[Move]:
    """Everything that came once, once more."""
    yield Move("opens", rulebook.opens_on, again=True)
    for name in sorted(rulebook.events):
        if name in order.replies or name in order.joined:
            yield Move("event", name, again=True)
    heard: dict[str, Kind] = {"done": "reply", "refused": "refusal"}
    for key, ask in order.asks.items():
        if ask.forward in heard and (ask.attempts or rulebook.by_name[ask.step].watched):
            yield Move(heard[ask.forward], key, again=True)
        if ask.undo == "undone":
            yield Move("undone", key, again=True)


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
        return Message(envelope=_event(rulebook, order, move), seen="same" if move.again else "no"), now
    source, type_, commandid = answer_of(rulebook, order, move.subject, move.kind)
    undo_attempts = order.asks[move.subject].undo_attempts if move.kind == "undone" else ""
    identity = f"{move.subject}.{move.kind}.{undo_attempts}"
    envelope = Envelope(id=identity, source=source, type=type_, subject=ORDER_ID, data={}, commandid=commandid)
    return Message(envelope=envelope, seen="same" if move.again else "no"), now + timedelta(milliseconds=1)


def _event(rulebook: Rulebook, order: Order, move: Move) -> Envelope:
    rule = rulebook.events.get(move.subject)
    is_marked = rule is not None and rule.order_by is not None and move.arguments != OLDER
    # The journal's length grows with each; what has no mark is younger than nothing.
    data = {rule.order_by: order.seq} if rule is not None and rule.order_by is not None and is_marked else {}
    source = (rule.source if rule is not None else None) or "shop"
    return Envelope(id=f"event.{order.seq}", source=source, type=move.subject, subject=ORDER_ID, data=data)


def answer_of(rulebook: Rulebook, order: Order, key: str, kind: Kind) -> tuple[str, str, str | None]:
    """Source, type and commandid of an honest participant's answer.

    Who does a watched step unasked names no command, and what they say is read as if they did.
    """
    ask, rule = order.asks.get(key), rulebook.by_name[key.rsplit(".", 2)[0]]
    commandid = ask.command_id if ask is not None else None
    if kind == "undone" and rule.undo is not None and commandid is not None:
        return rule.participant, rule.undo.done_on, _undo_id(commandid)
    types = {"reply": rule.done_on, "refusal": next(iter(sorted(rule.refused_on)), COMMAND_TOO_LATE), "too_late": COMMAND_TOO_LATE}
    if kind not in types:
        raise InvariantViolated(f"{kind} of {key} is no input of an order.")
    is_unasked = ask is None or not ask.attempts
    return rule.participant, types[kind], None if is_unasked and kind != "too_late" and rule.watched else commandid


@lru_cache(maxsize=10_000)
def _undo_id(command_id: str) -> str:
    """Remembered: an exploration has few commands, and asks for these ids all the time."""
    return undo_id(command_id)


def places(order: Order, keys: Sequence[str]) -> dict[str, Sending]:
    """Where the commands of an order belong, by command id. `keys`: of its asks, by place."""
    asks = [(place, ask) for place, key in enumerate(keys) if (ask := order.asks.get(key)) is not None]
    undos = {_undo_id(ask.command_id): (place, True) for place, ask in asks if ask.undo_attempts}
    return {ask.command_id: (place, False) for place, ask in asks if ask.attempts} | undos


def sendings_of(known: Mapping[str, Sending], decisions: Iterable[Decision]) -> frozenset[Sending]:
    """The commands that decisions send; `known`: the places of the order after them."""
    sent = [command.command_id for decision in decisions for command in decision.commands]
    return frozenset(known[command] for command in sent if command in known)

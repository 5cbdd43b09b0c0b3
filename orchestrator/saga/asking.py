"""Asking a step, asking again, waiting no longer, and taking an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.contract import command_id, first_command_id, undo_id
from orchestrator.saga.decision import Command
from orchestrator.saga.draft import Draft
from orchestrator.saga.expression import Expression, ExpressionError
from orchestrator.saga.order import Ask, Deadline, Forward, Outcome
from orchestrator.saga.rules import Fields, Notice, Stage, StepRule


def ask_stage(draft: Draft, stage: Stage) -> None:
    """Ask every step of a stage, side by side. Asking the pivot passes it: no patience, no way back (R12).

    A step that others bring about is watched at first; what came of it before is still parked (`decide_all`).
    """
    if stage.pivot:
        draft.pivot_passed = True
        draft.disarm("patience")
    rank = next_rank(draft)
    for step in stage.steps:
        ask_step(draft, step, rank)


def ask_step(draft: Draft, step: StepRule, rank: int) -> None:
    """Ask a step for the first time in a new round; or watch it, the first time of all. Raises: ExpressionError."""
    if step.watched and first_ask(draft, step) is None:
        ask = note_first(draft, step, rank, forward="idle")
        draft.arm(f"reply:{ask.key}", step.deadline_ms, participant=step.participant)
        limit(draft, step, ask)
        return
    ask_round = next_round(draft, step.name)
    ask = Ask(
        step=step.name,
        participant=step.participant,
        epoch=draft.epoch,
        round=ask_round,
        position=len(draft.asks),
        rank=rank,
        command_id=command_id(draft.before.order_id, draft.epoch, step.name, ask_round),
        attempts=1,
        body_seq=draft.seq,
        since=draft.now,
    )
    draft.asks[ask.key] = ask
    _send(draft, step, ask, body(draft, step.fields))
    limit(draft, step, ask)


def first_ask(draft: Draft, step: StepRule) -> Ask | None:
    """The first ask of a watched step, if the ledger has it."""
    return draft.asks.get(f"{step.name}.0.1")


def note_first(draft: Draft, step: StepRule, rank: int, *, forward: Forward) -> Ask:
    """Put the first ask of a watched step into the ledger: its id is known without us, so whoever does it may have begun (R6)."""
    ask = Ask(
        step=step.name,
        participant=step.participant,
        epoch=0,
        round=1,
        position=len(draft.asks),
        rank=rank,
        command_id=first_command_id(draft.before.order_id, step.name),
        forward=forward,
        since=draft.now,
    )
    draft.asks[ask.key] = ask
    return ask


def ask_watched(draft: Draft, step: StepRule, ask: Ask) -> None:
    """Ask what others have not brought about in time. Raises: ExpressionError."""
    asked = draft.change(ask, forward="asked", attempts=1, body_seq=draft.seq)
    _send(draft, step, asked, body(draft, step.fields))


def limit(draft: Draft, step: StepRule, ask: Ask) -> None:
    """Give all attempts of an ask the time that the definition allows them, from now on."""
    if step.patience_ms is not None:
        draft.arm(f"patience:{ask.key}", step.patience_ms)


def next_round(draft: Draft, name: str) -> int:
    """The round of a step, or of an event from outside, that comes next in this epoch."""
    return 1 + max((ask.round for ask in draft.asks.values() if ask.step == name and ask.epoch == draft.epoch), default=0)


def next_rank(draft: Draft) -> int:
    """The rank of what is asked next."""
    return 1 + max((ask.rank for ask in draft.asks.values()), default=-1)


def send(draft: Draft, step: StepRule, ask: Ask, *, again: bool = False) -> None:
    """Send an ask's next attempt and await the reply. `again`: the same attempt, none is spent."""
    _send(draft, step, ask if again else draft.change(ask, attempts=ask.attempts + 1), None)


def _send(draft: Draft, step: StepRule, ask: Ask, data: Mapping[str, Any] | None) -> None:
    """Send the attempt that the ask has come to. `data`: the body, at the first."""
    draft.commands.append(
        Command(
            command_id=ask.command_id,
            participant=step.participant,
            name=step.command,
            attempt=ask.attempts,
            epoch=ask.epoch,
            data=data,
            body_seq=ask.body_seq,
        )
    )
    draft.disarm(f"retry:{ask.key}")
    draft.arm(f"reply:{ask.key}", step.deadline_ms, participant=step.participant, command_id=ask.command_id)


def body(draft: Draft, fields: Fields) -> dict[str, Any]:
    """The data of a command. A path whose step has no answer, and a field the order does not have, is null.

    Raises: ExpressionError when a computed field cannot be.
    """
    if fields is None:
        return dict(draft.facts)
    if isinstance(fields, Mapping):
        names = draft.names()
        return {name: expression.value(names) for name, expression in fields.items()}
    values: dict[str, Any] = {}
    facts = draft.facts
    for field in fields:
        step, dot, path = field.partition(".")
        found: Any = draft.replies.get(step) if dot else facts.get(field)
        for part in path.split(".") if dot else ():
            found = found.get(part) if isinstance(found, Mapping) else None
        values[field.rpartition(".")[2]] = found
    return values


def surely(draft: Draft, fields: Fields) -> dict[str, Any]:
    """The data of what must always leave: what cannot be computed is null."""
    if not isinstance(fields, Mapping):
        return body(draft, fields)
    return {name: _value(draft, expression) for name, expression in fields.items()}


def _value(draft: Draft, expression: Expression) -> Any:
    try:
        return expression.value(draft.names())
    except ExpressionError:
        return None


def tell(draft: Draft, notice: Notice) -> None:
    """Send a notice: a new round each time, without deadline or undo."""
    told = draft.turns.get(notice.name, 0) + 1
    draft.turns = {**draft.turns, notice.name: told}
    draft.commands.append(
        Command(
            command_id=command_id(draft.before.order_id, draft.epoch, notice.name, told),
            participant=notice.participant,
            name=notice.command,
            attempt=1,
            epoch=draft.epoch,
            data=surely(draft, notice.fields),
            body_seq=draft.seq,
        )
    )


def stop_waiting(draft: Draft, ask: Ask) -> None:
    """No reply is awaited any more, and no attempt is due."""
    draft.disarm(f"reply:{ask.key}", f"retry:{ask.key}", f"patience:{ask.key}")


def leave_state(draft: Draft) -> None:
    """The order is in its state no longer: its deadline and its reminders stop."""
    if draft.rulebook.is_line:
        return
    draft.joined = {}
    draft.disarm(*[name for name in draft.deadlines if name.startswith(("state:", "remind:"))])


def give_up(draft: Draft, ask: Ask) -> Ask:
    """Wait for an ask no longer: without an answer it is unknown, and so possibly done (R11)."""
    stop_waiting(draft, ask)
    return draft.change(ask, forward="unknown" if ask.is_awaited else ask.forward, alarm=False)


def take_end(draft: Draft, outcome: Outcome) -> None:
    """The order has come to the end it is in. Clocks of open undos run on, all others stop; a hold is over."""
    draft.direction = "ended"
    draft.outcome = outcome if draft.state != outcome else None
    draft.goal = None
    leave_state(draft)
    lift_hold(draft)
    draft.disarm(*[name for name in draft.deadlines if not name.startswith("undo_")])
    settle(draft)


def settle(draft: Draft) -> None:
    """When the last undo of an ended order is closed: nothing is left to hold, and the end is announced, once (R22)."""
    if draft.direction != "ended" or any(ask.undo_is_open for ask in draft.asks.values()):
        return
    lift_hold(draft)
    if not draft.announced:
        draft.announce(draft.state)


def lift_hold(draft: Draft) -> None:
    """Let the clocks run again with what they had left (R23)."""
    if not draft.held:
        return
    draft.held = False
    draft.disarm("hold")
    for deadline in by_generation(draft):
        rearm(draft, deadline, deadline.remaining_ms or 1)


def by_generation(draft: Draft) -> list[Deadline]:
    """The armed deadlines in order of arming: a map that was stored and read has another order, and re-arming must not show it (R2)."""
    return sorted(draft.deadlines.values(), key=lambda deadline: deadline.generation)


def rearm(draft: Draft, deadline: Deadline, after_ms: int) -> None:
    """Arm a deadline anew, with what it is about unchanged."""
    draft.arm(deadline.name, after_ms, participant=deadline.participant, command_id=deadline.command_id)


def find_ask(draft: Draft, commandid: str) -> tuple[Ask, bool] | None:
    """The ask that a command id belongs to, and whether it is the id of its undo."""
    for ask in draft.asks.values():
        if ask.command_id and ask.command_id == commandid:
            return ask, False
    for ask in draft.asks.values():
        if ask.undo_attempts and undo_id(ask.command_id) == commandid:
            return ask, True
    return None

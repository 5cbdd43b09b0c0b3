"""What must hold of events from outside, and of what is kept because it came too early (R1, R11, R14)."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.contract import event_command_id
from orchestrator.saga.decide import Decided
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import Input, Message
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook


def parked_and_forgotten(before: Order, input_: Input, decided: Decided) -> str | None:
    """What was parked is so still, or was decided."""
    after = decided.order
    assert after is not None
    applied = {str(message.cause_seq) for message, _ in (*decided.before, *decided.after)}
    for seq, message in before.parked.items():
        if seq not in after.parked and seq not in applied:
            return f"R1: {message['type']} came too early and was kept, and is forgotten."
    own = decided.own
    is_kept = own.verdict != "parked" or own.order is None or str(own.order.seq) in own.order.parked
    return None if is_kept or not isinstance(input_, Message) else f"R1: {input_.envelope.type} came too early, and is not kept."


def broken_by_event(rulebook: Rulebook, before: Order, input_: Input, decision: Decision) -> Iterator[str]:
    """What an event from outside breaks; nothing for any other input."""
    if not isinstance(input_, Message) or input_.seen != "no" or input_.envelope.commandid is not None:
        return
    if input_.envelope.type in rulebook.events and decision.quarantine is None:
        yield from _effect(rulebook, input_, decision)
        yield from _join(rulebook, before, input_, decision)


def _effect(rulebook: Rulebook, message: Message, decision: Decision) -> Iterator[str]:
    """What can be undone has its place in the ledger; if the order does not take it, it is undone at once (R14)."""
    envelope, after = message.envelope, decision.order
    assert after is not None
    if rulebook.events[envelope.type].undone_as is None or decision.verdict == "parked":
        return
    command_id = event_command_id(after.order_id, envelope.source, envelope.id)
    ask = next((ask for ask in after.asks.values() if ask.command_id == command_id), None)
    if ask is None or ask.forward != "done":
        yield f"R14: {envelope.type} is {decision.verdict} and can be undone, and has no place in the ledger."
    elif decision.verdict != "moved" and not any(command.undoes == command_id for command in decision.commands):
        yield f"R14: {envelope.type} is {decision.verdict}, and its undo is not sent."


def _join(rulebook: Rulebook, before: Order, message: Message, decision: Decision) -> Iterator[str]:
    """Of several events that must all come each counts once, and the order goes on with the last."""
    type_, stage, after = message.envelope.type, rulebook.by_state.get(before.state), decision.order
    if after is None or stage is None or type_ not in stage.all_of or before.direction != "forward" or decision.verdict != "moved":
        return
    if type_ in before.joined:
        yield f"R1: {type_} has come already, and counts once more."
    is_left = after.state != before.state and all(case.then is None for case in stage.events.get(type_, ()))
    missing = sorted(stage.all_of - before.joined.keys() - {type_})
    if is_left and missing and not message.at_last:
        yield f"R1: {before.state} is left, and {', '.join(missing)} did not come."

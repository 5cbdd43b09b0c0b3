"""What must hold of every decision, and of every order by how it stands; what must hold of every end is in `endings`."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.contract import canonical, undo_id
from orchestrator.explore.endings import is_over
from orchestrator.explore.promises_events import broken_by_event, parked_and_forgotten
from orchestrator.saga.decide import Decided
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.standing import waiting_on
from orchestrator.saga.waiting import waits


def broken_by_input(rulebook: Rulebook, before: Order, input_: Input, decided: Decided, *, is_answer: bool) -> str | None:
    """The first promise that is broken by what one input brings about, or None.

    `is_answer`: the input is an honest participant's answer to an ask or undo.
    """
    order = before
    for kept, decision in decided.before:
        if broken := broken_by_decision(rulebook, order, kept, decision, is_answer=False):
            return broken
        order = decision.order or order
    if broken := broken_by_decision(rulebook, order, input_, decided.own, is_answer=is_answer):
        return broken
    order = decided.own.order or order
    for kept, decision in decided.after:
        if broken := broken_by_decision(rulebook, order, kept, decision, is_answer=False):
            return broken
        order = decision.order or order
    return parked_and_forgotten(before, input_, decided)


def broken_by_decision(rulebook: Rulebook, before: Order, input_: Input, decision: Decision, *, is_answer: bool) -> str | None:
    """The first promise that a decision breaks, or None. `is_answer`: the input is an honest participant's answer to an ask or undo."""
    after = decision.order
    assert after is not None
    if isinstance(input_, Message) and input_.seen == "same":
        changed = decision.entry is not None or bool(decision.commands)
        return f"R15: {input_.envelope.type} was applied before, and its copy is applied again." if changed else None
    if is_answer and isinstance(input_, Message) and decision.verdict not in _verdicts(rulebook, before, input_):
        return f"R1: {input_.envelope.type}, an honest answer, is {decision.verdict} ({decision.reason})."
    if isinstance(input_, DeadlineDue) and decision.verdict != "moved":
        return f"R18: the armed deadline {input_.name} does nothing when it fires ({decision.reason})."
    if decision.announcements and before.announced and after.epoch == before.epoch:
        return "R22: an end is announced a second time."
    if _ends_undone(after) and not _ends_undone(before):
        open_ = [
            a.key for a in after.asks.values() if a.possibly_done and rulebook.by_name[a.step].undo and a.undo not in {"undone", "skipped"}
        ]
        if open_:
            return f"R13: {after.outcome or after.state}, and {', '.join(open_)} may be done and is not undone."
    was_standing = _standing_pivot(rulebook, before)
    if was_standing and before.pivot_passed and not after.pivot_passed and after.asks[was_standing.key].forward != "refused":
        return f"R12: there is a way back across the pivot {was_standing.key}, which was asked and not refused."
    faults = [
        *_sent(rulebook, decision, after),
        *_first_undos(rulebook, before, input_, after),
        *_given_up(rulebook, before, input_, decision),
    ]
    faults += _success_after_undo(rulebook, before, input_, decision, is_answer=is_answer)
    faults += broken_by_event(rulebook, before, input_, decision)
    faults += _kept_no_longer(before, input_, after)
    return next(iter(faults), None)


def broken_by_order(rulebook: Rulebook, order: Order) -> str | None:
    """The first promise that an order breaks by how it stands, or None (R27, R12, R1)."""
    if order.direction != "forward" and order.parked:
        return f"R1: the order is {order.direction}, and still keeps what came too early."
    if is_over(order):
        return None if order.announced else "R22: the order is over, and its end was never announced."
    if not order.deadlines:
        return f"R27: the order is not over ({order.state}), and no deadline is armed."
    if not waits(order):
        return f"R27: the order is not over ({order.state}), and waits for nobody."
    stage = rulebook.by_state.get(order.state)
    if order.direction == "forward" and stage is not None and stage.steps:
        open_ = {ask.step for ask in order.asks.values() if ask.is_open}
        if not open_ & {step.name for step in stage.steps}:
            return f"R27: the order waits for {order.state}, and nobody was asked."
    for wait in waiting_on(rulebook, order):
        if wait["deadline_at"] is None and not order.held:
            return f"R27: the order waits for {wait['participant']} ({wait['for']}), and no deadline is armed for that."
    if order.direction == "undoing" and (standing := _standing_pivot(rulebook, order)):
        return f"R12: the order is being undone, and its pivot {standing.key} was asked and not refused."
    if order.direction == "forward" and not order.pivot_passed and rulebook.by_state[order.state].pivot:
        return f"R12: the order has come to its pivot ({order.state}), and there is a way back."
    if order.pivot_passed and "patience" in order.deadlines:
        return "R12: the pivot was asked, and patience still runs."
    return None


def _ends_undone(order: Order) -> bool:
    """Whether the order has come to an end that undoes."""
    return order.direction == "ended" and (order.outcome or order.state) in {"compensated", "failed"}


def _standing_pivot(rulebook: Rulebook, order: Order) -> Ask | None:
    """An asking of the pivot that may have passed the point of no return: neither refused nor being undone by an operator's force.

    A watched one has, once the order came to it, whoever brings it about; until then it is undone like any other step.
    """
    for ask in order.asks.values():
        rule = rulebook.by_name[ask.step]
        is_reached = not rule.watched or ask.is_awaited or ask.attempts > 0 or order.pivot_passed
        if rule.pivot and ask.undo == "none" and ask.forward in {"idle", "asked", "unknown", "done"} and is_reached:
            return ask
    return None


def _notices(rulebook: Rulebook) -> set[tuple[str, str]]:
    return {(notice.participant, notice.command) for stage in rulebook.stages for notice in stage.notices}


def _sent(rulebook: Rulebook, decision: Decision, after: Order) -> Iterator[str]:
    """A command goes out only for what is open after the decision, or it is a notice."""
    by_id = {ask.command_id: ask for ask in after.asks.values()}
    for command in decision.commands:
        ask = by_id.get(command.undoes or command.command_id)
        if ask is None and command.undoes is None and (command.participant, command.name) in _notices(rulebook):
            continue
        if ask is None:
            yield f"R6: {command.name} belongs to no ask."
        elif command.undoes is not None and not ask.undo_is_open:
            yield f"R11: {command.name} is sent, and the undo of {ask.key} is {ask.undo}."
        elif command.undoes is None and ask.forward != "asked":
            yield f"R5: {command.name} is sent, and {ask.key} is {ask.forward}."


def _first_undos(rulebook: Rulebook, before: Order, input_: Input, after: Order) -> Iterator[str]:
    """On the way back an undo is first sent when all that came after is undone, and none is sent once the pivot stands (R11, R12).

    What was asked side by side is undone side by side. Not so a force, which undoes at once what it leaves unexplained (R22), a success
    after a refusal and an event that is not taken, undone at once (R14), and what an order that goes on leaves behind in a state.
    """
    if (isinstance(input_, OperatorAct) and input_.act == "force") or after.direction == "forward":
        return
    for key, ask in after.asks.items():
        was = before.asks.get(key)
        if was is None and ask.step in rulebook.events:
            continue
        if not ask.undo_attempts or (was is not None and (was.undo != "none" or was.undo_attempts or was.forward == "refused")):
            continue
        if standing := _standing_pivot(rulebook, after):
            yield f"R12: {key} is undone, and the pivot {standing.key} was asked and not refused."
        for later in after.asks.values():
            waits_for_undo = later.undo == "none" and later.possibly_done and rulebook.by_name[later.step].undo is not None
            if later.rank > ask.rank and (later.undo_is_open or waits_for_undo):
                yield f"R11: {key} is undone before {later.key}, which came after it."


def _given_up(rulebook: Rulebook, before: Order, input_: Input, decision: Decision) -> Iterator[str]:
    """What nobody will undo is listed in the journal, and where there is an undo an operator decides on it, or the end's definition."""
    after = decision.order
    assert after is not None
    end = rulebook.endings.get(after.goal or after.state)
    given_up = [
        ask for key, ask in after.asks.items() if ask.undo == "skipped" and (key not in before.asks or before.asks[key].undo != "skipped")
    ]
    if not given_up:
        return
    listed = canonical.load(decision.entry.effects).get("left_standing", []) if decision.entry else []
    for ask in given_up:
        if ask.key not in listed:
            yield f"R10: {ask.key} is left standing, and not listed."
        is_left = end is not None and end.outcome == "failed" and ask.step not in end.undone
        if rulebook.by_name[ask.step].undo is not None and not isinstance(input_, OperatorAct) and not is_left:
            yield f"R13: {ask.key} is left standing, and no operator said so."


def _verdicts(rulebook: Rulebook, before: Order, message: Message) -> set[str]:
    """What may be said of an honest participant's answer that is new: `moved` when it answers what is open (R1)."""
    envelope = message.envelope
    if (ask := _answered(rulebook, before, message)) is not None:
        is_open = (ask.is_awaited or ask.forward == "unknown") and ask.undo == "none"
        rule = rulebook.by_name[ask.step]
        guarded = {"refused"} if rule.done_when is not None and envelope.type == rule.done_on else set()
        return {"moved", *guarded} if is_open else {"duplicate", "late"}
    for ask in before.asks.values():
        if ask.undo_attempts and envelope.commandid == undo_id(ask.command_id):
            return {"moved"} if ask.undo_is_open else {"duplicate", "late"}
    if envelope.type not in rulebook.watched_answers:
        return set()
    if before.direction != "forward":
        return {"moved"}
    # The order has not come to this step.
    policy = rulebook.policy(before.state, envelope.type, "early")
    return {{"ignore": "ignored", "quarantine": "refused"}.get(policy or "", "parked")}


def _answered(rulebook: Rulebook, before: Order, message: Message) -> Ask | None:
    """The ask that a message answers. Who does a watched step unasked need not say which."""
    envelope = message.envelope
    watched = rulebook.watched_answers.get(envelope.type)
    if envelope.commandid is None and watched is not None:
        return before.asks.get(f"{watched.name}.0.1")
    return next((ask for ask in before.asks.values() if ask.command_id and ask.command_id == envelope.commandid), None)


def _success_after_undo(rulebook: Rulebook, before: Order, input_: Input, decision: Decision, *, is_answer: bool) -> Iterator[str]:
    """A first success after the undo was sent: the undo goes out again (R14)."""
    if not is_answer or not isinstance(input_, Message):
        return
    ask = _answered(rulebook, before, input_)
    if ask is None or input_.envelope.type != rulebook.by_name[ask.step].done_on:
        return
    is_late = ask.forward != "done" and ask.undo in {"asked", "failing", "undone"}
    if is_late and not any(command.undoes == ask.command_id for command in decision.commands):
        yield f"R14: the success of {ask.key} came after its undo was sent, and the undo is not sent again."


def _kept_no_longer(before: Order, input_: Input, after: Order) -> Iterator[str]:
    """A completed order keeps what it kept, whatever else comes late (R14); but for a force."""
    if isinstance(input_, OperatorAct) or before.direction != "ended" or (before.outcome or before.state) != "completed":
        return
    for key, ask in before.asks.items():
        if ask.undo == "none" and ask.possibly_done and after.asks[key].undo != "none":
            yield f"R14: the order is completed, and {key}, which it kept, is undone."

"""What a message does to an order: the table of R1, row by row, in its order."""

from __future__ import annotations

from datetime import datetime

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, canonical, first_command_id
from orchestrator.saga.asking import find_ask, first_ask, next_rank, note_first, stop_waiting
from orchestrator.saga.decision import Decision
from orchestrator.saga.draft import Draft, blank_order
from orchestrator.saga.events import decide_event
from orchestrator.saga.expression import ExpressionError
from orchestrator.saga.forward import amend, begin, go_on, go_to
from orchestrator.saga.inputs import Message
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule
from orchestrator.saga.undoing import enter_undo, finish_undo, leave_standing, note_unreached, send_undo
from orchestrator.saga.verdicts import Verdicts

#: A refused step after the pivot waits for a human: how often it says so, in ms.
ALERT_EVERY_MS = 3_600_000


def decide_message(rulebook: Rulebook, order: Order | None, message: Message, now: datetime) -> Decision:
    """The first row of R1 that matches."""
    envelope = message.envelope
    if order is None:
        if envelope.type == rulebook.opens_on:
            return _open(rulebook, message, now)
        return Decision(order=None, verdict="parked", reason="no_order: kept until the order opens")
    try:
        return _apply(Verdicts(Draft(rulebook, order, now), message))
    except ExpressionError as error:
        # The draft that raised is half made: what is noted begins anew from the order as it was.
        return Verdicts(Draft(rulebook, order, now), message).quarantine("expression", str(error))


def _apply(line: Verdicts) -> Decision:
    message, rulebook, order = line.message, line.draft.rulebook, line.draft.before
    envelope = message.envelope
    if message.seen == "same":
        return Decision(order=order, verdict="duplicate", reason="seen: this message was applied before")
    if message.seen == "other":
        return line.quarantine("id_reused", "the same source and id came before with another content")
    if message.opens or envelope.type == rulebook.opens_on:
        if envelope.type == rulebook.opens_on and canonical.encode(envelope.data) == canonical.encode(order.data):
            return line.duplicate("order_exists: with equal data")
        return line.quarantine("order_exists", "the order was opened with other data")
    if envelope.type in rulebook.abort_on:
        return _abort(line)
    if envelope.type in rulebook.events and envelope.commandid is None:
        return decide_event(line, rulebook.events[envelope.type])
    commandid = envelope.commandid
    if commandid is None and envelope.type in rulebook.watched_answers:
        watched = rulebook.watched_answers[envelope.type]
        known = first_ask(line.draft, watched)
        commandid = known.command_id if known is not None else first_command_id(order.order_id, watched.name)
    if commandid is None:
        if envelope.type in rulebook.answers:
            return line.quarantine("no_commandid", "an answer must echo the commandid of its command")
        return line.unexpected("nothing awaits this event")
    return _answer(line, envelope, commandid)


def _open(rulebook: Rulebook, message: Message, now: datetime) -> Decision:
    envelope = message.envelope
    if envelope.data.get(rulebook.key) != envelope.subject:
        reason = f"subject_differs: the subject is {envelope.subject}, and data.{rulebook.key} is not"
        return Decision(order=None, verdict="refused", reason=reason, quarantine="subject_differs")
    draft = Draft(rulebook, blank_order(rulebook, envelope.subject, envelope.data, now), now)
    draft.event = envelope.data
    draft.arm("patience", rulebook.patience_ms)
    try:
        begin(draft)
    except ExpressionError as error:
        return Decision(order=None, verdict="refused", reason=f"expression: {error}", quarantine="expression")
    return draft.finish(message, "moved", kind="message", name=envelope.type)


def _abort(line: Verdicts) -> Decision:
    draft = line.draft
    if draft.direction != "forward":
        return line.late("no_way_back: the order has ended or is being undone")
    if draft.pivot_passed:
        return line.late("no_way_back: the pivot was asked")
    enter_undo(draft, "aborted")
    return line.moved()


def _answer(line: Verdicts, envelope: Envelope, commandid: str) -> Decision:
    draft = line.draft
    found = find_ask(draft, commandid)
    if found is None:
        return _answer_of_others(line, envelope, commandid)
    ask, is_undo = found
    step = draft.rulebook.by_name[ask.step]
    if envelope.source != step.participant:
        return line.quarantine("wrong_source", f"the command went to {step.participant}")
    if is_undo:
        return _answer_undo(line, step, ask)
    if envelope.type == step.done_on:
        return _success(line, step, ask)
    if envelope.type in step.refused_on or envelope.type == COMMAND_TOO_LATE:
        return _refusal(line, step, ask)
    return line.unexpected(f"not an answer of {ask.step}")


def _answer_of_others(line: Verdicts, envelope: Envelope, commandid: str) -> Decision:
    """An answer to what this order has not asked: of a watched step that it has not come to, or of nobody."""
    draft = line.draft
    watched = (step for step in draft.rulebook.watched if first_command_id(draft.order_id, step.name) == commandid)
    step = next(watched, None)
    if step is None:
        return line.quarantine("unknown_command", "its commandid is of no command of this order")
    if envelope.source != step.participant:
        return line.quarantine("wrong_source", f"{step.name} is done by {step.participant}")
    if envelope.type != step.done_on and envelope.type not in step.refused_on:
        return line.unexpected(f"not an answer of {step.name}")
    stage = draft.rulebook.by_state.get(draft.state)
    is_to_come = stage is not None and step.index > stage.index
    if is_to_come and not line.message.at_last:
        return line.early()
    # The order does not come to this step any more; what was done nevertheless is undone with the rest, if anything is (R11).
    if line.message.at_last:
        note_unreached(draft)
    ask = first_ask(draft, step) or note_first(draft, step, next_rank(draft), forward="unknown")
    return _success(line, step, ask) if envelope.type == step.done_on else _refusal(line, step, ask)


def _success(line: Verdicts, step: StepRule, ask: Ask) -> Decision:
    draft = line.draft
    if ask.forward == "done":
        return line.duplicate("answered: the step is known to be done")
    if (ask.is_awaited or ask.forward == "unknown") and ask.undo == "none":
        awaited = _is_awaited(draft, step, ask)
        if awaited and step.done_when is not None and not draft.holds(step.done_when):
            return line.refused(f"guard: {step.done_when.text} does not hold")
        _answered(draft, ask)
        draft.change(draft.asks[ask.key], forward="done", alarm=False)
        draft.replies[ask.step] = line.message.envelope.data
        if awaited:
            amend(draft, step.set)
            go_on(draft, step)
        return line.moved()
    draft.change(ask, forward="done")
    if step.undo is None:
        leave_standing(draft, draft.asks[ask.key], alert=step.pivot)
        return line.late("left_standing: a success after a refusal, and the step has no undo")
    if ask.undo == "skipped":
        return line.late("left_standing: an operator left this effect standing")
    # Why the order turned back stays to be seen: the late success is in the journal.
    draft.cause = draft.cause or "late_success"
    send_undo(draft, step, step.undo, draft.asks[ask.key])
    return line.late("undone_again: a success after its undo was sent, or after a refusal")


def _refusal(line: Verdicts, step: StepRule, ask: Ask) -> Decision:
    draft = line.draft
    if ask.forward == "refused":
        return line.duplicate("answered: the step is known to be refused")
    if ask.forward == "done":
        return line.late("contradiction: the step is known to be done")
    if ask.undo != "none":
        draft.change(ask, forward="refused")
        return line.late("undo_sent: a refusal after its undo was sent")
    awaited = _is_awaited(draft, step, ask)
    _answered(draft, ask)
    draft.change(draft.asks[ask.key], forward="refused", alarm=False)
    if not awaited:
        return line.moved()
    stage = draft.rulebook.stage_of(step)
    if draft.rulebook.is_past_pivot(step):
        draft.change(draft.asks[ask.key], alarm=True)
        draft.cause = "refused"
        draft.alerts.append(f"refused: {ask.key}")
        draft.arm("alert", ALERT_EVERY_MS)
    else:
        if step.pivot:
            draft.pivot_passed = False
        if stage.on_refused is None:
            enter_undo(draft, "refused")
        else:
            if step.pivot:
                draft.arm("patience", draft.rulebook.patience_ms)
            go_to(draft, stage.on_refused, "refused")
    return line.moved()


def _answer_undo(line: Verdicts, step: StepRule, ask: Ask) -> Decision:
    if step.undo is None or line.message.envelope.type != step.undo.done_on:
        return line.unexpected(f"not the confirmation of undoing {ask.step}")
    if ask.undo == "undone":
        return line.duplicate("answered: the undo is known to be confirmed")
    if ask.undo_is_open:
        finish_undo(line.draft, ask)
        return line.moved()
    line.draft.change(ask, undo="undone")
    return line.late("undone_after_all: an operator had left this effect standing")


def _answered(draft: Draft, ask: Ask) -> None:
    stop_waiting(draft, ask)
    draft.answered.append(ask.command_id)


def _is_awaited(draft: Draft, step: StepRule, ask: Ask) -> bool:
    """Whether the order waits for this very ask: not one that an operator skipped, or went back before."""
    return draft.direction == "forward" and draft.state == step.state and ask.is_awaited

"""What a passed deadline does to an order: silence is declared, the next attempt is sent, or patience ends (R5, R7, R13)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from orchestrator.contract import undo_id
from orchestrator.saga.asking import ask_watched, give_up, lift_hold, rearm, send, tell
from orchestrator.saga.decision import Decision
from orchestrator.saga.draft import Draft
from orchestrator.saga.expression import ExpressionError
from orchestrator.saga.forward import go_to
from orchestrator.saga.inputs import DeadlineDue, SentLate
from orchestrator.saga.messages import ALERT_EVERY_MS
from orchestrator.saga.order import Ask, Deadline, Order
from orchestrator.saga.retry import backoff_ms
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import StepRule, UndoRule
from orchestrator.saga.undoing import enter_undo, send_undo


def decide_deadline(rulebook: Rulebook, order: Order, due: DeadlineDue, now: datetime) -> Decision:
    """Fire one deadline; one that is not armed any more, or not due yet, changes nothing (R18)."""
    armed = order.deadlines.get(due.name)
    if armed is None or armed.generation != due.generation:
        return Decision(order=order, verdict="ignored", reason="superseded: this deadline is not armed any more")
    if armed.due_at is None or (armed.due_at > now and not (due.excused and armed.participant)):
        return Decision(order=order, verdict="ignored", reason="early: this deadline is not due yet")
    draft = Draft(rulebook, order, now)
    draft.disarm(due.name)
    reason = "excused: nobody could have heard the reply" if due.excused else None
    try:
        _fire(draft, due)
    except ExpressionError as error:
        draft = Draft(rulebook, order, now)
        draft.disarm(due.name)
        _cannot_be_computed(draft, armed, error)
        reason = f"expression: {error}"
    decision = draft.finish(due, "moved", kind="deadline", name=due.name, reason=reason)
    return replace(decision, fired_late_s=max(0.0, (now - armed.due_at).total_seconds()))


def decide_sent_late(rulebook: Rulebook, order: Order, late: SentLate, now: datetime) -> Decision:
    """Count a reply deadline from the broker's confirm; when it is not awaited any more nothing changes."""
    for name, deadline in order.deadlines.items():
        if deadline.command_id == late.command_id:
            draft = Draft(rulebook, order, now)
            rearm(draft, deadline, _deadline_ms(rulebook, name))
            return draft.finish(late, "moved", kind="sent_late", name=name)
    return Decision(order=order, verdict="ignored", reason="superseded: no reply to this command is awaited")


def _fire(draft: Draft, due: DeadlineDue) -> None:
    what, _, key = due.name.partition(":")
    if what == "patience":
        if key:
            give_up(draft, draft.asks[key])
        enter_undo(draft, "patience")
    elif what == "state":
        stage = draft.rulebook.by_stage[key]
        assert stage.deadline is not None
        go_to(draft, stage.deadline.then, "deadline")
    elif what == "remind":
        _remind(draft, due.name, key)
    elif what == "hold":
        lift_hold(draft)
    elif what == "alert":
        draft.alerts.append("still_waiting_for_an_operator")
        draft.arm("alert", ALERT_EVERY_MS)
    else:
        ask = draft.asks[key]
        step = draft.rulebook.by_name[ask.step]
        if what == "reply":
            _reply_is_overdue(draft, step, ask, excused=due.excused)
        elif what == "retry":
            send(draft, step, ask)
        elif step.undo is not None and what == "undo_reply":
            _confirmation_is_overdue(draft, step, step.undo, ask, excused=due.excused)
        elif step.undo is not None:
            send_undo(draft, step, step.undo, ask)


def _remind(draft: Draft, name: str, key: str) -> None:
    """Tell it once more, and again after the same time."""
    stage, _, place = key.rpartition(".")
    notice = draft.rulebook.by_stage[stage].notices[int(place)]
    assert notice.every_ms is not None
    tell(draft, notice)
    draft.arm(name, notice.every_ms)


def _cannot_be_computed(draft: Draft, armed: Deadline, error: ExpressionError) -> None:
    """What is to happen now needs a value that this order does not have. Before the pivot the order is undone; after it a human is called,
    and what passed is tried again.
    """
    draft.alerts.append(f"expression: {error}")
    if draft.direction == "forward" and not draft.pivot_passed:
        enter_undo(draft, "expression")
    else:
        draft.cause = "expression"
        rearm(draft, armed, ALERT_EVERY_MS)


def _reply_is_overdue(draft: Draft, step: StepRule, ask: Ask, *, excused: bool) -> None:
    rule = step.retry
    tried = ask.attempts - ask.attempts_base
    if ask.forward == "idle" and excused:
        draft.arm(f"reply:{ask.key}", step.deadline_ms, participant=step.participant)
    elif ask.forward == "idle":
        ask_watched(draft, step, ask)
    elif excused:
        send(draft, step, ask, again=True)
    elif rule.attempts is not None and tried >= rule.attempts:
        give_up(draft, ask)
        enter_undo(draft, "silence")
    else:
        if rule.stuck_after is not None and tried >= rule.stuck_after and not ask.alarm:
            draft.change(ask, alarm=True)
            draft.cause = "silence"
            draft.alerts.append(f"silence: {ask.key}")
        draft.arm(f"retry:{ask.key}", backoff_ms(rule, tried, ask.command_id))


def _confirmation_is_overdue(draft: Draft, step: StepRule, undo: UndoRule, ask: Ask, *, excused: bool) -> None:
    rule = undo.retry
    tried = ask.undo_attempts - ask.undo_attempts_base
    if excused:
        send_undo(draft, step, undo, ask, again=True)
        return
    if rule.stuck_after is not None and tried >= rule.stuck_after and ask.undo != "failing":
        draft.change(ask, undo="failing")
        draft.cause = "undo_silent"
        draft.alerts.append(f"undo_silent: {ask.key}")
    draft.arm(f"undo_retry:{ask.key}", backoff_ms(rule, tried, undo_id(ask.command_id)))


def _deadline_ms(rulebook: Rulebook, name: str) -> int:
    what, _, key = name.partition(":")
    step = rulebook.by_name[key.rsplit(".", 2)[0]]
    return step.undo.deadline_ms if what == "undo_reply" and step.undo is not None else step.deadline_ms

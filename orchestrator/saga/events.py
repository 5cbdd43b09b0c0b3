"""What an event from outside does: one that nobody was asked for, awaited by a state (the state form; R1)."""

from __future__ import annotations

from orchestrator.contract import Envelope, event_command_id
from orchestrator.saga.asking import next_rank, next_round
from orchestrator.saga.decision import Decision
from orchestrator.saga.draft import Draft
from orchestrator.saga.forward import amend, arrive_at_next, go_to
from orchestrator.saga.order import Ask
from orchestrator.saga.rules import EventCase, EventRule, Stage
from orchestrator.saga.undoing import undo_at_once
from orchestrator.saga.verdicts import Verdicts


def decide_event(line: Verdicts, rule: EventRule) -> Decision:
    """Apply it in the present state, keep it for one to come, or find that its time is over. Raises: ExpressionError."""
    draft, envelope = line.draft, line.message.envelope
    if rule.source is not None and envelope.source != rule.source:
        return line.quarantine("wrong_source", f"{rule.type} is published by {rule.source}")
    stage = draft.rulebook.by_state.get(draft.state) if draft.direction == "forward" else None
    if line.message.at_last:
        return _at_last(line, rule)
    if stage is not None and rule.type in stage.awaits:
        return _awaited(line, rule, stage)
    if stage is not None and draft.rulebook.is_to_come(draft.state, rule.type):
        return line.early()
    _put_back(draft, envelope, rule)
    return line.late("passed: the state that awaits it is over, or the order does not go forward")


def _awaited(line: Verdicts, rule: EventRule, stage: Stage) -> Decision:
    draft, envelope = line.draft, line.message.envelope
    if rule.type in draft.joined:
        _put_back(draft, envelope, rule)
        return line.duplicate("joined: this event has come already")
    if rule.order_by is not None and not _is_younger(draft, envelope, rule.type, rule.order_by):
        _put_back(draft, envelope, rule)
        return line.late(f"older: {rule.order_by} is not above that of the one before")
    cases = stage.events.get(rule.type, (EventCase(when=None, set={}, then=None),))
    case = next((case for case in cases if case.when is None or draft.holds(case.when)), None)
    if case is None:
        _put_back(draft, envelope, rule)
        return line.refused("guard: " + " and ".join(f"{case.when.text} does not hold" for case in cases if case.when is not None))
    draft.replies[rule.type] = envelope.data
    if rule.undone_as is not None:
        _note(draft, envelope, rule, counts=True)
    amend(draft, case.set)
    if rule.type in stage.all_of:
        draft.joined = {**draft.joined, rule.type: draft.seq}
    if case.then is not None:
        go_to(draft, case.then, "event")
    elif stage.all_of and stage.all_of <= draft.joined.keys():
        arrive_at_next(draft, stage)
    return line.moved()


def _at_last(line: Verdicts, rule: EventRule) -> Decision:
    """The order turns back before it comes to its state: what it stands for is undone with the rest (R11)."""
    if rule.undone_as is None:
        return line.late("passed: the order turned back before its state was reached")
    line.draft.replies[rule.type] = line.message.envelope.data
    _note(line.draft, line.message.envelope, rule, counts=True)
    return line.moved("parked: the order turns back, so it counts as done")


def _is_younger(draft: Draft, envelope: Envelope, name: str, field: str) -> bool:
    """Whether its mark is above that of the last one applied. Marks of other kinds, or none, are not."""
    mark, before = envelope.data.get(field), draft.replies.get(name)
    if isinstance(mark, bool) or not isinstance(mark, int | float | str):
        return False
    last = before.get(field) if before is not None else None
    if last is None:
        return True
    return isinstance(mark, str) == isinstance(last, str) and bool(mark > last)


def _note(draft: Draft, envelope: Envelope, rule: EventRule, *, counts: bool) -> Ask:
    """What happened is an ask that is done: it has its place in the ledger, and is undone in its turn.

    `counts`: the order goes on by it. The ask names its entry then, as one that was sent names that of its body.
    """
    assert rule.undone_as is not None
    ask = Ask(
        step=rule.type,
        participant=rule.undone_as.participant,
        epoch=draft.epoch,
        round=next_round(draft, rule.type),
        position=len(draft.asks),
        rank=next_rank(draft),
        command_id=event_command_id(draft.order_id, envelope.source, envelope.id),
        forward="done",
        body_seq=draft.seq if counts else 0,
        since=draft.now,
    )
    draft.asks[ask.key] = ask
    return ask


def _put_back(draft: Draft, envelope: Envelope, rule: EventRule) -> None:
    """What is not taken is given back at once: the event is a fact, whatever the order makes of it (R14)."""
    if rule.undone_as is not None:
        undo_at_once(draft, _note(draft, envelope, rule, counts=False))

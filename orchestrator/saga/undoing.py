"""The way back. Everything possibly done is undone, strictly in reverse, and nothing can skip it but an operator by name (R10, R11)."""

from __future__ import annotations

from orchestrator.contract import undo_id
from orchestrator.saga.asking import first_ask, give_up, leave_state, next_rank, note_first, settle, surely, take_end
from orchestrator.saga.decision import Command
from orchestrator.saga.draft import Draft
from orchestrator.saga.order import Ask, Cause
from orchestrator.saga.rules import Ending, StepRule, UndoRule


def enter_undo(draft: Draft, cause: Cause, *, goal: str | None = None) -> None:
    """Turn back: what was asked and not answered is unknown, and so possibly done; and so is what others may still bring about (R11).

    `goal`: the end that is taken when all is undone; None: `compensated`.
    """
    draft.cause = cause
    draft.direction = "undoing"
    draft.goal = goal
    draft.disarm("patience", "alert")
    leave_state(draft)
    for ask in list(draft.asks.values()):
        if ask.is_open:
            give_up(draft, ask)
    note_unreached(draft)
    undo_next(draft)


def note_unreached(draft: Draft) -> None:
    """Put the watched steps that the order never came to into the ledger: others may bring them about for all that (R11)."""
    for stage in draft.rulebook.stages:
        rank = next_rank(draft)
        for step in stage.steps:
            if step.watched and first_ask(draft, step) is None:
                note_first(draft, step, rank, forward="unknown")


def leave_undone(draft: Draft, ending: Ending) -> None:
    """The definition ends so: effects that this end does not undo are listed as left standing."""
    for ask in list(draft.asks.values()):
        may_be_done = ask.possibly_done or ask.is_awaited
        if may_be_done and ask.undo == "none" and ask.step not in ending.undone and _undo_of(draft, ask) is not None:
            leave_standing(draft, give_up(draft, ask))


def undo_next(draft: Draft) -> None:
    """Send the undos whose turn it is, or wait for those that hold them back; with none left the order is compensated.

    What was asked side by side is undone side by side.
    """
    for rank in sorted({ask.rank for ask in draft.asks.values()}, reverse=True):
        beside = [ask for ask in draft.asks.values() if ask.rank == rank]
        due = [(ask, undo) for ask in beside if ask.undo == "none" and ask.possibly_done and (undo := _undo_of(draft, ask)) is not None]
        for ask, undo in due:
            send_undo(draft, draft.rulebook.by_name[ask.step], undo, ask)
        if due or any(ask.undo_is_open for ask in beside):
            stage = draft.rulebook.stage_of(draft.rulebook.by_name[beside[0].step])
            draft.move(f"undo:{stage.name}")
            return
    goal = draft.goal
    draft.move(f"undone:{goal or 'compensated'}")
    take_end(draft, "compensated" if goal is None else "failed")


def send_undo(draft: Draft, step: StepRule, undo: UndoRule, ask: Ask, *, again: bool = False) -> None:
    """Send an ask's undo and await its confirmation. `again`: the same attempt, none is spent.

    The first sending fixes the body; later ones, whatever brought them about, repeat it (R6, R14).
    """
    first = ask.undo_attempts == 0
    attempt = ask.undo_attempts if again else ask.undo_attempts + 1
    reopened = not ask.undo_is_open
    sent = draft.change(
        ask,
        undo="asked" if reopened else ask.undo,
        undo_attempts=attempt,
        undo_attempts_base=ask.undo_attempts if reopened else ask.undo_attempts_base,
        undo_body_seq=draft.seq if first else ask.undo_body_seq,
        since=draft.now if reopened else ask.since,
    )
    undo_command_id = undo_id(ask.command_id)
    draft.commands.append(
        Command(
            command_id=undo_command_id,
            participant=step.participant,
            name=undo.command,
            attempt=attempt,
            epoch=ask.epoch,
            undoes=ask.command_id,
            data=surely(draft, undo.fields) if first else None,
            body_seq=sent.undo_body_seq,
        )
    )
    draft.disarm(f"undo_retry:{ask.key}")
    draft.arm(f"undo_reply:{ask.key}", undo.deadline_ms, participant=step.participant, command_id=undo_command_id)


def undo_at_once(draft: Draft, ask: Ask) -> None:
    """Undo one ask beside whatever else goes on (R14, R22); without an undo its effect is listed as left standing."""
    step = draft.rulebook.by_name[ask.step]
    ask = give_up(draft, ask)
    if step.undo is None:
        leave_standing(draft, ask, alert=step.pivot)
    else:
        send_undo(draft, step, step.undo, ask)


def leave_standing(draft: Draft, ask: Ask, *, alert: bool = False) -> None:
    """Record that nobody will undo this effect."""
    close_undo(draft, ask)
    draft.change(draft.asks[ask.key], undo="skipped")
    draft.left_standing.append(ask.key)
    if alert:
        draft.alerts.append(f"left_standing: {ask.key}")


def close_undo(draft: Draft, ask: Ask) -> None:
    """No confirmation is awaited any more."""
    draft.disarm(f"undo_reply:{ask.key}", f"undo_retry:{ask.key}")
    if ask.undo_attempts:
        draft.answered.append(undo_id(ask.command_id))


def finish_undo(draft: Draft, ask: Ask) -> None:
    """An undo was confirmed, by the participant or by an operator: go on with what it held back."""
    close_undo(draft, ask)
    draft.change(draft.asks[ask.key], undo="undone")
    go_on_back(draft)


def go_on_back(draft: Draft) -> None:
    """After an undo is closed: the next one, or the end that waited for it."""
    if draft.direction == "undoing":
        undo_next(draft)
    else:
        settle(draft)


def _undo_of(draft: Draft, ask: Ask) -> UndoRule | None:
    return draft.rulebook.by_name[ask.step].undo

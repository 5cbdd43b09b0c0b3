"""What an operator can do to one order, and when (R21, R22, R23, R12, R13)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.saga.asking import (
    ask_step,
    ask_watched,
    by_generation,
    give_up,
    leave_state,
    lift_hold,
    limit,
    next_rank,
    note_first,
    rearm,
    send,
    take_end,
)
from orchestrator.saga.decision import Decision
from orchestrator.saga.draft import Draft
from orchestrator.saga.expression import ExpressionError
from orchestrator.saga.forward import arrive, go_on
from orchestrator.saga.inputs import ActName, OperatorAct
from orchestrator.saga.language import DURATION_MS_MAX
from orchestrator.saga.migrate import CannotMigrate, migrate
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage
from orchestrator.saga.undoing import enter_undo, finish_undo, go_on_back, leave_standing, note_unreached, send_undo, undo_at_once

#: How long a hold lasts when nobody says.
HOLD_DEFAULT = timedelta(hours=24)
#: How far ahead an operator may put a time: as far as a definition may.
TIME_AHEAD_MAX = timedelta(milliseconds=DURATION_MS_MAX)


class ActRefused(Exception):
    """A verdict, and so never seen outside of this module: not at this moment, not with these arguments, or not by this actor."""

    def __init__(self, problem: Literal["conflict", "invalid", "forbidden"], reason: str) -> None:
        super().__init__(reason)
        self.problem = problem
        self.reason = reason


def decide_act(rulebook: Rulebook, order: Order, act: OperatorAct, now: datetime, target: Rulebook | None) -> Decision:
    """Do the act, or say why not; a refused act changes and journals nothing."""
    if act.seq != order.seq:
        reason = f"The order is at seq {order.seq}, and you saw {act.seq}: look again, then repeat."
        return Decision(order=order, verdict="refused", reason=reason, problem="stale")
    draft = Draft(rulebook, order, now)
    draft.target = target
    try:
        ACTS[act.act](draft, act)
    except ActRefused as refused:
        return Decision(order=order, verdict="refused", reason=refused.reason, problem=refused.problem)
    except ExpressionError as error:
        reason = f"The definition cannot decide on this order: {error}."
        return Decision(order=order, verdict="refused", reason=reason, problem="conflict")
    return draft.finish(act, "moved", kind="act", name=act.act)


def moments(order: Order, *, is_admin: bool) -> list[ActName]:
    """The acts whose moment this is, whatever their arguments."""
    ask_is_open = any(ask.is_open for ask in order.asks.values())
    undo_is_open = any(ask.undo_is_open for ask in order.asks.values())
    living = order.direction != "ended" or undo_is_open
    possible: dict[ActName, bool] = {
        "force": order.direction != "ended" or is_admin,
        "retry": ask_is_open or undo_is_open,
        "abort": order.direction == "forward" and not order.pivot_passed,
        "hold": living,
        "release": order.held,
        "skip": ask_is_open or undo_is_open,
        "confirm": undo_is_open,
        "deadline": bool(order.deadlines),
        "abandon": living and is_admin,
        "migrate": order.direction != "ended" and is_admin,
    }
    return [name for name, now_possible in possible.items() if now_possible]


def _force(draft: Draft, act: OperatorAct) -> None:
    """Move the order to a step's state, or to `completed`; what that leaves unexplained is undone at once (R22)."""
    target, to = _force_target(draft, act)
    if draft.direction == "ended" and not act.is_admin:
        raise ActRefused("forbidden", "The order has ended: only an admin may force it.")
    rulebook = draft.rulebook
    index = target.index if target is not None else len(rulebook.stages)
    is_past_pivot = bool(rulebook.pivots) if target is None else rulebook.is_stage_past_pivot(target)
    if draft.pivot_passed and not is_past_pivot and not _pivot_was_refused(draft):
        raise ActRefused("conflict", "The pivot was asked: there is no way back across it.")
    _refuse_to_pass_undone(draft, index)
    draft.epoch += 1
    draft.cause = "forced"
    lift_hold(draft)
    draft.disarm("patience", "alert")
    leave_state(draft)
    for ask in list(draft.asks.values()):
        unexplained = ask.is_awaited or ask.forward == "unknown"
        overtaken = ask.forward == "done" and rulebook.comes_again(rulebook.by_name[ask.step], index)
        if ask.undo == "none" and (unexplained or overtaken):
            undo_at_once(draft, ask)
        elif ask.alarm:
            draft.change(ask, alarm=False)
    _skip_idle(draft, index)
    draft.direction = "forward"
    draft.outcome = draft.goal = None
    draft.announced = False
    draft.pivot_passed = is_past_pivot
    draft.move(f"force:{to}")
    if target is None:
        take_end(draft, "completed")
        return
    if not draft.pivot_passed:
        draft.arm("patience", rulebook.patience_ms)
    arrive(draft, target)


def _force_target(draft: Draft, act: OperatorAct) -> tuple[Stage | None, str]:
    """The state to go to, None for an end, and its name."""
    to, rulebook = str(act.arguments.get("to")), draft.rulebook
    whole = rulebook.completed_states
    to = whole[0] if to == "completed" else to
    target = rulebook.by_state.get(to)
    if target is not None or to in whole:
        return target, to
    backward = {"compensated", "failed", "abandoned", *rulebook.endings, *(undoing(stage.name) for stage in rulebook.stages)}
    if to in backward:
        raise ActRefused("conflict", f"{to} is no target of a force: undo with abort, or give up with abandon.")
    states = ", ".join([*rulebook.by_state, *whole])
    raise ActRefused("invalid", f"`to` must be one of {states}.")


def _pivot_was_refused(draft: Draft) -> bool:
    """Whether every asking of a pivot was refused, so it did not happen; an operator may have gone past it before the refusal came."""
    asks = [ask for ask in draft.asks.values() if draft.rulebook.by_name[ask.step].pivot]
    return bool(asks) and all(ask.forward == "refused" for ask in asks)


def _refuse_to_pass_undone(draft: Draft, index: int) -> None:
    """A step before the target that is undone, or given up, would stay so behind the order's back. Raises: ActRefused."""
    for ask in _latest_asks(draft).values():
        step = draft.rulebook.by_name[ask.step]
        if draft.rulebook.comes_again(step, index) or step.undo is None or ask.undo == "none":
            continue
        begun = "The undo of {} has begun" if ask.undo_attempts else "The effect of {} was left standing"
        raise ActRefused("conflict", f"{begun.format(step.name)}: force to {step.name} or before it.")


def _skip_idle(draft: Draft, index: int) -> None:
    """Steps of a line before the target that were never asked are recorded as passed over: a watched one may be done for all that (R22)."""
    asked = {ask.step for ask in draft.asks.values()}
    for stage in draft.rulebook.stages[:index] if draft.rulebook.is_line else ():
        rank = next_rank(draft)
        for step in stage.steps:
            if step.name not in asked and step.watched:
                note_first(draft, step, rank, forward="unknown")
            elif step.name not in asked:
                ask = Ask(
                    step=step.name,
                    participant=step.participant,
                    epoch=draft.epoch,
                    round=1,
                    position=len(draft.asks),
                    rank=rank,
                    command_id="",
                    forward="skipped",
                    since=draft.now,
                )
                draft.asks[ask.key] = ask


def _retry(draft: Draft, _act: OperatorAct) -> None:
    """Send what is open now, its limits counted anew; a refused ask after the pivot as a new round."""
    asks = [ask for ask in draft.asks.values() if ask.is_open]
    if not asks and not any(ask.undo_is_open for ask in draft.asks.values()):
        raise ActRefused("conflict", "Nothing is asked at the moment.")
    for ask in asks:
        step = draft.rulebook.by_name[ask.step]
        draft.disarm("alert")
        reset = draft.change(ask, attempts_base=ask.attempts, alarm=False)
        limit(draft, step, reset)
        if ask.forward == "asked":
            send(draft, step, reset)
        elif ask.forward == "idle":
            ask_watched(draft, step, reset)
        else:
            ask_step(draft, step, ask.rank)
    for open_undo in [ask for ask in draft.asks.values() if ask.undo_is_open]:
        step = draft.rulebook.by_name[open_undo.step]
        if step.undo is not None:
            reset = draft.change(open_undo, undo="asked", undo_attempts_base=open_undo.undo_attempts)
            send_undo(draft, step, step.undo, reset)


def _abort(draft: Draft, _act: OperatorAct) -> None:
    """Enter undo."""
    if draft.direction == "ended":
        raise ActRefused("conflict", "The order has ended.")
    if draft.direction == "undoing":
        raise ActRefused("conflict", "The order is being undone already.")
    if draft.pivot_passed:
        raise ActRefused("conflict", "The pivot was asked: there is no way back.")
    enter_undo(draft, "aborted")


def _hold(draft: Draft, act: OperatorAct) -> None:
    """Stop the order's clocks until a time; on a held order only that time changes."""
    if not draft.deadlines:
        raise ActRefused("conflict", "The order has ended: it has no clocks.")
    until = _time_argument(draft, act, "until") if act.arguments.get("until") is not None else draft.now + HOLD_DEFAULT
    if until <= draft.now:
        raise ActRefused("invalid", "`until` must lie in the future.")
    if not draft.held:
        draft.held = True
        for deadline in by_generation(draft):
            rearm(draft, deadline, _left_ms(deadline.due_at, draft.now))
    draft.arm("hold", _left_ms(until, draft.now))


def _release(draft: Draft, _act: OperatorAct) -> None:
    """Let the clocks run again."""
    if not draft.held:
        raise ActRefused("conflict", "The order is not held.")
    lift_hold(draft)


def _skip(draft: Draft, act: OperatorAct) -> None:
    """Go on without an answer: forward past the step, or back past its undo, which is recorded as left standing."""
    name = _step_argument(draft, act)
    ask = next((ask for ask in draft.asks.values() if ask.is_open and ask.step == name), None)
    if ask is not None:
        give_up(draft, ask)
        draft.cause = "skipped"
        go_on(draft, draft.rulebook.by_name[name])
        return
    for undo in _open_undos(draft, name, "skipped"):
        leave_standing(draft, undo)
    draft.cause = "skipped"
    go_on_back(draft)


def _confirm(draft: Draft, act: OperatorAct) -> None:
    """The step's undo was done by hand."""
    for ask in _open_undos(draft, _step_argument(draft, act), "confirmed"):
        finish_undo(draft, ask)


def _deadline(draft: Draft, act: OperatorAct) -> None:
    """Move a deadline to another time; one in the past fires at once."""
    deadline = draft.deadlines.get(str(act.arguments.get("name")))
    if deadline is None:
        names = ", ".join(sorted(draft.deadlines)) or "none"
        raise ActRefused("conflict", f"No such deadline is armed. Armed: {names}.")
    if draft.held and deadline.name != "hold":
        raise ActRefused("conflict", "The order is held: release it first.")
    rearm(draft, deadline, _left_ms(_time_argument(draft, act, "due_at"), draft.now, least_ms=0))


def _abandon(draft: Draft, act: OperatorAct) -> None:
    """End the order where it stands, and list every effect that is left standing (R10)."""
    if not act.is_admin:
        raise ActRefused("forbidden", "Only an admin may abandon an order.")
    if draft.direction == "ended" and not any(ask.undo_is_open for ask in draft.asks.values()):
        raise ActRefused("conflict", "The order has ended.")
    if draft.direction == "forward":
        note_unreached(draft)
    for ask in list(draft.asks.values()):
        given_up = give_up(draft, ask) if ask.is_open else ask
        if given_up.undo_is_open or (given_up.possibly_done and given_up.undo == "none"):
            leave_standing(draft, given_up)
    draft.cause = "abandoned"
    draft.move("abandon")
    take_end(draft, "abandoned")


def _open_undos(draft: Draft, step: str, verb: str) -> list[Ask]:
    undos = [ask for ask in draft.asks.values() if ask.step == step and ask.undo_is_open]
    if not undos:
        raise ActRefused("conflict", f"Nothing of {step} is open, so nothing can be {verb}.")
    return undos


def _latest_asks(draft: Draft) -> dict[str, Ask]:
    """Those that the order went on by: an event that was given back as it came is none of them."""
    counted = [ask for ask in draft.asks.values() if ask.body_seq or ask.step not in draft.rulebook.events]
    return {ask.step: ask for ask in sorted(counted, key=lambda ask: ask.position)}


def _step_argument(draft: Draft, act: OperatorAct) -> str:
    step = str(act.arguments.get("step"))
    if step not in draft.rulebook.by_name:
        raise ActRefused("invalid", f"`step` must be one of {', '.join(draft.rulebook.by_name)}.")
    return step


def _time_argument(draft: Draft, act: OperatorAct, name: str) -> datetime:
    at = act.arguments.get(name)
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ActRefused("invalid", f"`{name}` must be a time with a zone.")
    if at - draft.now > TIME_AHEAD_MAX:
        raise ActRefused("invalid", f"`{name}` may lie at most {TIME_AHEAD_MAX.days} days ahead.")
    return at


def _left_ms(due_at: datetime | None, now: datetime, *, least_ms: int = 1) -> int:
    return least_ms if due_at is None else max(least_ms, round((due_at - now).total_seconds() * 1000))


def _migrate(draft: Draft, act: OperatorAct) -> None:
    """Go on under another version of the definition (R30)."""
    if not act.is_admin:
        raise ActRefused("forbidden", "Only an admin may migrate an order.")
    if draft.target is None:
        raise ActRefused("invalid", f"{draft.definition} has no version {act.arguments.get('version')}.")
    try:
        migrate(draft, draft.target, act.arguments.get("steps") or {})
    except CannotMigrate as refused:
        raise ActRefused("conflict", str(refused)) from None


ACTS: dict[ActName, Callable[[Draft, OperatorAct], None]] = {
    "force": _force,
    "retry": _retry,
    "abort": _abort,
    "hold": _hold,
    "release": _release,
    "skip": _skip,
    "confirm": _confirm,
    "deadline": _deadline,
    "abandon": _abandon,
    "migrate": _migrate,
}

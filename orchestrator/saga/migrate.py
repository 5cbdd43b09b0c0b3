"""Moving an order to another version of its definition (R30): the same facts, under the other version's names and rules.

Nothing is asked, undone or armed anew: command ids, attempts and deadlines stay, and what is under way is answered as before. What the
other version could not go on with is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.saga.asking import first_ask
from orchestrator.saga.draft import Draft
from orchestrator.saga.order import Ask
from orchestrator.saga.rulebook import Rulebook, undoing
from orchestrator.saga.rules import Stage, StepRule


class CannotMigrate(Exception):
    """A verdict, and so never seen outside of the core: the reason."""


def migrate(draft: Draft, target: Rulebook, names: Mapping[str, str]) -> None:
    """Make the draft an order of `target`. `names`: the new name of each step that is called otherwise there. Raises: CannotMigrate."""
    source = draft.rulebook
    if draft.direction == "ended":
        raise CannotMigrate("The order has ended: it stays what it was.")
    if target.version == source.version:
        raise CannotMigrate(f"The order is of version {source.version} already.")
    _refuse_unknown(source, target, names)
    _refuse_reuse(draft, target, names)
    _refuse_unheard(draft, target, names)
    asks = [_renamed(ask, source, target, names) for ask in draft.asks.values()]
    state = _state(draft, target, asks)
    pivot_passed = _is_pivot_passed(draft, target, asks)
    _rename(draft, asks, names)
    if pivot_passed:
        draft.disarm("patience")
    draft.pivot_passed = pivot_passed
    draft.rulebook, draft.version, draft.state = target, target.version, state


def _refuse_unknown(source: Rulebook, target: Rulebook, names: Mapping[str, str]) -> None:
    for old, new in names.items():
        if old not in source.by_name:
            raise CannotMigrate(f"Version {source.version} has no step {old}: its steps are {', '.join(source.by_name)}.")
        if new not in target.by_name:
            raise CannotMigrate(f"Version {target.version} has no step {new}: its steps are {', '.join(target.by_name)}.")
    if len(set(names.values())) < len(names):
        raise CannotMigrate("Two steps cannot become one: give each a name of its own.")


def _refuse_reuse(draft: Draft, target: Rulebook, names: Mapping[str, str]) -> None:
    """Command ids are made of step names (R6): a name that was asked must not come to mean another step of the same order."""
    for old, new in names.items():
        if old != new and old in target.by_name and any(ask.step == old for ask in draft.asks.values()):
            raise CannotMigrate(
                f"{old} was asked, and version {target.version} has another step of that name: their command ids would meet."
            )


def _refuse_unheard(draft: Draft, target: Rulebook, names: Mapping[str, str]) -> None:
    """What others bring about comes whatever we do: the other version must listen for it, under the name that they know."""
    for step in draft.rulebook.watched:
        new, first = target.by_name.get(names.get(step.name, step.name)), first_ask(draft, step)
        if first is not None and first.forward in {"done", "refused"}:
            continue
        if new is None or not new.watched or (first is None and _listens(step) != _listens(new)):
            raise CannotMigrate(f"Others bring {step.name} about, and version {target.version} does not watch it under that name.")
    if draft.direction != "forward":
        asked = {names.get(ask.step, ask.step) for ask in draft.asks.values()}
        if more := [step.name for step in target.watched if step.name not in asked]:
            raise CannotMigrate(f"Version {target.version} watches {', '.join(more)}, and the order is being undone without.")
    for message in draft.parked.values():
        old, other = draft.rulebook.events.get(message["type"]), target.events.get(message["type"])
        if old is not None and (other is None or (old.undone_as is not None and other.undone_as is None)):
            raise CannotMigrate(f"The order keeps {old.type} for later, and version {target.version} does not take it, or cannot undo it.")


def _listens(step: StepRule) -> tuple[str, str, str, frozenset[str]]:
    return step.name, step.participant, step.done_on, step.refused_on


def _renamed(ask: Ask, source: Rulebook, target: Rulebook, names: Mapping[str, str]) -> Ask:
    """The ask under its name in the other version, which must understand what may still come of it."""
    old, new = source.by_name[ask.step], target.by_name.get(names.get(ask.step, ask.step))
    if new is None:
        raise CannotMigrate(f"Version {target.version} has no step {ask.step}: say which one it is, with its new name.")
    if ask.command_id:
        _refuse_misunderstanding(ask, old, new)
    return replace(ask, step=new.name)


def _refuse_misunderstanding(ask: Ask, old: StepRule, new: StepRule) -> None:
    """What was sent may be sent again, with the body it had, and answered: both must mean the same there."""
    if new.participant != ask.participant:
        raise CannotMigrate(f"{old.name} was asked of {ask.participant}, and {new.name} is asked of {new.participant}.")
    if new.command != old.command or new.done_on != old.done_on or not old.refused_on <= new.refused_on:
        raise CannotMigrate(f"{old.name} and {new.name} differ in command, done_on or refused_on: an answer would not be understood.")
    if old.undo is None:
        return
    if new.undo is None:
        raise CannotMigrate(f"The effect of {old.name} can be undone, and that of {new.name} cannot.")
    if ask.undo_attempts and (new.undo.command, new.undo.done_on) != (old.undo.command, old.undo.done_on):
        raise CannotMigrate(f"The undo of {old.name} was sent, and that of {new.name} differs in command or done_on.")


def _state(draft: Draft, target: Rulebook, asks: list[Ask]) -> str:
    """Where the order stands in the other version: in the stage of what it waits for."""
    if draft.direction == "undoing":
        ending = target.endings.get(draft.goal or "")
        if draft.goal is not None and (ending is None or ending.outcome != "failed"):
            raise CannotMigrate(f"The order is being undone to end in {draft.goal}, and version {target.version} has no such end.")
        rank = max((ask.rank for ask in asks if ask.undo_is_open), default=None)
        stage = next(_stage(target, ask) for ask in asks if ask.rank == rank)
        return undoing(stage.name)
    awaited = [ask for ask in asks if ask.is_open]
    if not awaited:
        return _waiting_state(draft, target)
    stages = {_stage(target, ask).index: _stage(target, ask) for ask in awaited}
    if len(stages) != 1:
        raise CannotMigrate(
            f"The order waits for {', '.join(ask.step for ask in awaited)}, which version {target.version} asks one after the other."
        )
    [stage] = stages.values()
    asked = {ask.step for ask in asks if _counts(ask, draft)}
    if missing := [step.name for step in stage.steps if step.name not in asked]:
        raise CannotMigrate(f"Version {target.version} asks {', '.join(missing)} beside it, and they were not asked.")
    _refuse_other_clocks(draft, target, stage)
    return stage.state


def _counts(ask: Ask, draft: Draft) -> bool:
    """Whether the ask is part of the way that the order is on: a watched step's first has epoch 0 whenever the order came to it (R6)."""
    return ask.epoch == draft.epoch or (ask.undo == "none" and (ask.is_awaited or ask.possibly_done))


def _waiting_state(draft: Draft, target: Rulebook) -> str:
    """The state in which the order waits for events: the other version must have it, and take there what may come."""
    old, new = draft.rulebook.by_state[draft.state], target.by_state.get(draft.state)
    if new is None or not old.awaits <= new.awaits:
        raise CannotMigrate(f"The order waits in {draft.state}, and version {target.version} does not wait there for the same events.")
    if not draft.joined.keys() <= new.all_of or (new.all_of and new.all_of <= draft.joined.keys()):
        raise CannotMigrate(
            f"Some of what {draft.state} waits for has come, and version {target.version} does not wait for all of the rest."
        )
    _refuse_other_clocks(draft, target, new)
    return new.state


def _refuse_other_clocks(draft: Draft, target: Rulebook, new: Stage) -> None:
    """The deadline and the reminders of a state run on, under its name and their places."""
    old = draft.rulebook.by_state[draft.state]
    if not (old.deadline or old.notices or new.deadline or new.notices):
        return
    clocks = [(stage.name, stage.deadline is None, [notice.every_ms is None for notice in stage.notices]) for stage in (old, new)]
    if clocks[0] != clocks[1]:
        raise CannotMigrate(f"The deadline or the reminders of {draft.state} are running, and version {target.version} has others there.")


def _is_pivot_passed(draft: Draft, target: Rulebook, asks: list[Ask]) -> bool:
    """Whether there is no way back in the other version. A way back that was closed is not opened again."""
    # On the way back a watched step may stand in the ledger that the order never came to.
    reached = [ask for ask in asks if ask.command_id and _counts(ask, draft) and (ask.attempts or draft.direction == "forward")]
    pivots = [ask for ask in reached if _stage(target, ask).pivot]
    passed = any(target.is_stage_past_pivot(_stage(target, ask)) for ask in reached)
    passed = passed or not all(ask.forward == "refused" for ask in pivots)
    if draft.pivot_passed and not passed:
        raise CannotMigrate(f"The order has passed its pivot, and has not passed that of version {target.version}.")
    if passed and draft.direction == "undoing":
        raise CannotMigrate(f"The order is being undone, and has passed the pivot of version {target.version}.")
    return passed


def _stage(target: Rulebook, ask: Ask) -> Stage:
    return target.stage_of(target.by_name[ask.step])


def _rename(draft: Draft, asks: list[Ask], names: Mapping[str, str]) -> None:
    keys = {old.key: new.key for old, new in zip(draft.asks.values(), asks, strict=True)}
    draft.asks = {ask.key: ask for ask in asks}
    draft.replies = {names.get(step, step): reply for step, reply in draft.replies.items()}
    deadlines = {}
    for name, deadline in draft.deadlines.items():
        what, colon, key = name.partition(":")
        renamed = f"{what}{colon}{keys.get(key, key)}"
        deadlines[renamed] = deadline if renamed == name else replace(deadline, name=renamed)
    draft.deadlines = deadlines

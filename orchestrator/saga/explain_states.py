"""A graph of states told in plain sentences: what each waits for, and what leads out of it."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.rules import EventCase, EventRule, Stage, StateDeadline, StepRule
from orchestrator.saga.sentences import NOTHING, Line, answered, asked, carrying, changes, final, refused, silent, standing
from orchestrator.saga.verdicts import PARKED_MAX
from orchestrator.saga.words import counted, duration, listed


def states(rulebook: Rulebook) -> Iterator[Line]:
    """The lines of all states."""
    for stage in rulebook.stages:
        yield from _end(rulebook, stage) if stage.ending is not None else _state(rulebook, stage)
    if rulebook.events:
        yield Line(
            0,
            f"An event that comes before its state is kept in the order, {PARKED_MAX} of them at most, until the state is reached. When "
            "the order turns back before, what the event stands for is undone with the rest.",
        )


def _state(rulebook: Rulebook, stage: Stage) -> Iterator[Line]:
    begins = ", where an order begins" if stage.index == 0 else ""
    if stage.steps:
        yield from _asking(rulebook, stage, stage.steps[0], begins)
    else:
        yield Line(0, f"{stage.state}{begins}: {_waits(stage)}")
    for name, cases in stage.events.items():
        yield from _event(rulebook, stage, rulebook.events[name], cases)
    if stage.all_of:
        yield Line(1, f"When {listed(sorted(stage.all_of))} {_have_come(stage)}{_follows(rulebook, rulebook.way.after(stage))}.")
    yield from (Line(1, text) for text in _clocks(stage))


def _asking(rulebook: Rulebook, stage: Stage, step: StepRule, begins: str) -> Iterator[Line]:
    mark = ", the point of no return" if step.pivot else ""
    called = f" (step {step.name})" if step.name != stage.state else ""
    yield Line(0, f"{stage.state}{called}{begins}{mark}: {asked(step)}")
    undone = "everything is undone" if any(one.undo is not None for one in rulebook.by_name.values()) else NOTHING
    refusal = undone if stage.on_refused is None else f"{stage.on_refused} follows"
    told = [answered(step, f", and{_follows(rulebook, rulebook.way.after(stage))}"), *([final(step)] if step.pivot else [])]
    told += [silent(step, undone), *refused(rulebook, step, refusal), *standing(rulebook, step)]
    yield from (Line(1, text) for text in told)


def _waits(stage: Stage) -> str:
    if not stage.awaits:
        return "nothing is awaited but its deadline."
    if stage.all_of:
        return f"it waits for {listed(sorted(stage.all_of))}, in any order."
    return f"it waits for {listed([*stage.events], 'or')}."


def _have_come(stage: Stage) -> str:
    return "have all come, each once," if len(stage.all_of) > 1 else "has come,"


def _follows(rulebook: Rulebook, place: object) -> str:
    """What comes next, as the tail of a sentence."""
    if not isinstance(place, Stage):
        return " the order stays here"
    return f" {place.state} follows" if place.name in rulebook.by_stage else ""


def _event(rulebook: Rulebook, stage: Stage, rule: EventRule, cases: tuple[EventCase, ...]) -> Iterator[Line]:
    """One event from outside, in one state."""
    whose = f"{rule.type}, from {rule.source}" if rule.source is not None else rule.type
    if len(cases) == 1:
        guard = f", when `{cases[0].when.text}`" if cases[0].when is not None else ""
        yield Line(1, f"{whose}{guard}: {_does(rulebook, stage, rule, cases[0])}")
    else:
        yield Line(1, f"{whose}: the first of these that holds.")
        for number, case in enumerate(cases):
            when = f"{'Else when' if number else 'When'} `{case.when.text}`" if case.when is not None else "Else"
            yield Line(2, f"{when}: {_does(rulebook, stage, rule, case)}")
    if rule.order_by is not None:
        yield Line(2, f"One whose {rule.order_by} is not above that of the one before is late.")
    guarded = all(case.when is not None for case in cases)
    if guarded:
        yield Line(2, "When that does not hold, it is refused, and the order waits on." if len(cases) == 1 else "Else it is refused.")
    if rule.undone_as is not None:
        reasons = [*(["refused"] if guarded else []), "late", *(["older"] if rule.order_by is not None else [])]
        reasons += ["repeated"] if rule.type in stage.all_of else []
        yield Line(2, f"One that is {listed(reasons, 'or')} is put back at once: what it stands for is undone.")


def _does(rulebook: Rulebook, stage: Stage, rule: EventRule, case: EventCase) -> str:
    if case.then is None:
        return f"{'it is noted' if rule.type in stage.all_of else 'the order stays here'}.{changes(case.set)}"
    target = rulebook.by_stage[case.then]
    is_failed = target.ending is not None and target.ending.outcome == "failed"
    leaves = " What was asked may be done: it is undone at once." if stage.steps and stage.can_be_undone and not is_failed else ""
    return f"{target.state} follows.{changes(case.set)}{leaves}"


def _clocks(stage: Stage) -> Iterator[str]:
    """What is told, when it ends by itself, and how often it can be entered."""
    for notice in stage.notices:
        when = "At the entry" if notice.every_ms is None else f"Every {duration(notice.every_ms)} while it lasts"
        yield f"{when} {notice.participant} is told {notice.command}{carrying(notice.fields)}; no answer is awaited."
    if stage.deadline is not None:
        yield _deadline(stage.deadline)
    elif not stage.steps:
        yield "It has no deadline of its own: patience ends it."
    if stage.at_most is not None:
        yield f"An order can enter it {counted(stage.at_most, 'time')}; in place of one more everything is undone."


def _deadline(deadline: StateDeadline) -> str:
    if deadline.at is None:
        return f"After {duration(deadline.after_ms or 0)} in it, {deadline.then} follows."
    return f"At the time that `{deadline.at.text}` says, {deadline.then} follows; the deadline moves with the order's data."


def _end(rulebook: Rulebook, stage: Stage) -> Iterator[Line]:
    """An end, and what it undoes."""
    assert stage.ending is not None
    if stage.ending.outcome == "completed":
        yield Line(0, f"{stage.state}: an end. The order is completed.")
        return
    undoable = [name for name, step in rulebook.by_name.items() if step.undo is not None]
    undone = [name for name in reversed(undoable) if name in stage.ending.undone]
    stands = [name for name in undoable if name not in stage.ending.undone]
    first = f" What was done of {listed(undone)} is undone first." if undone else " Nothing is undone first."
    left = f" What was done of {listed(stands)} is left standing, and listed in the history." if stands else ""
    yield Line(0, f"{stage.state}: an end. The order has failed.{first}{left}")

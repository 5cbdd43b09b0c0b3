"""What must hold: of every decision, of every order, and of every end, by what the participants did and not by what the order thinks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from orchestrator.contract import canonical, undo_id
from orchestrator.explore.rows import VOUCHED, in_place
from orchestrator.saga.decision import Decision
from orchestrator.saga.inputs import DeadlineDue, Input, Message, OperatorAct
from orchestrator.saga.order import Ask, Order
from orchestrator.saga.rulebook import Rulebook
from orchestrator.saga.standing import waiting_on, waits


def broken_by_decision(rulebook: Rulebook, before: Order, input_: Input, decision: Decision, *, is_answer: bool) -> str | None:
    """The first promise that a decision breaks, or None. `is_answer`: the input is an honest participant's answer to an ask or undo."""
    after = decision.order
    assert after is not None
    if isinstance(input_, Message) and input_.seen == "same":
        changed = decision.entry is not None or bool(decision.commands)
        return f"R15: {input_.envelope.type} was applied before, and its copy is applied again." if changed else None
    if is_answer and isinstance(input_, Message) and decision.verdict not in _verdicts(before, input_):
        return f"R1: {input_.envelope.type}, an honest answer, is {decision.verdict} ({decision.reason})."
    if isinstance(input_, DeadlineDue) and decision.verdict != "moved":
        return f"R18: the armed deadline {input_.name} does nothing when it fires ({decision.reason})."
    if decision.announcements and before.announced and after.epoch == before.epoch:
        return "R22: an end is announced a second time."
    if after.state == "compensated" and before.state != "compensated":
        open_ = [
            a.key for a in after.asks.values() if a.possibly_done and rulebook.by_name[a.step].undo and a.undo not in {"undone", "skipped"}
        ]
        if open_:
            return f"R13: compensated, and {', '.join(open_)} may be done and is not undone."
    was_standing = _standing_pivot(rulebook, before)
    if was_standing and before.pivot_passed and not after.pivot_passed and after.asks[was_standing.key].forward != "refused":
        return f"R12: there is a way back across the pivot {was_standing.key}, which was asked and not refused."
    faults = [*_sent(decision, after), *_first_undos(rulebook, before, input_, after), *_given_up(rulebook, before, input_, decision)]
    faults += _success_after_undo(rulebook, before, input_, decision, is_answer=is_answer)
    return next(iter(faults), None)


def broken_by_order(rulebook: Rulebook, order: Order) -> str | None:
    """The first promise that an order breaks by how it stands, or None (R27, R12)."""
    if is_over(order):
        return None if order.announced else "R22: the order is over, and its end was never announced."
    if not order.deadlines:
        return f"R27: the order is not over ({order.state}), and no deadline is armed."
    if not waits(order):
        return f"R27: the order is not over ({order.state}), and waits for nobody."
    for wait in waiting_on(rulebook, order):
        if wait["deadline_at"] is None and not order.held:
            return f"R27: the order waits for {wait['participant']} ({wait['for']}), and no deadline is armed for that."
    if order.direction == "undoing" and (standing := _standing_pivot(rulebook, order)):
        return f"R12: the order is being undone, and its pivot {standing.key} was asked and not refused."
    return None


def is_over(order: Order) -> bool:
    """Whether the order has ended and waits for nobody."""
    return order.direction == "ended" and not waits(order)


@dataclass(frozen=True, slots=True)
class Ending:
    """What an order that is over says of the effects of its asks, by their places in the ledger."""

    state: str
    keys: tuple[str, ...]
    #: Effects that nothing explains.
    forbidden: tuple[int, ...]
    #: Undone, says the order: an effect that is there must be vouched for by an operator.
    undone: tuple[int, ...]
    #: Kept, in two epochs, of one step: not both may be there.
    twice: tuple[tuple[int, int], ...]


def ending(rulebook: Rulebook, order: Order) -> Ending | None:
    """What an order that is over promises; None for one that is not."""
    if not is_over(order):
        return None
    asks = list(order.asks.values())
    kept = [place for place, ask in enumerate(asks) if ask.undo == "none" and ask.possibly_done and order.state == "completed"]
    explained = {*kept, *(place for place, ask in enumerate(asks) if ask.undo == "skipped" or _is_harmless(rulebook, ask))}
    undone = [place for place, ask in enumerate(asks) if ask.undo == "undone"]
    return Ending(
        state=order.state,
        keys=tuple(order.asks),
        forbidden=tuple(place for place in range(len(asks)) if place not in explained and place not in undone),
        undone=tuple(undone),
        twice=tuple(
            (one, other)
            for one, other in combinations(kept, 2)
            if asks[one].step == asks[other].step and asks[one].epoch != asks[other].epoch
        ),
    )


def broken_by_ending(end: Ending, rows: Sequence[Iterable[int]]) -> tuple[str, dict[int, int]] | None:
    """The first promise that an end breaks, by the participants' ledgers, or None (R10, R13, R22).

    `rows`: for each ask, by its place, every row that its participant may have; with the promise come the rows that break it, by place.
    """
    over = f"The order is over ({end.state})"
    for place in end.forbidden:
        for row in filter(in_place, rows[place]):
            return f"{over}, and the effect of {end.keys[place]} is there: neither kept, undone nor listed.", {place: row}
    for place in end.undone:
        for row in filter(in_place, rows[place]):
            if not row & VOUCHED:
                return f"{over}, and the effect of {end.keys[place]}, undone by its word, is there.", {place: row}
    for pair in end.twice:
        there = {place: row for place in pair for row in filter(in_place, rows[place])}
        if len(there) > 1:
            keys = " and ".join(end.keys[place] for place in pair)
            return f"{over}, and one step was done twice: {keys}.", there
    return None


def _is_harmless(rulebook: Rulebook, ask: Ask) -> bool:
    """Declared so by the author: its effect may stand whatever the end."""
    return ask.undo == "none" and rulebook.by_name[ask.step].harmless


def _standing_pivot(rulebook: Rulebook, order: Order) -> Ask | None:
    """An asking of the pivot that may have passed the point of no return: neither refused nor being undone by an operator's force."""
    for ask in order.asks.values():
        if rulebook.by_name[ask.step].pivot and ask.undo == "none" and ask.forward in {"asked", "unknown", "done"}:
            return ask
    return None


def _sent(decision: Decision, after: Order) -> Iterator[str]:
    """A command goes out only for what is open after the decision."""
    by_id = {ask.command_id: ask for ask in after.asks.values()}
    for command in decision.commands:
        ask = by_id.get(command.undoes or command.command_id)
        if ask is None:
            yield f"R6: {command.name} belongs to no ask."
        elif command.undoes is not None and not ask.undo_is_open:
            yield f"R11: {command.name} is sent, and the undo of {ask.key} is {ask.undo}."
        elif command.undoes is None and ask.forward != "asked":
            yield f"R5: {command.name} is sent, and {ask.key} is {ask.forward}."


def _first_undos(rulebook: Rulebook, before: Order, input_: Input, after: Order) -> Iterator[str]:
    """On the way back an undo is first sent when all that came after is undone, and none is sent once the pivot stands (R11, R12).

    What was asked side by side is undone side by side. Not so a force, which undoes at once what it leaves unexplained (R22), and a
    success after a refusal, undone at once (R14).
    """
    if isinstance(input_, OperatorAct) and input_.act == "force":
        return
    for key, ask in after.asks.items():
        was = before.asks.get(key)
        if was is None or was.undo != "none" or not ask.undo_attempts or was.undo_attempts or was.forward == "refused":
            continue
        if standing := _standing_pivot(rulebook, after):
            yield f"R12: {key} is undone, and the pivot {standing.key} was asked and not refused."
        for later in after.asks.values():
            waits_for_undo = later.undo == "none" and later.possibly_done and rulebook.by_name[later.step].undo is not None
            if later.rank > ask.rank and (later.undo_is_open or waits_for_undo):
                yield f"R11: {key} is undone before {later.key}, which came after it."


def _given_up(rulebook: Rulebook, before: Order, input_: Input, decision: Decision) -> Iterator[str]:
    """What nobody will undo is listed in the journal, and it is an operator's decision where there is an undo (R10, R13)."""
    after = decision.order
    assert after is not None
    given_up = [
        ask for key, ask in after.asks.items() if ask.undo == "skipped" and (key not in before.asks or before.asks[key].undo != "skipped")
    ]
    if not given_up:
        return
    listed = canonical.load(decision.entry.effects).get("left_standing", []) if decision.entry else []
    for ask in given_up:
        if ask.key not in listed:
            yield f"R10: {ask.key} is left standing, and not listed."
        if rulebook.by_name[ask.step].undo is not None and not isinstance(input_, OperatorAct):
            yield f"R13: {ask.key} is left standing, and no operator said so."


def _verdicts(before: Order, message: Message) -> set[str]:
    """What may be said of an honest participant's answer that is new: `moved` when it answers what is open (R1)."""
    for ask in before.asks.values():
        if message.envelope.commandid == ask.command_id:
            is_open = ask.forward in {"asked", "unknown"} and ask.undo == "none"
            return {"moved"} if is_open else {"duplicate", "late"}
        if ask.undo_attempts and message.envelope.commandid == undo_id(ask.command_id):
            return {"moved"} if ask.undo_is_open else {"duplicate", "late"}
    return set()


def _success_after_undo(rulebook: Rulebook, before: Order, input_: Input, decision: Decision, *, is_answer: bool) -> Iterator[str]:
    """A first success after the undo was sent: the undo goes out again (R14)."""
    if not is_answer or not isinstance(input_, Message):
        return
    for ask in before.asks.values():
        rule = rulebook.by_name[ask.step]
        is_it = input_.envelope.commandid == ask.command_id and input_.envelope.type == rule.done_on
        is_late = is_it and ask.forward != "done" and ask.undo in {"asked", "failing", "undone"}
        if is_late and not any(command.undoes == ask.command_id for command in decision.commands):
            yield f"R14: the success of {ask.key} came after its undo was sent, and the undo is not sent again."

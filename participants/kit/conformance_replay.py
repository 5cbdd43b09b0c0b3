"""Checks that a participant, in any language, rebuilds its state from a replay (R29). They speak the contract only.

::

    for check in CHECKS:
        check(ReplaySubject(live=..., rebuilt=...))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, Wire, encode
from orchestrator.contract.replay import Outcome, ReplayedCommand, encode_replay
from participants.kit.conformance import Ask, Subject, require


@dataclass(frozen=True, kw_only=True)
class ReplaySubject:
    """A participant under test, made anew for each check."""

    #: One with nothing behind it.
    live: Callable[[], Subject]
    #: One that was told this past, and takes live commands since. Whoever makes it sees that nothing was published meanwhile.
    rebuilt: Callable[[Sequence[Wire]], Subject]


def done(order: Ask) -> Wire:
    """Ask, and what the replay tells of it."""
    return _told(order.command(), order.ask(), "done")


def refused(order: Ask) -> Wire:
    """The same with data that it refuses."""
    data = order.subject.refused_data
    return _told(order.command(data=data), order.ask(data=data), "refused")


def undone(order: Ask) -> Wire:
    """Undo, and what the replay tells of it."""
    return _told(order.reversal(), order.undo(), "undone")


def what_was_done_is_there_again(subject: ReplaySubject) -> None:
    """Done, replayed → the effect is there, and copies get the answer of then."""
    before = subject.live()
    order = before.order()
    first = order.ask()
    after = subject.rebuilt([done(order)])
    require(after.totals() == before.totals(), "what was done is there again")
    _is_answered(order, after, first)
    require(after.totals() == before.totals(), "and is not done again")


def a_refusal_stands_again(subject: ReplaySubject) -> None:
    """Refused, replayed → nothing was changed, and copies get the refusal of then."""
    before = subject.live()
    order = before.order()
    told = refused(order)
    after = subject.rebuilt([told])
    require(after.totals() == before.totals(), "a refusal changes nothing")
    data = before.refused_data
    again = replace(order, subject=after).ask(attempt=2, data=data)
    require(encode(again) == encode(order.ask(data=data)), "a copy gets the refusal of then")


def what_was_undone_stays_undone(subject: ReplaySubject) -> None:
    """Done, undone, replayed → reversed; and the command is too late."""
    before = subject.live()
    order = before.order()
    after = subject.rebuilt([done(order), undone(order)])
    require(after.totals() == before.totals(), "what was undone is undone again")
    _is_too_late(order, after)


def a_tombstone_is_there_again(subject: ReplaySubject) -> None:
    """Undone before it came, replayed → too late, not executed."""
    before = subject.live()
    order = before.order()
    told = undone(order)
    after = subject.rebuilt([_told(order.command(), order.ask(), "too_late"), told])
    require(after.totals() == before.totals(), "what never happened does not happen in a replay")
    _is_too_late(order, after)


def what_was_not_answered_is_left_alone(subject: ReplaySubject) -> None:
    """No answer known, replayed → nothing; asked again it is done."""
    before = subject.live()
    order = before.order()
    after = subject.rebuilt([_told(order.command(), None, None)])
    require(after.totals() == before.totals(), "what has no answer is not done in a replay")
    answer = replace(order, subject=after).ask()
    require(answer.type == after.done_on, "it is done when it is asked again")


def a_replay_may_come_twice(subject: ReplaySubject) -> None:
    """All of it twice → as once."""
    before = subject.live()
    orders = [before.order() for _ in range(2)]
    told = [done(order) for order in orders]
    told += [undone(orders[0])] if before.undo is not None else []
    after = subject.rebuilt([*told, *told])
    require(after.totals() == before.totals(), "a replay that comes twice changes nothing the second time")


def _told(message: Envelope, answer: Envelope | None, outcome: Outcome | None) -> Wire:
    return encode_replay(ReplayedCommand(message=message, answer=answer, outcome=outcome))


def _is_answered(order: Ask, after: Subject, answer: Envelope) -> None:
    for attempt in (1, 2):
        again = replace(order, subject=after).ask(attempt=attempt)
        require(encode(again) == encode(answer), "a copy of what was done is answered with the message of then, byte for byte")


def _is_too_late(order: Ask, after: Subject) -> None:
    before = after.totals()
    again = replace(order, subject=after)
    require(again.ask(attempt=3).type == COMMAND_TOO_LATE, f"a command whose undo was replayed is answered {COMMAND_TOO_LATE}")
    require(encode(again.undo()) == encode(order.undo()), "and its undo is confirmed as then, byte for byte")
    require(after.totals() == before, "a command whose undo was replayed is not executed")


#: For every participant.
FORWARD_CHECKS: tuple[Callable[[ReplaySubject], None], ...] = (
    what_was_done_is_there_again,
    a_refusal_stands_again,
    what_was_not_answered_is_left_alone,
    a_replay_may_come_twice,
)
#: For those whose command can be undone.
UNDO_CHECKS: tuple[Callable[[ReplaySubject], None], ...] = (
    what_was_undone_stays_undone,
    a_tombstone_is_there_again,
)
CHECKS = FORWARD_CHECKS + UNDO_CHECKS


def checks(subject: Subject) -> tuple[Callable[[ReplaySubject], None], ...]:
    """Those that apply."""
    return FORWARD_CHECKS + (UNDO_CHECKS if subject.undo is not None else ())

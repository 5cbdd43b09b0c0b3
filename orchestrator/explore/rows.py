"""What the participant of each ask may have done, for all that Escrow has heard of it.

A participant works, refuses and reverses by itself, and nobody sees it before its answer arrives. So its moves are no moves of the
exploration: a *belief* holds every row that the participant's ledger may have, after any of them, and an answer that arrives keeps the rows
which can send it. This loses nothing and adds nothing. What a participant does hangs on what was published to it and on its own row alone,
never on the order or on other participants; so whatever it did before an answer arrives, or before the end is judged, is one way to a row
of the belief, and each row of a belief is brought about by some such way, whichever rows the others have. A run in which the moves are told
one by one is made of one without them by `orchestrator.explore.story`.

**One belief may cover another**: for each row of the other it has one from which all can come that can come from that, answers and effects
left in place alike. What was published more can come more; what was not heard can still come; what no operator has vouched for breaks a
promise sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

Answer = Literal["reply", "refusal", "too_late", "undone"]

# --- the row of one ask: what its participant remembers (R20), and what was said about it, as bits --------------------------------
#: The participant did it, and stored this reply.
DONE = 1
#: The participant refused it, and stored this reply.
REFUSED = 2
#: An undo came: reversed, or a tombstone for a command that never ran.
UNDONE = 4
#: Escrow has decided the stored reply: copies of it are seen (R15).
HEARD = 8
#: Escrow has decided the `CommandTooLate`.
LATE_HEARD = 16
#: The command was published at least once.
SENT = 32
#: The undo was published at least once.
UNDO_SENT = 64
#: An operator said by name that the undo was done by hand, and no success was heard since.
VOUCHED = 128

#: What everybody sees of a row: the same in all rows of a belief.
SEEN = HEARD | LATE_HEARD | SENT | UNDO_SENT | VOUCHED
#: The moves of a participant.
Act = Literal["works", "declines", "reverses"]


def in_place(row: int) -> bool:
    """Whether the participant did it, and did not reverse it."""
    return row & (DONE | UNDONE) == DONE


def acts_of(row: int, *, may_refuse: bool) -> Iterator[tuple[Act, int]]:
    """What the participant may do next, and its row then: at any time after it was asked, and each thing once."""
    if row & SENT and not row & (DONE | REFUSED | UNDONE):
        yield "works", row | DONE
        if may_refuse:
            yield "declines", row | REFUSED
    if row & UNDO_SENT and not row & UNDONE:
        yield "reverses", settled(row | UNDONE)


def after_answer(row: int, answer: Answer) -> int | None:
    """The row once an answer has arrived that was not heard before; None when the row can send no such answer."""
    if answer == "undone":
        return row if row & UNDO_SENT and row & UNDONE else None
    if not row & SENT:
        return None
    if answer == "too_late":
        return row | LATE_HEARD if row & UNDONE and not row & LATE_HEARD else None
    if row & HEARD or not row & (DONE if answer == "reply" else REFUSED):
        return None
    # Who heard of the success after an operator's word knows better than the operator did.
    return settled((row | HEARD) & ~VOUCHED if answer == "reply" else row | HEARD)


def settled(row: int) -> int:
    """A row whose stored reply was heard and which is undone: what it was before matters to nobody."""
    return row & ~(DONE | REFUSED) if row & UNDONE and row & HEARD else row


def _row_covers(row: int, other: int) -> bool:
    more, less = SENT | UNDO_SENT, HEARD | LATE_HEARD | VOUCHED
    if other & more & ~row or row & less & ~other:
        return False
    kept = DONE | REFUSED | UNDONE
    return row & kept == other & kept or bool(other & HEARD and other & row & UNDONE)


class Beliefs:
    """Beliefs by number, below 256: a world holds them as bytes. Every question is answered once."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bool, frozenset[int]], int] = {}
        #: Whether the participant may refuse, and the rows.
        self._met: list[tuple[bool, frozenset[int]]] = []
        self._published: dict[tuple[int, bool], int] = {}
        self._answered: dict[tuple[int, Answer], int | None] = {}
        self._covers: dict[tuple[int, int], bool] = {}
        #: Before anything was published; the participant may not refuse, and may.
        self.blank = self._number(frozenset({0}), may_refuse=False), self._number(frozenset({0}), may_refuse=True)

    def rows(self, belief: int) -> frozenset[int]:
        """Every row that the participant's ledger may have."""
        return self._met[belief][1]

    def may_refuse(self, belief: int) -> bool:
        """Whether the participant may refuse what it is asked."""
        return self._met[belief][0]

    def seen(self, belief: int) -> int:
        """The bits that everybody sees."""
        return next(iter(self._met[belief][1])) & SEEN

    def published(self, belief: int, *, is_undo: bool) -> int:
        """The command, or its undo, was published."""
        known = self._published.get((belief, is_undo))
        if known is None:
            bit = UNDO_SENT if is_undo else SENT
            known = self._published[belief, is_undo] = self._changed(belief, {row | bit for row in self.rows(belief)})
        return known

    def answered(self, belief: int, answer: Answer) -> int | None:
        """An answer arrived that is new to Escrow; None when there can be no such answer."""
        if (belief, answer) not in self._answered:
            rows = {after for row in self.rows(belief) if (after := after_answer(row, answer)) is not None}
            self._answered[belief, answer] = self._changed(belief, rows) if rows else None
        return self._answered[belief, answer]

    def vouched(self, belief: int) -> int:
        """An operator said that the undo was done by hand."""
        return self._changed(belief, {row | VOUCHED for row in self.rows(belief)})

    def lost(self, belief: int) -> list[int]:
        """After all that is under way is lost, as beliefs of a single row; what was published can come no more until it is sent anew.

        A participant that did nothing may still do what any other did, so it is left out where another is in.
        """
        rows = {row & ~(SENT | UNDO_SENT) for row in self.rows(belief)}
        at_most = {row for row in rows if row & (DONE | REFUSED | UNDONE)} or rows
        return [self._number(frozenset({row}), may_refuse=self.may_refuse(belief)) for row in sorted(at_most)]

    def covers(self, belief: int, other: int) -> bool:
        """Whether all that can come of the other can come of this one."""
        known = self._covers.get((belief, other))
        if known is None:
            rows = self.rows(belief)
            known = all(any(_row_covers(row, one) for row in rows) for one in self.rows(other))
            known = self._covers[belief, other] = known and self.may_refuse(belief) >= self.may_refuse(other)
        return known

    def _changed(self, belief: int, rows: set[int]) -> int:
        """The belief after these rows, and all that the participant may do from there."""
        may_refuse = self.may_refuse(belief)
        todo = list(rows)
        while todo:
            new = [after for _, after in acts_of(todo.pop(), may_refuse=may_refuse) if after not in rows]
            rows.update(new)
            todo += new
        return self._number(frozenset(rows), may_refuse=may_refuse)

    def _number(self, rows: frozenset[int], *, may_refuse: bool) -> int:
        number = self._numbers.setdefault((may_refuse, rows), len(self._met))
        if number == len(self._met):
            self._met.append((may_refuse, rows))
        return number

"""The mark of the database: the place in the recorder at which its recovery begins (R28), moved forward while workers run.

Who moves it says that nothing from before is missing. So a process looks first, once, whether the recorder has anything of since the mark
that the journal has not; and a database that another tool restored under a running process says so by its mark, which is older than one
that the process has seen. Then the mark stays, or the recovery would begin after what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from orchestrator.app.in_turn import InTurn, Jobs
from orchestrator.errors import EscrowError

#: What is said of a database that is older than it was.
REPLACED = (
    "the database is older than the recorder says: it was restored or replaced, and what was committed since is not in it. "
    "Fix: stop every process, run `escrow recover`, and start them"
)


class Marks:
    """Has one worker in turn move the mark; each remembers when the youngest that it saw was written."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        every: timedelta,
        marked_at: Callable[[], datetime | None],
        move: Callable[[], datetime | None],
        lacks: Callable[[], bool],
        replaced: Callable[[], object],
        failed: Callable[[EscrowError | OSError], object],
    ) -> None:
        """`marked_at`: when the database was marked; `move` marks it, and returns when, or None when it did not. Both by its clock.

        `lacks`: whether the journal lacks what the recorder has from since the mark.
        """
        self._marked_at = marked_at
        self._move = move
        self._lacks = lacks
        self._replaced = replaced
        self._failed = failed
        self._seen_at: datetime | None = None
        self._is_whole = False
        self._in_turn = InTurn(jobs, "mark", every=every, run=lambda _: self._run(), failed=failed)

    def ask(self) -> None:
        """Look at the mark, and move it when it is this worker's turn. Never raises for the database or the broker."""
        try:
            is_older = self._look()
        except EscrowError as error:
            self._failed(error)
            return
        if is_older:
            self._replaced()
        else:
            self._in_turn.ask()

    def _look(self) -> bool:
        """Whether the mark is older than one that was seen; else this one was seen."""
        at = self._marked_at()
        if self._seen_at is not None and (at is None or at < self._seen_at):
            return True
        self._seen_at = at
        return False

    def _run(self) -> None:
        if not self._is_whole and self._lacks():
            self._replaced()
            return
        self._is_whole = True
        self._seen_at = self._move() or self._seen_at

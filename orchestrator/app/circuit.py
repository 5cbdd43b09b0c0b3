"""What this worker sees of the participants' health (R8): who was asked, who spoke, and who many orders find silent.

The circuit itself is in the database, where all workers agree on it; here is what one of them knows as of its last tick, and what it has to
report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.saga.inputs import DeadlineDue, Message

#: Between two notes of a participant that is heard all the time, in seconds.
NOTE_EVERY_S = 5.0
#: Orders that are remembered for one participant: enough to tell half of them.
_REMEMBERED_MAX = 10_000


@dataclass(slots=True)
class _Seen:
    """Since the participant was last heard."""

    asked: set[str] = field(default_factory=set)
    overdue: set[str] = field(default_factory=set)
    #: When the first of them was found overdue, by the database's clock.
    first_at: datetime | None = None


def held_by(participant: str) -> str:
    """The owner of the messages that are kept back for a participant. It never beats."""
    return f"held:{participant}"


def participant_of(owner: str | None) -> str | None:
    """For whom an owner of messages keeps them back; None: it is a worker, or nobody."""
    return owner.removeprefix("held:") if owner is not None and owner.startswith("held:") else None


class Circuit:
    """Not thread-safe: it belongs to the handler thread. Times of notes are monotonic seconds."""

    def __init__(self, *, orders_min: int) -> None:
        self._orders_min = orders_min
        self._seen: dict[str, _Seen] = {}
        self._noted_s: dict[str, float] = {}
        self._spoke: set[str] = set()
        #: Whom this worker has ever asked: others that publish events are no participants.
        self._asked: set[str] = set()
        #: Those that are known to be silent, and those that recover: what is sent to them waits its turn.
        self.silent: frozenset[str] = frozenset()
        self.recovering: frozenset[str] = frozenset()

    @property
    def held(self) -> frozenset[str]:
        """Whose commands are kept back."""
        return self.silent | self.recovering

    def told(self, states: Mapping[str, str]) -> None:
        """What the database says of those that are not healthy."""
        self.silent = frozenset(name for name, state in states.items() if state == "silent")
        self.recovering = frozenset(states) - self.silent

    def noted(self, handled: Handled) -> None:
        """A batch was committed."""
        for work, outcome in handled.outcomes:
            self._note(work, outcome)

    def _note(self, work: Work, outcome: Outcome) -> None:
        decision = outcome.decision
        if decision is None or work.dry_run or work.order_id is None:
            return
        if isinstance(work.input, Message) and work.delivery is not None and decision.quarantine is None:
            self._spoke.add(work.input.envelope.source)
            self._seen.pop(work.input.envelope.source, None)
        for command in decision.commands:
            self._asked.add(command.participant)
            seen = self._seen.setdefault(command.participant, _Seen())
            if len(seen.asked) < _REMEMBERED_MAX:
                seen.asked.add(work.order_id)
        if isinstance(work.input, DeadlineDue) and not work.input.excused and decision.entry is not None and outcome.order is not None:
            what, _, key = work.input.name.partition(":")
            if what in {"reply", "undo_reply"} and key in outcome.order.asks:
                seen = self._seen.setdefault(outcome.order.asks[key].participant, _Seen())
                seen.overdue.add(work.order_id)
                seen.first_at = seen.first_at or decision.entry.at

    def revived(self) -> list[str]:
        """Silent participants that spoke since: each is told once."""
        spoke = sorted(self._spoke & self.silent)
        self.recovering |= frozenset(spoke)
        self.silent -= frozenset(spoke)
        return spoke

    def to_note(self, at_s: float) -> list[str]:
        """Participants that spoke, and of which that was not written down of late."""
        due = sorted(name for name in self._spoke & self._asked if at_s - self._noted_s.get(name, -NOTE_EVERY_S) >= NOTE_EVERY_S)
        self._noted_s |= dict.fromkeys(due, at_s)
        self._spoke.clear()
        return due

    def suspects(self) -> dict[str, datetime]:
        """Whom at least so many orders, and half of those that asked, find silent; since when."""
        found: dict[str, datetime] = {}
        for name, seen in self._seen.items():
            overdue, asked = len(seen.overdue), len(seen.asked | seen.overdue)
            if name not in self.silent and seen.first_at is not None and overdue >= self._orders_min and overdue * 2 >= asked:
                found[name] = seen.first_at
        return found

    def forget(self, name: str) -> None:
        """What was seen of it counts no more: somebody else heard it, or it is known to be silent."""
        self._seen.pop(name, None)

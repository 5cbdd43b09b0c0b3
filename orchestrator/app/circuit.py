"""What this worker sees of the participants' health (R8): who was asked, who spoke, and whom many orders find silent.

The circuit itself is in the database, where all workers agree on it; here is what one of them knows as of its last tick, and what it has to
report. Who asks is not who hears, nor who fires the deadline: so what each finds is told to all, and counts together. A mistake does little
harm: the first word of a participant that was called silent wrongly ends its silence in every worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.app.work import Handled, Outcome, Work
from orchestrator.saga.inputs import DeadlineDue, Message

#: Between two notes of a participant that is heard all the time, in seconds.
NOTE_EVERY_S = 2.0
#: So long must orders have found a participant silent: longer than another worker may have heard it and not yet have written it down.
SUSPECT_FOR = timedelta(seconds=3)
#: What has lasted so long is told to the others, to be counted when it has lasted long enough.
TOLD_AFTER = timedelta(seconds=2)
#: So long must its queue have been without a consumer: longer than a participant takes to be started anew.
UNATTENDED_FOR = timedelta(seconds=10)
#: Orders that are remembered for one participant: enough to tell half of them.
_REMEMBERED_MAX = 10_000
_HELD = "held:"


def held_by(participant: str) -> str:
    """The owner of the messages that are kept back for a participant. It never beats."""
    return f"{_HELD}{participant}"


def participant_of(owner: str | None) -> str | None:
    """For whom an owner of messages keeps them back; None: it is a worker, or nobody."""
    return owner.removeprefix(_HELD) if owner is not None and owner.startswith(_HELD) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many orders wait for a participant that is not heard, as one process finds it, or all of them together."""

    #: Orders that asked it, and orders whose deadline passed.
    asked: int = 0
    overdue: int = 0
    #: Both, each counted once, in processes that found any overdue.
    waiting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What one process tells the others."""

    found: Found
    #: The database's time of the first of them.
    since: datetime


@dataclass(slots=True)
class _Orders:
    """Some orders, and since when there are any. Times are the database's."""

    since: datetime | None = None
    ids: set[str] = field(default_factory=set)

    def add(self, order_id: str, at: datetime) -> None:
        self.since = self.since or at
        if len(self.ids) < _REMEMBERED_MAX:
            self.ids.add(order_id)

    def last(self, now: datetime, least: timedelta) -> bool:
        return self.since is not None and now - self.since >= least


@dataclass(slots=True)
class _Seen:
    """Since the participant was last heard."""

    asked: _Orders = field(default_factory=_Orders)
    overdue: _Orders = field(default_factory=_Orders)
    #: Since when its queue is found without a consumer.
    unattended_at: datetime | None = None

    def suspicion(self, now: datetime) -> Suspicion | None:
        """Of what has lasted for a while."""
        lasting = [orders for orders in (self.asked, self.overdue) if orders.last(now, TOLD_AFTER)]
        if not lasting:
            return None
        overdue = self.overdue.ids if self.overdue in lasting else set()
        found = Found(
            asked=len(self.asked.ids) if self.asked in lasting else 0,
            overdue=len(overdue),
            waiting=len(self.asked.ids | overdue) if overdue else 0,
        )
        return Suspicion(found=found, since=min(orders.since for orders in lasting if orders.since is not None))


class Circuit:
    """Not thread-safe: it belongs to the handler thread. Times of notes are monotonic seconds, all others the database's."""

    def __init__(self, *, orders_min: int) -> None:
        self._orders_min = orders_min
        self._seen: dict[str, _Seen] = {}
        self._noted_s: dict[str, float] = {}
        #: Who spoke since the last tick, and of whom a word was not written down yet.
        self._spoke: set[str] = set()
        self._unnoted: set[str] = set()
        #: Whom this worker knows as participants: others publish events, too.
        self._known: set[str] = set()
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
            if not work.dry_run and work.order_id is not None:
                self._note(work, work.order_id, outcome)

    def _note(self, work: Work, order_id: str, outcome: Outcome) -> None:
        decision = outcome.decision
        if decision is None:
            return
        if isinstance(work.input, Message) and work.delivery is not None and decision.quarantine is None:
            self._heard(work.input.envelope.source, is_answer=bool(decision.answered))
        if decision.entry is None:
            return
        for command in decision.commands:
            self._known.add(command.participant)
            # Later attempts are those of orders that are overdue; another process may have asked first.
            if command.attempt == 1:
                self._seen.setdefault(command.participant, _Seen()).asked.add(order_id, decision.entry.at)
        if isinstance(work.input, DeadlineDue) and not work.input.excused and outcome.order is not None:
            what, _, key = work.input.name.partition(":")
            if what in {"reply", "undo_reply"} and key in outcome.order.asks:
                participant = outcome.order.asks[key].participant
                self._seen.setdefault(participant, _Seen()).overdue.add(order_id, decision.entry.at)

    def _heard(self, source: str, *, is_answer: bool) -> None:
        self._spoke.add(source)
        self._seen.pop(source, None)
        if is_answer:
            self._known.add(source)

    def revived(self) -> list[str]:
        """Silent participants that spoke since the last tick: each is told once."""
        spoke = sorted(self._spoke & self.silent)
        self.recovering |= frozenset(spoke)
        self.silent -= frozenset(spoke)
        return spoke

    def to_note(self, at_s: float) -> list[str]:
        """Participants that spoke, and of which that is to be written down now. The last word of each is, `NOTE_EVERY_S` later at most."""
        self._unnoted |= self._spoke & self._known
        self._spoke.clear()
        due = sorted(name for name in self._unnoted if at_s - self._noted_s.get(name, -NOTE_EVERY_S) >= NOTE_EVERY_S)
        self._noted_s |= dict.fromkeys(due, at_s)
        self._unnoted.difference_update(due)
        return due

    def suspicions(self, now: datetime) -> dict[str, Suspicion]:
        """What this process finds of those that are not known to be silent, for all to count."""
        found = ((name, seen.suspicion(now)) for name, seen in self._seen.items() if name not in self.silent)
        return {name: suspicion for name, suspicion in found if suspicion is not None}

    def unanswered(self, now: datetime, together: Mapping[str, Found]) -> list[str]:
        """Whom enough orders have asked in vain for a while: is anybody at their queues? `together`: what all processes found."""
        return sorted(name for name in self._suspected(now, together) if self._is_asked(together[name]))

    def attended(self, name: str, now: datetime, consumers: int | None) -> None:
        """How many consumers a participant's queue has; None: not known."""
        seen = self._seen.get(name)
        if seen is not None:
            seen.unattended_at = None if consumers != 0 else seen.unattended_at or now

    def suspects(self, now: datetime, together: Mapping[str, Found]) -> dict[str, datetime]:
        """Who seems to be silent, and since when: so many orders at least, and half of those that asked, found it so; or so many asked
        it, and nobody is at its queue. `together`: what all processes found.
        """
        suspects: dict[str, datetime] = {}
        for name, (seen, since) in self._suspected(now, together).items():
            found = together[name]
            if found.overdue >= self._orders_min and found.overdue * 2 >= found.waiting:
                suspects[name] = since
            elif seen.unattended_at is not None and self._is_asked(found) and now - seen.unattended_at >= UNATTENDED_FOR:
                suspects[name] = seen.unattended_at
        return suspects

    def _suspected(self, now: datetime, together: Mapping[str, Found]) -> dict[str, tuple[_Seen, datetime]]:
        """Those of them that this process, too, has not heard for long enough, and since when."""
        suspected = {}
        for name, seen in self._seen.items():
            lasting = [orders.since for orders in (seen.overdue, seen.asked) if orders.since and orders.last(now, SUSPECT_FOR)]
            if lasting and name in together and name not in self.silent:
                suspected[name] = seen, lasting[0]
        return suspected

    def _is_asked(self, found: Found) -> bool:
        return max(found.asked, found.overdue) >= self._orders_min

    def fell_silent(self, name: str) -> None:
        """The database agrees that it is silent. A word of before that is no sign of life any more."""
        self.silent |= {name}
        self.recovering -= {name}
        self._unnoted.discard(name)
        self._seen.pop(name, None)

    def was_heard(self, name: str, since: datetime) -> None:
        """What began by then counts no more: somebody heard the suspect after it began, or called it silent before."""
        seen = self._seen.get(name)
        if seen is not None and any(orders.since is not None and orders.since <= since for orders in (seen.asked, seen.overdue)):
            del self._seen[name]

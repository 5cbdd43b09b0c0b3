"""Care for the participants' health (R8, R29): tell the database what was seen, try the silent, send those that are back what they miss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from orchestrator.app.circuit import Circuit, Suspicion, held_by
from orchestrator.app.fire import work_of
from orchestrator.app.fleet import Beat, Fleet
from orchestrator.app.ports import Bus
from orchestrator.app.watch import Watcher
from orchestrator.app.work import Handled, Work


class Carry(Protocol):
    """Take inputs along the line."""

    def __call__(self, works: list[Work]) -> Handled:
        """One batch, committed on return."""


class Care:
    """What the line does for the health of participants. On the handler thread."""

    def __init__(self, circuit: Circuit, bus: Bus, fleet: Fleet, watcher: Watcher, *, batch_count_max: int, queue_count_max: int) -> None:
        """`queue_count_max`: commands that may lie in the queue of a participant that recovers, before it is sent more."""
        self._circuit = circuit
        self._bus = bus
        self._fleet = fleet
        self._watcher = watcher
        self._batch_count_max = batch_count_max
        self._queue_count_max = queue_count_max
        #: What this process has told the others, and under which name.
        self._told: tuple[str, Mapping[str, Suspicion]] = ("", {})

    def handled(self, handled: Handled, persist: Callable[[Callable[[], bool]], bool]) -> None:
        """A batch was committed. A silent participant that spoke in it is back at once, not at the next tick."""
        self._circuit.noted(handled)
        self._revive(persist)

    def owners(self, beat: Beat) -> Sequence[str | None]:
        """Whose messages are to be adopted: of the dead, and those kept back. One that recovers may have none left: then it is healthy.

        Not of one that recovers and has not read what it was sent: it is slower than the pace, and more would grow late there.
        """
        self._circuit.told(beat.unwell)
        recovering = sorted(self._circuit.recovering)
        behind = {held_by(name) for name in recovering if self._is_behind(name)}
        return [owner for owner in dict.fromkeys([*beat.dead_owners, *map(held_by, recovering)]) if owner not in behind]

    def suspect(self, beat: Beat, incarnation: str) -> None:
        """Once a tick, in every process that asks: tell what it finds, and call silent whom all of them together find so."""
        circuit = self._circuit
        _, told = self._told
        for name in beat.refuted:
            if name in told:
                circuit.was_heard(name, told[name].since)
        for name in circuit.unanswered(beat.now, beat.suspected):
            queue = self._bus.command_queue(name)
            circuit.attended(name, beat.now, None if queue is None else queue.consumers)
        for name, since in circuit.suspects(beat.now, beat.suspected).items():
            if self._fleet.silence(name, since):
                circuit.fell_silent(name)
                self._watcher.fell_silent(name)
            else:
                circuit.was_heard(name, beat.now)
        found = incarnation, circuit.suspicions(beat.now)
        if found != self._told and (told or found[1]):
            self._fleet.tell_suspicions(*found)
        self._told = found

    def ticked(self, beat: Beat, at_s: float, carry: Carry) -> None:
        """Once a tick, after what is due was fired. `at_s`: monotonic."""
        circuit = self._circuit
        # Another worker may have found it silent while this one heard it.
        self._revive(lambda ask: ask())
        if names := circuit.to_note(at_s):
            self._fleet.heard(names)
        for name in sorted(circuit.silent):
            # What is kept back goes first; it is let out with the messages of the dead.
            canary = self._fleet.canary(name) if held_by(name) not in beat.dead_owners else None
            if canary is not None:
                carry([work_of(canary, heard_since=None)])
        for name in sorted(circuit.recovering):
            self._go_on_resync(name, carry)

    def _is_behind(self, name: str) -> bool:
        queue = self._bus.command_queue(name)
        return queue is not None and queue.ready > self._queue_count_max

    def _revive(self, persist: Callable[[Callable[[], bool]], bool]) -> None:
        for name in self._circuit.revived():
            if persist(partial(self._fleet.recover, name)):
                self._watcher.recovering(name)

    def _go_on_resync(self, name: str, carry: Carry) -> None:
        """Send anew what comes next. What was sent is not found again, so a worker killed here leaves nothing out."""
        due = self._fleet.to_resync(name, self._batch_count_max)
        if due:
            carry([work_of(each, heard_since=None) for each in due])
        elif due is not None:
            self._fleet.resynced(name)

"""What a line takes in besides what comes from the bus: ticks; and how much of all of it at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tick:
    """The metronome's only word: beat, fire what is due, adopt what is orphaned."""

    #: Monotonic, when it was said.
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a line takes in."""

    #: Accept a message only from the broker user that its `source` names.
    require_user_id: bool
    batch_count_max: int
    batch_bytes_max: int
    linger_s: float
    drain_grace_s: float
    #: A longer time between two ticks means that this process stood still, and heard nothing meanwhile (R9).
    tick_gap_max_s: float
    #: Commands that may lie in the queue of a participant that recovers, before it is sent more (R8).
    queue_count_max: int

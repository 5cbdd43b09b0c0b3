"""What a participant can be told to do wrong, at run time: for demos, drills and tests."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from orchestrator.contract import Envelope, decode, encode
from orchestrator.contract.ids import is_order_id
from participants.kit.transport import Published

#: Seconds that answers can be delayed at most.
LATE_S_MAX = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The faults that are on. The default is a participant that works.

    Raises: ValueError for a value out of range.
    """

    #: Take no commands and publish nothing, until told otherwise.
    stall: bool = False
    #: Let go of the bus until told otherwise, as if the process were dead: commands wait in their queue, events published meanwhile
    #: are gone.
    down: bool = False
    #: How many new commands to refuse, or all. Undos are never refused.
    refuse: int | Literal["all"] = 0
    #: Seconds by which replies are published late; their effect and their row are committed at once.
    late_s: float = 0.0
    #: Publish every reply twice.
    twice: bool = False
    #: Publish every reply with another order's id; the stored reply keeps the right one.
    wrong_order: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.late_s <= LATE_S_MAX:
            raise ValueError(f"late_s is {self.late_s}; it must be between 0 and {LATE_S_MAX:.0f} seconds.")
        if self.refuse != "all" and self.refuse < 0:
            raise ValueError(f"refuse is {self.refuse}; it must be a number from 0, or 'all'.")

    @property
    def is_idle(self) -> bool:
        """Whether nothing is taken and nothing published."""
        return self.stall or self.down

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Faults:
    """The present settings. Safe to use from several threads."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._changed = threading.Condition()
        self._settings = settings or Settings()
        self._told_to_refuse: set[str] = set()

    @property
    def settings(self) -> Settings:
        """What is on now; `refuse` counts down as commands are refused."""
        with self._changed:
            return self._settings

    def set(self, settings: Settings) -> None:
        """Replace all of it."""
        with self._changed:
            self._settings = settings
            self._changed.notify_all()

    def wait_while_idle(self, timeout_s: float) -> bool:
        """Wait until neither stalled nor down, at most so long; whether it still is."""
        with self._changed:
            return not self._changed.wait_for(lambda: not self._settings.is_idle, timeout_s)

    def refuse(self, command_id: str) -> bool:
        """Whether to refuse this new command. Counted once a command, however often its batch is run again."""
        with self._changed:
            left = self._settings.refuse
            if left == "all" or command_id in self._told_to_refuse:
                return True
            if left == 0:
                return False
            self._settings = replace(self._settings, refuse=left - 1)
            self._told_to_refuse.add(command_id)
            return True

    def distort(self, messages: list[Published]) -> list[Published]:
        """What to publish instead of these replies."""
        settings = self.settings
        if settings.wrong_order:
            messages = [_with_wrong_order(message) for message in messages]
        return [message for message in messages for _ in range(2 if settings.twice else 1)]


def _with_wrong_order(message: Published) -> Published:
    envelope: Envelope = decode(message.wire)
    wrong = f"wrong-{message.order_id}"
    order_id = wrong if is_order_id(wrong) else "wrong"
    return replace(message, order_id=order_id, wire=encode(replace(envelope, subject=order_id)))

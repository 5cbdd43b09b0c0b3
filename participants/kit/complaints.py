"""What is wrong with many messages, told of the first ones and counted of the others: a log that tells of a million helps nobody."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

#: Lines of one kind.
TOLD_MAX = 20


class Complaints:
    """Kinds are told apart by their `action`. Of work that is done again after a rollback it is told again."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._counts: Counter[str] = Counter()

    def tell(
        self, action: str, message: str, *values: object, level: int = logging.WARNING, error: Exception | None = None, **extra: Any
    ) -> None:
        """One more; `message` and `values` as loggers take them."""
        self._counts[action] += 1
        if self._counts[action] <= TOLD_MAX:
            self._log.log(level, message, *values, exc_info=error, extra={"action": action, **extra})

    def sum_up(self) -> None:
        """Say how many there were of each kind that was not told to its end."""
        for action, count in sorted(self._counts.items()):
            if count > TOLD_MAX:
                self._log.warning("%s: %d times, of which the first %d were told.", action, count, TOLD_MAX, extra={"action": action})

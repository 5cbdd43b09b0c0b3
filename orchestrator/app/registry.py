"""The definitions a process knows: rulebooks compiled once, read from the table when an order is pinned to one not seen yet (R30)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.app.ports import Store
from orchestrator.contract import COMMAND_TOO_LATE, canonical
from orchestrator.errors import InvariantViolated, NotFound
from orchestrator.saga.rulebook import Rulebook


class Registry:
    """Rulebooks by (name, version), and which definition an event type opens. Safe to share between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rulebooks: dict[tuple[str, int], Rulebook] = {}
        self._openers: dict[str, tuple[str, int] | None] = {}
        self._types: frozenset[str] = frozenset({COMMAND_TOO_LATE})

    def rulebook(self, name: str, version: int) -> Rulebook:
        """A registered version. Raises: InvariantViolated when it is not in the table: no order can be pinned to it."""
        known = self._rulebooks.get((name, version))
        if known is not None:
            return known
        document = self._store.stored_definition(name, version)
        if document is None:
            raise InvariantViolated(f"The definition {name} version {version} is not registered.")
        return self._rulebooks.setdefault((name, version), Rulebook(canonical.load(document)))

    def latest(self, name: str) -> Rulebook:
        """The highest registered version of a definition. Raises: NotFound."""
        version = self._store.latest_version(name)
        if version is None:
            raise NotFound(f"There is no definition called {name}.")
        return self.rulebook(name, version)

    def opener(self, event_type: str) -> Rulebook | None:
        """The definition that the type opens, by the mark of the latest start, as of the last `renew`."""
        if event_type not in self._openers:
            self._openers[event_type] = self._store.opener(event_type)
        marked = self._openers[event_type]
        return None if marked is None else self.rulebook(*marked)

    def renew(self, event_types: Iterable[str]) -> None:
        """Read the marks again for those of the types that open orders: once a batch, before its transaction."""
        for event_type in set(event_types):
            if self._openers.get(event_type) is not None:
                self._openers[event_type] = self._store.opener(event_type)

    def knows(self, event_type: str) -> bool:
        """Whether any registered definition names the type; the table is read again before it is called unknown."""
        if event_type not in self._types:
            self._types = self._store.known_types() | {COMMAND_TOO_LATE}
            self._openers = {}
        return event_type in self._types

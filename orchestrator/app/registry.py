"""The definitions a process knows: rulebooks compiled once, read from the table when an order is pinned to one not seen yet (R30)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.app.ports import Store
from orchestrator.contract import COMMAND_TOO_LATE, canonical
from orchestrator.errors import InvariantViolated, NotFound
from orchestrator.saga.rulebook import Rulebook

#: The highest version that a definition can have.
VERSION_MAX = 1_000_000


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

    def find(self, name: str, version: object) -> Rulebook | None:
        """A registered version, if there is one."""
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= VERSION_MAX:
            return None
        registered = (name, version) in self._rulebooks or self._store.stored_definition(name, version) is not None
        return self.rulebook(name, version) if registered else None

    def latest(self, name: str) -> Rulebook:
        """The version of a definition that new orders get, by the mark of the latest start. Raises: NotFound."""
        version = self._store.latest_version(name)
        if version is None:
            raise NotFound(f"There is no definition called {name}.")
        return self.rulebook(name, version)

    def opener(self, event_type: str) -> Rulebook | None:
        """The definition that the type opens, by the mark of the latest start, as of the last tick."""
        marked = self._openers.get(event_type)
        return None if marked is None else self.rulebook(*marked)

    def renew(self, event_types: Iterable[str]) -> None:
        """Once a batch, before its transaction: read the table again before any of its types is called unknown, and the marks not known."""
        wanted = set(event_types)
        if not wanted <= self._types:
            known = self._store.known_types() | {COMMAND_TOO_LATE}
            if known != self._types:
                self._types, self._openers = known, {}
        for event_type in wanted & self._types:
            if event_type not in self._openers:
                self._openers[event_type] = self._store.opener(event_type)

    def forget_marks(self) -> None:
        """Once a tick: what opens orders is read again, so a new release's mark counts in every process within a tick of its start."""
        self._openers.clear()

    def knows(self, event_type: str) -> bool:
        """Whether any registered definition names the type, as of the last `renew` of it."""
        return event_type in self._types

"""What a replay waits for: no event that came before is in the inbox, or in the hands of a worker (R29)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import draining, wiring
from orchestrator.app.ports import CommandQueue
from orchestrator.draining import wait_until_drained
from orchestrator.errors import Conflict

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STEP_S = 0.5


class World:
    """A broker and workers, at one clock. At each step something may happen; workers keep up, but for those that do not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inbox: CommandQueue | None = CommandQueue(ready=0, consumers=1)
        self.readers: dict[str, datetime | None] = {"a": NOON}
        self.stuck: set[str] = set()
        self.steps = 0
        self._happens: dict[int, Callable[[], None]] = {}
        monkeypatch.setattr(wiring, "sleep", lambda _: self._step())
        monkeypatch.setattr(wiring, "monotonic", lambda: self.steps * STEP_S)

    def now(self) -> datetime:
        """The database's clock."""
        return NOON + timedelta(seconds=self.steps * STEP_S)

    def at(self, step: int, happens: Callable[[], None]) -> None:
        """Let something happen then."""
        self._happens[step] = happens

    def wait(self) -> int:
        """Wait; how many steps that took."""
        wait_until_drained(lambda: self.inbox, lambda: dict(self.readers), self.now)
        return self.steps

    def _step(self) -> None:
        self.steps += 1
        self._happens.get(self.steps, lambda: None)()
        self.readers |= {name: self.now() for name in self.readers.keys() - self.stuck}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """One worker, and nothing in the inbox."""
    return World(monkeypatch)


def test_it_waits_until_workers_have_handled_what_they_took(world: World) -> None:
    """If it failed, an answer that is on its way to a worker would be told as missing."""
    assert 4 < world.wait() < 8


def test_a_worker_that_holds_a_batch_for_long_is_waited_for(world: World) -> None:
    """If it failed, the answers in its hands would be told as missing, and be asked for by nobody once it is done with them."""
    world.inbox, world.readers = CommandQueue(ready=0, consumers=2), {"a": NOON, "b": NOON}
    world.stuck = {"b"}
    world.at(60, world.stuck.clear)
    assert world.wait() >= 60


def test_a_worker_that_does_not_beat_is_waited_for(world: World) -> None:
    """If it failed, a worker that is frozen with answers in its hands, and wakes up, would journal them after they were told as missing."""
    world.inbox = CommandQueue(ready=0, consumers=2)

    def drop() -> None:
        world.inbox = CommandQueue(ready=0, consumers=1)

    world.at(40, drop)
    assert world.wait() > 44


def test_what_a_worker_left_behind_is_waited_for(world: World) -> None:
    """If it failed, what went from a worker that left to another would count as handled, because both had handled all before."""

    def replace() -> None:
        world.readers = {"b": world.now()}

    world.at(4, replace)
    assert world.wait() > 8


@pytest.mark.parametrize(
    ("inbox", "readers", "said"),
    [
        (None, {"a": NOON}, "does not say how many"),
        (CommandQueue(ready=3, consumers=1), {"a": NOON}, "3 events wait in the inbox"),
        (CommandQueue(ready=0, consumers=0), {"a": NOON}, "No worker consumes"),
        (CommandQueue(ready=0, consumers=0), {}, "No worker consumes"),
        (CommandQueue(ready=0, consumers=None), {"a": NOON}, "No worker consumes"),
        (CommandQueue(ready=0, consumers=2), {"a": NOON}, "2 consumers and 1 workers"),
        (CommandQueue(ready=0, consumers=1), {"old": None}, "old may still have events"),
    ],
)
def test_what_is_not_known_is_not_drained(world: World, inbox: CommandQueue | None, readers: dict[str, datetime | None], said: str) -> None:
    """If it failed, a broker that cannot be asked, or whose queue has no leader, would be taken for one that has nothing."""
    world.inbox, world.readers, world.stuck = inbox, readers, set(readers)
    with pytest.raises(Conflict, match=said):
        world.wait()
    assert world.now() - NOON > timedelta(seconds=draining._DRAINED_WITHIN_S)

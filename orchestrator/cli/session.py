"""What a command needs of the world beside its arguments. Tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import httpx
import typer

from orchestrator.config import Settings, load

if TYPE_CHECKING:
    from orchestrator.app.rebuild import Rebuilt
    from orchestrator.app.restore import Report

#: Told while very much is gone through: how much was done, and how much there is.
Progress = Callable[[int, int], None]


def _now() -> datetime:
    from orchestrator import wiring

    return wiring.now()


def _monotonic() -> float:
    from orchestrator import wiring

    return wiring.monotonic()


def _sleep(seconds: float) -> None:
    from orchestrator import wiring

    wiring.sleep(seconds)


def _new_id() -> str:
    from orchestrator import wiring

    return wiring.new_id()


def _new_token() -> str:
    from orchestrator import wiring

    return wiring.new_token()


def _participants(settings: Settings) -> Collection[str]:
    from orchestrator import loading

    return loading.participants_of(loading.load_definitions(settings.definitions, shipped=settings.shipped_names))


def _verify(settings: Settings, *, deep: bool = False, processes: int | None = None, progress: Progress | None = None) -> Report:
    from orchestrator import wiring

    return wiring.verify(settings, deep=deep, processes=processes, progress=progress)


def _rebuild(settings: Settings, *, order_id: str | None = None, processes: int | None = None, progress: Progress | None = None) -> Rebuilt:
    from orchestrator import wiring

    return wiring.rebuild(settings, order_id=order_id, processes=processes, progress=progress)


@dataclass(slots=True)
class Session:
    """One run of the command line. The real clock and ids come from the composition root, imported when they are needed."""

    #: Read when a command needs them, so `escrow --help` works with any environment.
    settings: Callable[[], Settings] = load
    now: Callable[[], datetime] = _now
    #: Seconds that never go back.
    monotonic: Callable[[], float] = _monotonic
    #: Wait, in seconds.
    sleep: Callable[[float], None] = _sleep
    #: A new unique id (a UUID as text).
    new_id: Callable[[], str] = _new_id
    #: A new API token.
    new_token: Callable[[], str] = _new_token
    #: Every participant that the definitions name. Raises: DefinitionError, SettingsError.
    participants: Callable[[Settings], Collection[str]] = _participants
    #: Fold every journal and compare. Raises: SettingsError, StoreUnavailable.
    verify: Callable[..., Report] = _verify
    #: Lay out orders anew from their journals. Raises: SettingsError, Conflict, StoreForbidden, StoreBusy, StoreUnavailable.
    rebuild: Callable[..., Rebuilt] = _rebuild
    #: How HTTP leaves; None: over the network.
    transport: httpx.BaseTransport | None = field(default=None)
    #: Whether an error shows its traceback.
    debug: bool = False


def session_of(ctx: typer.Context) -> Session:
    """The session of a running command."""
    session = ctx.obj
    assert isinstance(session, Session)
    return session

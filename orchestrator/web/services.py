"""What the web layer is given to work with. The composition root makes it; nothing here opens a connection or reads a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from orchestrator.app.operate import Gateway
    from orchestrator.app.registry import Registry
    from orchestrator.store.queries import Queries
    from orchestrator.store.tokens import Tokens


class Claimed(Protocol):
    """The stored row of an idempotency key: the first caller's."""

    @property
    def order_id(self) -> str:
        """The order that the key stands for."""

    @property
    def fingerprint(self) -> str:
        """Of the body that the key was first used with."""


class ClaimKey(Protocol):
    """Store an idempotency key, or find who stored it first."""

    def __call__(self, *, key: str, actor: str, fingerprint: str, order_id: str, now: datetime) -> Claimed:
        """The stored row: the first caller's wins. Idempotent. Raises: StoreUnavailable."""


class Audit(Protocol):
    """Write one line of the audit."""

    def __call__(self, *, at: datetime, actor: str, act: str, order_id: str | None, outcome: str, detail: str) -> None:
        """Committed on return. Raises: StoreUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a process looks at to say whether it is ready."""

    #: By name (`database`, `broker`, `ticking`), whether it is there.
    checks: Mapping[str, bool]
    #: Those that must be there before this process is sent work; the others are shown.
    needed: frozenset[str]

    @property
    def missing(self) -> list[str]:
        """What is needed and not there."""
        return sorted(name for name in self.needed if not self.checks[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a request may use."""

    #: The way into the line, for `app.operate`.
    gateway: Gateway
    #: The read side.
    queries: Queries
    registry: Registry
    tokens: Tokens
    claim_key: ClaimKey
    audit: Audit
    #: Send a participant again what is outstanding for it, and was last sent since an instant.
    begin_resync: Callable[[str, datetime | None], None]
    #: The exposition of Prometheus.
    metrics_text: Callable[[], bytes]
    readiness: Callable[[], Readiness]
    #: Aware UTC.
    now: Callable[[], datetime]
    #: A new order id for those who bring none.
    new_id: Callable[[], str]

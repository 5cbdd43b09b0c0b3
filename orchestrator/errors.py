"""The error taxonomy: every error says whose fault it is, and so what to do about it.

::

    EscrowError
    ├─ MessageError        the sender's  → quarantine, never retried
    │   ├─ MalformedMessage
    │   ├─ OversizedMessage
    │   └─ WrongUser
    ├─ RequestError        the caller's  → 4xx, exit status 2
    │   ├─ Forbidden           403
    │   ├─ NotFound            404
    │   ├─ Conflict            409
    │   ├─ Stale               412
    │   ├─ Unprocessable       422
    │   └─ SettingsError       (the environment or the command line)
    │       └─ NoRecorder
    ├─ DefinitionError     the author's  → refuse to start, with line and fix
    ├─ TemporaryError      the world's   → roll back, retry with backoff, bounded
    │   ├─ StoreUnavailable
    │   ├─ StoreBusy
    │   ├─ StoreForbidden      (a right is missing: exit status 2)
    │   └─ BusUnavailable
    ├─ DataRefused         the database refuses a batch for its data → bisect, quarantine
    ├─ JournalDamaged      the history's → 500, saying where and what mends it; nothing is made up in its place
    └─ InvariantViolated   ours          → quarantine or park, alert; never swallowed

The docstring of a class is its default message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class EscrowError(Exception):
    """Something went wrong in Escrow."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class MessageError(EscrowError):
    """A message cannot be understood or applied."""

    #: Machine name of the reason, the `reason` column of the quarantine.
    code = "malformed"


class MalformedMessage(MessageError):
    """The message is not a CloudEvent that Escrow can read."""


class OversizedMessage(MessageError):
    """The message, or what it would make an order send, is larger than the limit of the contract."""

    code = "oversized"


class WrongUser(MessageError):
    """The message was not published by the broker user that its source names."""

    code = "wrong_user"


class RequestError(EscrowError):
    """The request cannot be carried out as it was put."""

    status = 400


class Forbidden(RequestError):
    """Your role does not allow this."""

    status = 403


class NotFound(RequestError):
    """There is no such thing here."""

    status = 404


class Conflict(RequestError):
    """This cannot be done at this moment."""

    status = 409


class Stale(RequestError):
    """The order has moved on since you looked at it: look again, then repeat with its present seq."""

    status = 412


class Unprocessable(RequestError):
    """The request is well formed, and its content is not acceptable."""

    status = 422


class SettingsError(RequestError):
    """A setting is missing, unreadable or contradicts another one."""


class NoRecorder(SettingsError):
    """The broker has no recorder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing wrong with a definition file.

    `line` counts from 1; `path` is the place in the document (`steps[1].retry.attempts`).
    """

    file: str
    line: int
    path: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.path or '(document)'}: {self.message} Fix: {self.fix}"


class DefinitionError(EscrowError):
    """A definition is not valid."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = tuple(findings)


class TemporaryError(EscrowError):
    """A service that Escrow needs does not answer at the moment."""


class StoreUnavailable(TemporaryError):
    """The database does not answer at the moment."""


class StoreBusy(TemporaryError):
    """Another transaction holds what this one needs: a lock timeout, a deadlock, a serialization failure."""


class StoreForbidden(TemporaryError):
    """The database does not let this user do what it must. What runs waits until the right is given; what starts does not."""


class BusUnavailable(TemporaryError):
    """The message broker does not answer at the moment."""


class DataRefused(EscrowError):
    """The database refused the batch for its data (SQLSTATE class 22 or 23)."""


class JournalDamaged(EscrowError):
    """An entry of an order's journal is missing, or was altered after it was written."""

    def __init__(self, message: str, *, order_id: str, seq: int) -> None:
        super().__init__(message)
        self.order_id = order_id
        #: The first entry that is not as it was written, or not there. How the order stood before it can be told.
        self.seq = seq


class InvariantViolated(EscrowError):
    """Escrow found itself in a state that must not exist: this is a bug in Escrow."""

    #: The `reason` under which a message that brought it about is quarantined.
    code = "internal_error"

"""Registered definitions: what orders are pinned to (R30)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.contract import canonical
from orchestrator.errors import SettingsError
from orchestrator.saga.compile import event_types_of, participants_of
from orchestrator.store.dialect import of, reading, writing
from orchestrator.store.tables import definitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A definition to register at a start."""

    name: str
    version: int
    #: sha256 of `raw`, hexadecimal.
    fingerprint: str
    #: Canonical JSON of the document as it was written.
    raw: bytes
    #: Canonical JSON of it with every default written out: what orders run on.
    expanded: bytes
    #: The event type that opens its orders.
    opens_on: str
    #: Whether this start wants it to be the one that `opens_on` opens.
    is_opener: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered version, as it is shown."""

    name: str
    version: int
    fingerprint: str
    #: Canonical JSON: as it was written, and what orders run on.
    raw: bytes
    expanded: bytes
    opens_on: str
    #: Whether events of type `opens_on` open this one, by the latest start.
    is_opener: bool
    registered_at: datetime
    #: Orders pinned to it that have not ended.
    open_orders: int


def register(engine: sa.Engine, registrations: Sequence[Registration]) -> None:
    """Register definitions and mark the openers: at most one for an event type, the one this start names; of a definition that this
    start names, no other version keeps a mark. Idempotent; all or nothing.

    Raises: SettingsError when a registered version has other content, or two definitions are to open on one event type.
    """
    _check_openers(registrations)
    with writing(engine) as connection:
        _lock(connection)
        for registration in registrations:
            _register_once(connection, registration)
        _mark_openers(connection, registrations)


def stored(engine: sa.Engine, name: str, version: int) -> bytes | None:
    """The expanded document of a registered definition."""
    d = definitions.c
    with reading(engine) as connection:
        return connection.execute(sa.select(d.expanded).where(d.name == name, d.version == version)).scalar_one_or_none()


def opener(engine: sa.Engine, event_type: str) -> tuple[str, int] | None:
    """The (name, version) that an event type opens."""
    d = definitions.c
    with reading(engine) as connection:
        row = connection.execute(sa.select(d.name, d.version).where(d.opens_on == event_type, d.is_opener)).one_or_none()
        return None if row is None else (row.name, row.version)


def latest(engine: sa.Engine, name: str) -> int | None:
    """The version that new orders of this name get: the highest marked one; of a definition that opens on no event, the highest."""
    d = definitions.c
    statement = sa.select(d.version).where(d.name == name).order_by(d.is_opener.desc(), d.version.desc()).limit(1)
    with reading(engine) as connection:
        return connection.execute(statement).scalar_one_or_none()


def known_types(engine: sa.Engine) -> frozenset[str]:
    """Every event type that a registered definition names."""
    with reading(engine) as connection:
        documents = connection.scalars(sa.select(definitions.c.expanded)).all()
    return frozenset(name for document in documents for name in event_types_of(canonical.load(document)))


def participants(connection: sa.Connection) -> frozenset[str]:
    """Everyone whom a registered definition asks or tells."""
    documents = connection.scalars(sa.select(definitions.c.expanded)).all()
    return frozenset(name for document in documents for name in participants_of(canonical.load(document)))


def _check_openers(registrations: Sequence[Registration]) -> None:
    openers: dict[str, Registration] = {}
    for registration in registrations:
        if not registration.is_opener:
            continue
        other = openers.setdefault(registration.opens_on, registration)
        if other is not registration:
            raise SettingsError(
                f"Definitions {other.name} {other.version} and {registration.name} {registration.version} both open on "
                f"{registration.opens_on}: keep one, or let one open on another event type."
            )


def _lock(connection: sa.Connection) -> None:
    """One start at a time; readers go on."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE definitions IN SHARE ROW EXCLUSIVE MODE"))


def _register_once(connection: sa.Connection, registration: Registration) -> None:
    d = definitions.c
    at_version = (d.name == registration.name, d.version == registration.version)
    kept = connection.execute(sa.select(d.fingerprint).where(*at_version)).scalar_one_or_none()
    if kept is None:
        row = {name: getattr(registration, name) for name in ("name", "version", "fingerprint", "raw", "expanded", "opens_on")}
        row |= {"is_opener": False, "registered_at": of(connection).now(connection)}
        connection.execute(sa.insert(definitions), row)
    elif kept != registration.fingerprint:
        highest = connection.execute(sa.select(sa.func.max(d.version)).where(d.name == registration.name)).scalar_one()
        raise SettingsError(
            f"Definition {registration.name} version {registration.version} is registered with other content "
            f"(fingerprint {kept}, now {registration.fingerprint}): raise `version` to {highest + 1}."
        )


def _mark_openers(connection: sa.Connection, registrations: Sequence[Registration]) -> None:
    """The marks of an earlier start go: those of the same names, and those for the event types that are opened now."""
    d = definitions.c
    openers = [registration for registration in registrations if registration.is_opener]
    marked = sa.or_(sa.false(), *((d.name == one.name) & (d.version == one.version) for one in openers))
    named = d.name.in_({one.name for one in registrations}) | d.opens_on.in_({one.opens_on for one in openers})
    # The old marks go first: the index allows one for an event type.
    connection.execute(sa.update(definitions).where(named, d.is_opener, ~marked).values(is_opener=False))
    connection.execute(sa.update(definitions).where(marked, ~d.is_opener).values(is_opener=True))

"""Definitions at a start: the files of a directory and the shipped ones, checked together, with which of them open orders (R30, R31)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from orchestrator.contract import canonical
from orchestrator.errors import DefinitionError, SettingsError
from orchestrator.files import read_definition, shipped_definitions
from orchestrator.saga.check import check
from orchestrator.saga.definition import Definition
from orchestrator.saga.rulebook import Rulebook
from orchestrator.store.definitions import Registration


def load_definitions(
    directory: Path | None, *, shipped: Collection[str] = ("order",), extra: Iterable[Definition] = ()
) -> list[Registration]:
    """Those of a directory, `extra`, and these of the shipped ones, by name, that neither has; with their openers, the highest versions.

    A shipped one steps back before another that opens on the same event type. Raises: DefinitionError; RequestError for a file that
    cannot be read; SettingsError, naming both files, for one version given twice, and for an event type that opens two definitions, or
    opens one and means something to another.
    """
    given = [*_of_directory(directory), *extra]
    named = {definition.name for definition in given}
    coming = [definition for definition in shipped_definitions() if definition.name in shipped and definition.name not in named]
    findings = [finding for definition in [*coming, *given] for finding in check(definition)]
    if findings:
        raise DefinitionError(findings)
    _refuse_one_version_twice(given)
    _refuse_two_meanings([*coming, *given])
    openers = _openers(coming) | _openers(given)
    return [_registration(definition, is_opener=openers[definition.expanded["opens_on"]] is definition) for definition in [*coming, *given]]


def _of_directory(directory: Path | None) -> list[Definition]:
    files = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")]) if directory is not None else []
    return [read_definition(file) for file in files]


def _refuse_one_version_twice(definitions: Iterable[Definition]) -> None:
    seen: dict[tuple[str, int], Definition] = {}
    for one in definitions:
        other = seen.setdefault((one.name, one.version), one)
        if other is not one:
            raise SettingsError(
                f"{other.file} and {one.file} both are {one.name} version {one.version}. Fix: remove one, or raise `version`."
            )


def _openers(definitions: Iterable[Definition]) -> dict[str, Definition]:
    """The definition that each event type opens. Raises: SettingsError when there are two; versions of one name are one."""
    openers: dict[str, Definition] = {}
    for one in definitions:
        event = one.expanded["opens_on"]
        other = openers.setdefault(event, one)
        if other.name != one.name:
            raise SettingsError(f"{other.file} and {one.file} both open on {event}. Fix: let an event open one definition.")
        if one.version > other.version:
            openers[event] = one
    return openers


def _refuse_two_meanings(definitions: Sequence[Definition]) -> None:
    """An event that opens an order of one definition is never tried as an answer to, or an abort of, an order of another (R1)."""
    opened = {definition.expanded["opens_on"]: definition for definition in definitions}
    for one in definitions:
        for event in sorted(Rulebook(one.expanded).event_types & opened.keys() - {one.expanded["opens_on"]}):
            other = opened[event]
            raise SettingsError(f"{other.file} opens on {event}, which {one.file} awaits. Fix: let an event mean one thing.")


def _registration(definition: Definition, *, is_opener: bool) -> Registration:
    return Registration(
        name=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint,
        raw=canonical.encode(definition.raw),
        expanded=canonical.encode(definition.expanded),
        opens_on=definition.expanded["opens_on"],
        is_opener=is_opener,
    )


def participants_of(registrations: Iterable[Registration]) -> frozenset[str]:
    """Everyone whom these definitions ask."""
    return frozenset().union(*(Rulebook(canonical.load(r.expanded)).participants for r in registrations))


def is_choreographed(registrations: Iterable[Registration]) -> bool:
    """Whether any of these definitions watches what others bring about."""
    return any(Rulebook(canonical.load(r.expanded)).watched for r in registrations)

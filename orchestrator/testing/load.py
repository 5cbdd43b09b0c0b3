"""The definition that a test is about: a file of the author's, or one that comes with Escrow."""

from __future__ import annotations

from pathlib import Path

from orchestrator.contract import is_name
from orchestrator.errors import DefinitionError, RequestError
from orchestrator.files import read_definition, shipped_definition
from orchestrator.saga.check import check
from orchestrator.saga.definition import Definition


def load(reference: str, directory: Path) -> Definition:
    """The definition in a YAML file, whose path is taken from `directory`; without `.yaml` or `.yml` the shipped one of that name.

    Raises: RequestError when it cannot be read; DefinitionError with every finding, so nobody tests what would not start.
    """
    if reference.endswith((".yaml", ".yml")):
        definition = read_definition(directory / reference)
    elif is_name(reference):
        definition = shipped_definition(reference)
    else:
        raise RequestError(f"{reference!r} is neither the name of a shipped definition nor a .yaml file.")
    if findings := check(definition):
        raise DefinitionError(findings)
    return definition

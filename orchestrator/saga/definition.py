"""The document a user writes: read and validated.

Errors name file, line, path and the fix. What the shape cannot say (reachability, patience, pivots) is `check`'s part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.contract import canonical
from orchestrator.errors import DefinitionError, Finding, MalformedMessage
from orchestrator.saga.document import Document
from orchestrator.saga.expand import expand
from orchestrator.saga.source import explain, line_of, one, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition as it was read."""

    name: str
    version: int
    #: The document as written: JSON values; with `begins_in` where it has states, for JSON keeps no order among them.
    raw: Mapping[str, Any]
    #: The document with all defaults written out and durations in ms: what orders run on (R30).
    expanded: Mapping[str, Any]
    #: sha256 of the canonical raw document, hexadecimal.
    fingerprint: str
    file: str
    #: Line of each path, for findings.
    lines: Mapping[str, int]

    def finding(self, path: str, message: str, fix: str) -> Finding:
        """A finding at a path of this document, or at the nearest parent that has a line."""
        return Finding(file=self.file, line=line_of(self.lines, path), path=path, message=message, fix=fix)


def read(text: str, file: str) -> Definition:
    """Read a definition. Raises: DefinitionError with every finding about its shape."""
    raw, lines = parse(text, file)
    try:
        canonical.check(raw)
        document = Document.model_validate(raw)
    except ValidationError as error:
        raise DefinitionError([explain(item, file, lines) for item in error.errors()]) from None
    except MalformedMessage as error:
        raise one(file, 1, f"The document holds what JSON cannot: {error}", "Use texts, numbers, lists and maps.") from None
    if document.states is not None and document.begins_in is None:
        raw = {**raw, "begins_in": next(iter(document.states))}
    return Definition(
        name=document.definition,
        version=document.version,
        raw=raw,
        expanded=expand(document),
        fingerprint=hashlib.sha256(canonical.encode(raw)).hexdigest(),
        file=file,
        lines=lines,
    )

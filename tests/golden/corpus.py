"""The corpus of recorded orders: JSON lines, canonical, one file a definition.

The first line of a file holds the definition's expanded document. Each further line is one entry of an order's journal, as `Entry` with
`input`, `patch` and `effects` as JSON values; the entries of an order follow one another, and a new order begins at `seq` 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from orchestrator.contract import canonical
from orchestrator.saga.decision import Entry
from orchestrator.saga.rulebook import Rulebook

CORPUS = Path(__file__).parent / "corpus"
#: The whole corpus: it is read in every review that changes it.
BYTES_MAX = 600_000
#: Fields of an entry that are canonical JSON already.
_BLOBS = ("input", "patch", "effects")


def encode_entry(entry: Entry) -> bytes:
    """The line of an entry, without its end."""
    document: dict[str, Any] = {field.name: getattr(entry, field.name) for field in fields(Entry)}
    document |= {name: canonical.load(document[name]) for name in _BLOBS}
    return canonical.encode(document | {"at": canonical.format_time(entry.at)})


def decode_entry(line: bytes) -> Entry:
    """The entry of a line."""
    document = canonical.load(line)
    document |= {name: canonical.encode(document[name]) for name in _BLOBS}
    return Entry(**document | {"at": canonical.parse_time(document["at"])})


def encode_file(rulebook: Rulebook, journals: Iterable[Iterable[Entry]]) -> bytes:
    """The file of one definition."""
    lines = [canonical.encode({"definition": rulebook.document}), *(encode_entry(entry) for journal in journals for entry in journal)]
    return b"\n".join(lines) + b"\n"


def decode_file(content: bytes) -> tuple[Rulebook, list[list[Entry]]]:
    """The definition of a file, and the journal of each of its orders."""
    first, *lines = content.splitlines()
    journals: list[list[Entry]] = []
    for line in lines:
        entry = decode_entry(line)
        if entry.seq == 1:
            journals.append([])
        journals[-1].append(entry)
    return Rulebook(canonical.load(first)["definition"]), journals

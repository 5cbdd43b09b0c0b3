"""The hash chain of a journal: each entry carries the hash of the one before it, so an altered history shows (R26)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from orchestrator.contract import canonical

#: Fields of an entry that are canonical JSON already.
_BLOBS = ("input", "patch", "effects")


def entry_hash(written: Mapping[str, Any]) -> str:
    """sha256 over the previous hash and the canonical entry, hexadecimal (R26). `written`: the fields of `Entry` but `hash`.

    The canonical entry is the canonical JSON of its plain fields, then `input`, `patch` and `effects` as they are stored, each on a line of
    its own: canonical JSON holds no line break, so no two entries have the same text.
    """
    plain = {name: value for name, value in written.items() if name not in _BLOBS} | {"at": canonical.format_time(written["at"])}
    return hashlib.sha256(b"\n".join([canonical.encode(plain), *(written[name] for name in _BLOBS)])).hexdigest()

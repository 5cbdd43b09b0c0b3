"""order = fold(journal): the inverse proof of `decide` (R25)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import OPTIONAL_FIELDS, OPTIONAL_MAPS, Order, from_document

_WRITTEN = tuple(f.name for f in fields(Entry) if f.name != "hash")


def fold(journal: Iterable[Entry]) -> Order:
    """The order that a whole journal makes, in order of seq.

    Raises: InvariantViolated for an empty journal, a gap in seq, or a broken hash chain, naming the entry.
    """
    return from_document(fold_document(journal))


def fold_document(journal: Iterable[Entry]) -> dict[str, Any]:
    """Like `fold`, as the document that is stored."""
    document: dict[str, Any] = {"fields": {}, "data": {}, "labels": {}, "replies": {}, "turns": {}, "asks": {}, "deadlines": {}, "hash": ""}
    seq = 0
    for entry in journal:
        seq += 1
        if entry.seq != seq:
            raise InvariantViolated(f"{entry.order_id}: entry {seq} is missing from the journal.")
        if entry.prev_hash != document["hash"]:
            raise InvariantViolated(f"{entry.order_id}: entry {seq} does not continue the hash chain.")
        if entry_hash({name: getattr(entry, name) for name in _WRITTEN}) != entry.hash:
            raise InvariantViolated(f"{entry.order_id}: entry {seq} was altered after it was written.")
        apply_patch(document, canonical.load(entry.patch))
        document["hash"] = entry.hash
    if seq == 0:
        raise InvariantViolated("An order without a journal.")
    return document


def apply_patch(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Apply one entry's patch to the document of an order, in place."""
    document["fields"] |= patch["fields"]
    for name in OPTIONAL_FIELDS:
        if name in document["fields"] and document["fields"][name] is None:
            del document["fields"][name]
    for whole in ("data", "labels", "turns", "amended", "joined"):
        if whole in patch:
            document[whole] = patch[whole]
    for family in ("replies", "asks", "deadlines", "parked"):
        if family in patch:
            document.setdefault(family, {}).update(patch[family])
    for family, gone in (("deadlines", "disarmed"), ("replies", "replies_gone"), ("asks", "asks_gone"), ("parked", "parked_gone")):
        for name in patch.get(gone, ()):
            del document[family][name]
    for name in OPTIONAL_MAPS:
        if name in document and not document[name]:
            del document[name]

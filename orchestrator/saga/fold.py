"""order = fold(journal): the inverse proof of `decide` (R25)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.decision import Entry
from orchestrator.saga.order import OPTIONAL_FIELDS, OPTIONAL_MAPS, Order, from_document

#: Words of a patch: what is replaced whole, what by name, and what goes by name, with its family. No name comes and goes in one patch.
_WHOLE = frozenset({"data", "labels", "turns", "amended", "joined"})
_FAMILIES = frozenset({"replies", "asks", "deadlines", "parked"})
_GONE = {"disarmed": "deadlines", "replies_gone": "replies", "asks_gone": "asks", "parked_gone": "parked"}
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


def apply_patch(document: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Apply one entry's patch to the document of an order, in place."""
    for word, change in patch.items():
        if word == "fields":
            known = document["fields"]
            known.update(change)
            for name in OPTIONAL_FIELDS:
                if name in change and change[name] is None:
                    del known[name]
        elif word in _FAMILIES:
            document.setdefault(word, {}).update(change)
        elif word in _WHOLE:
            document[word] = change
        elif word in _GONE:
            family = document[_GONE[word]]
            for name in change:
                del family[name]
    for name in OPTIONAL_MAPS:
        if name in document and not document[name]:
            del document[name]

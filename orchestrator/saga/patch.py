"""What an entry changes in the document of its order: the inverse of `fold.apply_patch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.saga.order import Order, ask_document, deadline_document, scalars

if TYPE_CHECKING:
    from orchestrator.saga.draft import Draft


def patch_of(before: Order, after: Draft) -> dict[str, Any]:
    """What `fold` must set and remove. The first entry of an order sets everything."""
    present = scalars(after)
    patch: dict[str, Any] = {"fields": present}
    if before.seq == 0:
        patch["data"] = after.data
        if after.labels:
            patch["labels"] = after.labels
    else:
        known = scalars(before)
        changed = {name: value for name, value in present.items() if name not in known or known[name] != value}
        patch["fields"] = changed | {name: None for name in known if name not in present}
    for name in ("turns", "amended", "joined"):
        value, was = getattr(after, name), getattr(before, name)
        if value is not was and value != was:
            patch[name] = value
    if replies := {step: data for step, data in after.replies.items() if before.replies.get(step) is not data}:
        patch["replies"] = replies
    if asks := {key: ask_document(ask) for key, ask in after.asks.items() if before.asks.get(key) is not ask}:
        patch["asks"] = asks
    if armed := {
        name: deadline_document(deadline) for name, deadline in after.deadlines.items() if before.deadlines.get(name) is not deadline
    }:
        patch["deadlines"] = armed
    if after.parked is not before.parked and (parked := {key: after.parked[key] for key in after.parked if key not in before.parked}):
        patch["parked"] = parked
    return patch | _removed(before, after)


def _removed(before: Order, after: Draft) -> dict[str, list[str]]:
    """Replies and asks go only where another version of the definition calls them otherwise."""
    families = (("disarmed", "deadlines"), ("replies_gone", "replies"), ("asks_gone", "asks"), ("parked_gone", "parked"))
    removed = {}
    for word, family in families:
        there = getattr(after, family)
        if gone := [name for name in getattr(before, family) if name not in there]:
            removed[word] = sorted(gone)
    return removed

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
        if (value := getattr(after, name)) != getattr(before, name):
            patch[name] = value
    return patch | _set(before, after) | _removed(before, after)


def _set(before: Order, after: Draft) -> dict[str, Any]:
    families: dict[str, dict[str, Any]] = {
        "replies": {step: data for step, data in after.replies.items() if before.replies.get(step) is not data},
        "parked": {key: message for key, message in after.parked.items() if key not in before.parked},
        "asks": {key: ask_document(ask) for key, ask in after.asks.items() if before.asks.get(key) is not ask},
        "deadlines": {
            name: deadline_document(deadline) for name, deadline in after.deadlines.items() if before.deadlines.get(name) is not deadline
        },
    }
    return {family: values for family, values in families.items() if values}


def _removed(before: Order, after: Draft) -> dict[str, Any]:
    """Replies and asks go only where another version of the definition calls them otherwise."""
    families = {"disarmed": "deadlines", "replies_gone": "replies", "asks_gone": "asks", "parked_gone": "parked"}
    gone = {
        word: sorted(name for name in getattr(before, family) if name not in getattr(after, family)) for word, family in families.items()
    }
    return {word: names for word, names in gone.items() if names}

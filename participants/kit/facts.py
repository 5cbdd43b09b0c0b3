"""Facts: what happens at a participant by itself, is told as an event, and may be undone by Escrow (the state form's `on` with `undo`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid5

from orchestrator.contract import ESCROW_NAMESPACE_UUID, MessageError, canonical, event_command_id, is_order_id
from orchestrator.contract.ids import ORDER_ID_PATTERN

#: Characters of a fact id.
FACT_ID_CHARS_MAX = 256


class UnknownFactError(Exception):
    """The participant has no facts of this type."""


class NotYetError(Exception):
    """The participant lost its state and waits for a replay of it. Nothing was changed: tell it again when that is over."""


class FactRefusedError(Exception):
    """The fact cannot have happened: its id was used for another one, or it was undone before it was reported. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact, as a handler sees it."""

    #: The id under which it is undone: what the undo names in `undoes`.
    command_id: str
    #: The message id of its event: the same for every report of it.
    message_id: str
    order_id: str
    #: The type of its event.
    name: str
    #: What the participant calls it; unique within its type.
    fact_id: str
    data: Mapping[str, Any]
    #: It comes from a replay, told once before the state was lost: `data` is then that of its event, and `fact_id` is not known (empty).
    replayed: bool = False

    @property
    def digest(self) -> str:
        """What makes two reports equal: type, order and data."""
        return hashlib.sha256(canonical.encode([self.name, self.order_id, dict(self.data)])).hexdigest()


def fact_message_id(participant: str, event_type: str, fact_id: str) -> str:
    """The message id of a fact's event."""
    return str(uuid5(ESCROW_NAMESPACE_UUID, canonical.encode([participant, event_type, fact_id, "fact"]).decode()))


def make_fact(participant: str, event_type: str, order_id: str, data: Mapping[str, Any], fact_id: str) -> Fact:
    """A fact with its computed ids. Raises: ValueError for an id that is none, and for data that is no JSON object."""
    if not is_order_id(order_id):
        raise ValueError(f"{order_id!r} is not an order id ({ORDER_ID_PATTERN}).")
    if not 1 <= len(fact_id) <= FACT_ID_CHARS_MAX:
        raise ValueError(f"The fact id has {len(fact_id)} characters; it must have 1 to {FACT_ID_CHARS_MAX}.")
    try:
        canonical.check([fact_id, dict(data)])
    except MessageError as error:
        raise ValueError(str(error)) from error
    message_id = fact_message_id(participant, event_type, fact_id)
    return Fact(
        command_id=event_command_id(order_id, participant, message_id),
        message_id=message_id,
        order_id=order_id,
        name=event_type,
        fact_id=fact_id,
        data=data,
    )

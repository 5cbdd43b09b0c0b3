"""Every id that is computed rather than made up, in the one place that knows the recipes (R6, R20)."""

from __future__ import annotations

import re
from uuid import UUID, uuid5

from orchestrator.contract import canonical

#: The name space of all of Escrow's computed ids. A constant of the contract: participants in any language use the same.
ESCROW_NAMESPACE_UUID = UUID("6f1d6c1e-7c0b-5f57-9a4b-2f6f8f0f5e5c")

#: Order ids: 1 to 128 of these characters, compared bytewise.
ORDER_ID_PATTERN = r"[A-Za-z0-9._:~-]{1,128}"
_order_id = re.compile(ORDER_ID_PATTERN)

#: Names of definitions, steps, participants and message types: they become routing keys and metric labels.
NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_name = re.compile(NAME_PATTERN)


def is_order_id(text: object) -> bool:
    """Whether this is an order id that Escrow accepts.

    >>> is_order_id("order-1"), is_order_id("a b"), is_order_id("")
    (True, False, False)
    """
    return isinstance(text, str) and _order_id.fullmatch(text) is not None


def is_name(text: object) -> bool:
    """Whether this may name a definition, step, participant or message type."""
    return isinstance(text, str) and _name.fullmatch(text) is not None


def command_id(order_id: str, epoch: int, step: str, ask_round: int) -> str:
    """The id that all attempts of one ask share (R6)."""
    return _derive([order_id, epoch, step, ask_round, "do"])


def first_command_id(order_id: str, step: str) -> str:
    """The command id of the first ask of a step: a participant that acts on somebody else's event computes it without being asked (R6)."""
    return command_id(order_id, 0, step, 1)


def event_command_id(order_id: str, source: str, message_id: str) -> str:
    """The id under which an event that carries an undo is undone: the undo names it in `undoes`; the source's ledger has its row by it."""
    return _derive([order_id, source, message_id, "event"])


def undo_id(command_id: str) -> str:
    """The command id of the undo of a command (R6)."""
    return _derive([command_id, "undo"])


def attempt_message_id(command_id: str, attempt: int) -> str:
    """The message id of one attempt, counted from 1 (R6)."""
    return str(uuid5(UUID(command_id), str(attempt)))


def undo_reply_id(message_id: str) -> str:
    """The message id of a participant's confirmation of one undo message (R20)."""
    return str(uuid5(_as_uuid(message_id), "reply"))


def announcement_id(order_id: str, seq: int, name: str) -> str:
    """The message id of what the journal entry `seq` of an order announces."""
    return _derive([order_id, seq, name, "announce"])


def _derive(parts: list[object]) -> str:
    return str(uuid5(ESCROW_NAMESPACE_UUID, canonical.encode(parts).decode()))


def _as_uuid(text: str) -> UUID:
    """Message ids of others need not be UUIDs."""
    try:
        return UUID(text)
    except ValueError:
        return uuid5(ESCROW_NAMESPACE_UUID, text)

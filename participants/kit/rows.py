"""How a command and its answer are laid out in the columns of the ledger."""

from __future__ import annotations

from typing import Any

from participants.kit.handlers import Command
from participants.kit.transport import Published

#: A command that is not answered, and one that is not undone.
NO_REPLY: dict[str, Any] = {"reply_message_id": None, "reply_type": None, "reply": None}
NOT_UNDONE: dict[str, Any] = {"undo_data": None, "undone_at": None}


def asked(command: Command) -> dict[str, Any]:
    """Which command a row is of."""
    return {
        "command_id": command.command_id,
        "command_type": command.name,
        "order_id": command.order_id,
        "digest": command.digest,
    }


def stored(message: Published) -> dict[str, Any]:
    """The answer that is given to every copy."""
    return {"reply_message_id": message.message_id, "reply_type": message.event_type, "reply": message.wire.body}

"""The wire: what Escrow and its participants agree on. Participants import only this package."""

from __future__ import annotations

from orchestrator.contract.brokers import each_node
from orchestrator.contract.envelope import Envelope, Wire, decode, digest, encode, encode_binary
from orchestrator.contract.ids import (
    ESCROW_NAMESPACE_UUID,
    announcement_id,
    attempt_message_id,
    command_id,
    event_command_id,
    first_command_id,
    is_name,
    is_order_id,
    undo_id,
    undo_reply_id,
)
from orchestrator.contract.topology import QUORUM_ARGUMENTS, RECORD, REPLAY_ARGUMENTS, Topology, event_key
from orchestrator.errors import MessageError

#: The answer of a participant to a command whose undo came first (R20); Escrow reads it as a refusal.
COMMAND_TOO_LATE = "CommandTooLate"

#: What a participant publishes about itself when it lost messages or its state (R29): `subject` is its own name, and `since`, if its data
#: has it, the instant (RFC 3339, UTC) from when it may lack something. One that lost its state and waits for a replay says so by `events`:
#: the types of the events of others that change its own tables, of which there may be none.
RESYNC_REQUESTED = "ResyncRequested"

__all__ = [
    "COMMAND_TOO_LATE",
    "ESCROW_NAMESPACE_UUID",
    "QUORUM_ARGUMENTS",
    "RECORD",
    "REPLAY_ARGUMENTS",
    "RESYNC_REQUESTED",
    "Envelope",
    "MessageError",
    "Topology",
    "Wire",
    "announcement_id",
    "attempt_message_id",
    "command_id",
    "decode",
    "digest",
    "each_node",
    "encode",
    "encode_binary",
    "event_command_id",
    "event_key",
    "first_command_id",
    "is_name",
    "is_order_id",
    "undo_id",
    "undo_reply_id",
]

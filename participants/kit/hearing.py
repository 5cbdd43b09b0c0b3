"""Events of others that change a participant's own tables: heard once each, by source and message id, whoever they were meant for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid5

from orchestrator.contract import ESCROW_NAMESPACE_UUID, Envelope, canonical, digest
from orchestrator.contract.envelope import event_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An event of somebody else, as a handler sees it."""

    source: str
    message_id: str
    name: str
    #: What it is about, as its sender says.
    subject: str
    data: Mapping[str, Any]
    #: What makes two of one source and message id equal.
    digest: str
    #: It comes from a replay: the state that was lost is being rebuilt.
    replayed: bool = False

    @property
    def heard_id(self) -> str:
        """Source and message id in one."""
        return str(uuid5(ESCROW_NAMESPACE_UUID, canonical.encode([self.source, self.message_id, "heard"]).decode()))


def make_heard(envelope: Envelope, *, replayed: bool = False) -> Heard:
    """What an event says."""
    return Heard(
        source=envelope.source,
        message_id=envelope.id,
        name=envelope.type,
        subject=envelope.subject,
        data=envelope.data,
        digest=digest(event_document(envelope)),
        replayed=replayed,
    )

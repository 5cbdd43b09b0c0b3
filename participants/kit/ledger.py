"""What a participant remembers: one ledger row per command, the facts it was told, the events of others that it heard, and the messages on
their way to the broker.

All tables carry the participant's name, so several participants may share a database.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from orchestrator.contract import Wire, canonical, event_key
from orchestrator.contract.envelope import STRUCTURED
from participants.kit.transport import Published

#: States of a ledger row.
DONE, REFUSED, UNDONE = "done", "refused", "undone"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A reply or a fact's event in the outbox. `outbox_id` names the row to forget once the broker has confirmed the message."""

    outbox_id: str
    message: Published


class Ledger:
    """The tables of one participant, and the outbox's statements."""

    def __init__(self, participant: str) -> None:
        self.participant = participant
        self.metadata = sa.MetaData()
        self.commands = sa.Table(
            f"{participant}_ledger",
            self.metadata,
            sa.Column("command_id", sa.String(256), primary_key=True),
            sa.Column("command_type", sa.String(64), nullable=False),
            sa.Column("order_id", sa.String(128), nullable=False),
            sa.Column("state", sa.String(8), sa.CheckConstraint(f"state IN ('{DONE}', '{REFUSED}', '{UNDONE}')"), nullable=False),
            # sha256 of the command's type, subject and data; null where no command was seen: in a tombstone, and after a reaction.
            sa.Column("digest", sa.String(64)),
            # The stored answer to the command (of a fact: its event), byte for byte; null in a notice, and in `undone` until the
            # command is asked once more.
            sa.Column("reply_message_id", sa.String(256)),
            sa.Column("reply_type", sa.String(64)),
            sa.Column("reply", sa.LargeBinary),
            # What every confirmation of the undo says, and since when it is true (RFC 3339): a repeated confirmation is byte-equal.
            sa.Column("undo_data", sa.LargeBinary),
            sa.Column("undone_at", sa.String(32)),
        )
        self.facts = sa.Table(
            f"{participant}_facts",
            self.metadata,
            sa.Column("message_id", sa.String(64), primary_key=True),
            # sha256 of the fact's type, subject and data; empty when it is not known, after a replay.
            sa.Column("digest", sa.String(64), nullable=False),
        )
        self.heard = sa.Table(
            f"{participant}_heard",
            self.metadata,
            # Of source and message id.
            sa.Column("heard_id", sa.String(64), primary_key=True),
            sa.Column("source", sa.String(256), nullable=False),
            sa.Column("message_id", sa.String(256), nullable=False),
            sa.Column("event_type", sa.String(64), nullable=False),
            # Of what the event means (`contract.digest`).
            sa.Column("digest", sa.String(64), nullable=False),
        )
        # One row of a participant that lost its state, or none.
        self.replay = sa.Table(
            f"{participant}_replay",
            self.metadata,
            sa.Column("cause", sa.String(16), primary_key=True),
            # Message id of the request that the replay answers.
            sa.Column("request_id", sa.String(64), nullable=False),
            sa.Column("state", sa.String(8), nullable=False),
        )
        self.outbox = sa.Table(
            f"{participant}_outbox",
            self.metadata,
            sa.Column("outbox_id", sa.String(64), primary_key=True),
            sa.Column("message_id", sa.String(256), nullable=False),
            sa.Column("event_type", sa.String(64), nullable=False),
            sa.Column("order_id", sa.String(128), nullable=False),
            sa.Column("body", sa.LargeBinary, nullable=False),
        )

    def message(self, message_id: str, event_type: str, order_id: str, body: bytes) -> Published:
        """The event whose structured CloudEvent is `body`."""
        wire = Wire(content_type=STRUCTURED, headers={}, body=body)
        return Published(message_id, event_type, event_key(self.participant, event_type), order_id, wire)

    def is_empty(self, connection: sa.Connection) -> bool:
        """Whether nothing was ever asked, told or heard."""
        tables = (self.commands, self.facts, self.heard, self.outbox)
        return not any(connection.execute(sa.select(sa.exists(sa.select(table)))).scalar_one() for table in tables)

    def awaits_replay(self, connection: sa.Connection) -> bool:
        """Whether the state was lost and is not rebuilt yet."""
        waiting = sa.exists(sa.select(self.replay).where(self.replay.c.state == "waiting"))
        return bool(connection.execute(sa.select(waiting)).scalar_one())

    def known(self, connection: sa.Connection, after: str, limit: int) -> list[dict[str, str | None]]:
        """Rows as JSON values, by command id; `answered_at` is what the stored answer says (RFC 3339), None where there is none."""
        c = self.commands.c
        columns = (c.command_id, c.command_type, c.order_id, c.state)
        statement = sa.select(*columns, c.reply).where(c.command_id > after).order_by(c.command_id).limit(limit)
        return [
            {
                **{column.name: row._mapping[column] for column in columns},
                "answered_at": None if row.reply is None else canonical.load(bytes(row.reply)).get("time"),
            }
            for row in connection.execute(statement)
        ]

    def enqueue(self, connection: sa.Connection, replies: Sequence[Outgoing]) -> None:
        """Put replies into the outbox."""
        if replies:
            connection.execute(sa.insert(self.outbox), [_outbox_row(reply) for reply in replies])

    def forget(self, connection: sa.Connection, outbox_ids: Collection[str]) -> None:
        """Delete rows whose messages the broker has confirmed."""
        if outbox_ids:
            connection.execute(sa.delete(self.outbox).where(self.outbox.c.outbox_id.in_(outbox_ids)))

    def unsent(self, connection: sa.Connection) -> list[Outgoing]:
        """All of the outbox, as an earlier process left it, in the order it was written."""
        rows = connection.execute(sa.select(self.outbox).order_by(self.outbox.c.outbox_id))
        return [Outgoing(row.outbox_id, self.message(row.message_id, row.event_type, row.order_id, bytes(row.body))) for row in rows]


def _outbox_row(reply: Outgoing) -> dict[str, str | bytes]:
    message = reply.message
    return {
        "outbox_id": reply.outbox_id,
        "message_id": message.message_id,
        "event_type": message.event_type,
        "order_id": message.order_id,
        "body": message.wire.body,
    }

"""A past, as Escrow tells it to a participant that lost its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, Wire, decode, encode
from orchestrator.contract.replay import Outcome, ReplayedCommand, ReplayedFact, ReplayEnd, encode_replay
from participants.kit.participant import Participant
from participants.kit.replay import Replay
from participants.kit.replayer import Replayer
from tests.participants.support import MemoryTransport


def end_of(request_id: str) -> Wire:
    """The end of the replay that this request asked for."""
    return encode_replay(ReplayEnd(request_id=request_id, commands=0, facts=0, events=0))


def replay_to(participant: Participant, past: Sequence[Wire]) -> MemoryTransport:
    """Start a participant as new, and have it told this past, to the end; it publishes its request, and nothing else."""
    replay, transport = Replay(participant), MemoryTransport()
    assert replay.begin(new=True)
    replayer = Replayer(participant, transport, replay)
    replayer.turn()
    (request,) = transport.published
    transport.send_wires(*past, end_of(request.message_id))
    while not replayer.is_done:
        replayer.turn()
    assert transport.published == [request]
    assert participant.unsent() == []
    assert not transport.unacked
    return transport


class Past:
    """What a living participant was asked and told, as a replay tells it."""

    def __init__(self, participant: Participant, *, refused_by: str = "Refused") -> None:
        self.participant = participant
        self.wires: list[Wire] = []
        self._refused_by = refused_by

    def ask(self, sent: Envelope) -> Envelope:
        """Send a command, an undo, or an event that is reacted to; the answer, which is part of the past."""
        (reply,) = self.participant.handle([encode(sent)])
        answer = decode(reply.message.wire)
        self.wires.append(encode_replay(ReplayedCommand(message=sent, answer=answer, outcome=self._outcome(sent, answer))))
        return answer

    def notify(self, sent: Envelope) -> None:
        """Send a notice."""
        assert self.participant.handle([encode(sent)]) == []
        self.wires.append(encode_replay(ReplayedCommand(message=sent, answer=None, outcome=None)))

    def tell(self, name: str, order_id: str, data: dict[str, Any]) -> None:
        """A fact happens."""
        self.participant.happened(name, order_id, data, order_id)
        for outgoing in self.participant.reported():
            self.wires.append(encode_replay(ReplayedFact(message=decode(outgoing.message.wire))))

    def _outcome(self, sent: Envelope, answer: Envelope) -> Outcome:
        if answer.type == COMMAND_TOO_LATE:
            return "too_late"
        if sent.undoes is not None:
            return "undone"
        return "refused" if answer.type == self._refused_by else "done"


def contents(engine: sa.Engine, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every table, its rows sorted; without some columns, and without what only runs through: the outbox and the replay's own row."""
    metadata = sa.MetaData()
    metadata.reflect(engine)
    found: dict[str, list[tuple[Any, ...]]] = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            if not table.name.endswith(("_outbox", "_replay")):
                columns = [column for column in table.columns if column.name not in without]
                rows = [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in connection.execute(sa.select(*columns))]
                found[table.name] = sorted(rows, key=repr)
    return found

"""What a participant's process does in turn: it waits for a replay when it lost its state, and then it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from participants.kit.faults import Faults
from participants.kit.loop import Loop
from participants.kit.participant import Participant
from participants.kit.rabbit import RabbitTransport
from participants.kit.replay import Replay
from participants.kit.replayer import Replayer
from participants.kit.runner import Runner


@dataclass(frozen=True, slots=True)
class Stage:
    """What it does at a time, and by which link."""

    transport: RabbitTransport
    loop: Loop

    @property
    def trouble(self) -> str | None:
        """What is wrong at the moment, in one line; None when it works."""
        return self.transport.trouble or self.loop.trouble


def stages(participant: Participant, faults: Faults, link: Callable[..., RabbitTransport], *, new: bool) -> Iterator[Stage]:
    """Each stage when the one before is done, if it is. `link` makes one, with `replay` or `subscriptions` as `RabbitTransport` has them.

    Raises: sqlalchemy.exc.SQLAlchemyError: the database is away or refuses; ValueError: the link's URL is none.
    """
    replay = Replay(participant)
    if replay.begin(new=new):
        transport = link(replay=True)
        replayer = Replayer(participant, transport, replay)
        yield Stage(transport, replayer)
        if not replayer.is_done:
            return
    transport = link(subscriptions=participant.subscriptions)
    yield Stage(transport, Runner(participant, transport, faults=faults))

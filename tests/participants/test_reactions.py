"""A watched step: the event that a participant reacts to, and Escrow's later command, are one ask. And commands that nobody waits for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.contract import COMMAND_TOO_LATE, Envelope, attempt_message_id, encode, first_command_id, undo_id
from participants.kit.answers import Refusal, Reply
from participants.kit.faults import Faults, Settings
from participants.kit.participant import Command, Participant, Tx
from tests.participants.support import ask, talk_to

PLACED = {"sku": "apple", "customer_email": "a@example.com"}


def packer(engine: sa.Engine, *, choreographed: bool = True) -> tuple[Participant, list[Command]]:
    """A participant that packs an order when it is placed, or when it is told to; and what it did."""
    done: list[Command] = []
    participant = Participant("packer", engine, choreographed=choreographed)

    @participant.reacts_to("OrderPlaced", step="pack")
    @participant.command("Pack", refused_by="PackingRefused")
    def pack(_tx: Tx, command: Command) -> Reply | Refusal:
        if command.data.get("sku") == "none":
            return Refusal("PackingRefused", {"reason": "none"})
        done.append(command)
        return Reply("Packed", {"sku": command.data.get("sku")})

    @participant.undo("Unpack", of="Pack", confirmed_by="Unpacked")
    def unpack(_tx: Tx, undo: Command) -> dict[str, Any]:
        done.append(undo)
        return {}

    @participant.notice("Remind")
    def remind(_tx: Tx, notice: Command) -> None:
        done.append(notice)

    return participant, done


def placed(order_id: str = "o-1", data: Mapping[str, Any] = PLACED, *, message_id: str = "m-1") -> Envelope:
    """The event of somebody else."""
    return Envelope(id=message_id, source="orders", type="OrderPlaced", subject=order_id, data=data)


def command(name: str = "Pack", order_id: str = "o-1", data: Mapping[str, Any] = PLACED, *, attempt: int = 1) -> Envelope:
    """What Escrow sends on silence, with the id of the step's first ask; or its undo."""
    own_id = first_command_id(order_id, "pack")
    undoes = own_id if name == "Unpack" else None
    own_id = undo_id(own_id) if undoes else own_id
    message_id = attempt_message_id(own_id, attempt)
    return Envelope(id=message_id, source="escrow", type=name, subject=order_id, data=data, commandid=own_id, undoes=undoes)


def test_an_event_is_answered_as_the_first_ask(engine: sa.Engine) -> None:
    """If it failed, Escrow would not know the choreographed work for the step's, and would ask for it again."""
    participant, done = packer(engine)
    (answer,) = talk_to(participant)(placed())
    assert (answer.type, answer.commandid, answer.causationid) == ("Packed", first_command_id("o-1", "pack"), "m-1")
    assert [(work.name, work.event, work.data) for work in done] == [("Pack", "OrderPlaced", PLACED)]


@pytest.mark.parametrize("data", [PLACED, {"order_id": "o-1"}], ids=["same body", "other body"])
def test_the_command_after_the_event_is_answered_with_the_stored_reply(engine: sa.Engine, data: dict[str, Any]) -> None:
    """If it failed, an event that was merely slow would be worked off twice, or the command refused for its other body."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    (first,) = talk(placed())
    assert talk(command(data=data)) == [first]
    assert talk(command(data=data, attempt=2)) == [first]
    assert len(done) == 1


def test_the_event_after_the_command_does_nothing_more(engine: sa.Engine) -> None:
    """If it failed, an event that overtakes nothing but silence would be worked off twice."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    (first,) = talk(command(data={"order_id": "o-1"}))
    assert talk(placed()) == [first]
    assert len(done) == 1


def test_a_second_event_and_all_in_one_batch(engine: sa.Engine) -> None:
    """If it failed, an event delivered or published twice would be worked off twice."""
    participant, done = packer(engine)
    replies = participant.handle([encode(e) for e in (placed(), placed(), placed(message_id="m-2"), command())])
    assert len({reply.message.wire.body for reply in replies}) == 1
    assert len(done) == 1


def test_an_event_after_its_undo_does_nothing(engine: sa.Engine) -> None:
    """If it failed, the choreography would do what Escrow has undone for good (R11)."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    (undone,) = talk(command("Unpack"))
    (late,) = talk(placed())
    assert (undone.type, undone.data["reversed"], late.type) == ("Unpacked", False, COMMAND_TOO_LATE)
    assert late.commandid == first_command_id("o-1", "pack")
    assert done == []


def test_a_reaction_is_undone_as_a_command_is(engine: sa.Engine) -> None:
    """If it failed, Escrow could not take back what the choreography did."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    talk(placed())
    (undone,) = talk(command("Unpack"))
    assert undone.data["reversed"] is True
    assert [work.name for work in done] == ["Pack", "Unpack"]
    assert [answer.type for answer in talk(placed())] == [COMMAND_TOO_LATE]


def test_a_reaction_refuses_as_a_command_does(engine: sa.Engine) -> None:
    """If it failed, an order that cannot be done would be silence in the choreography, not a refusal."""
    participant, _ = packer(engine)
    talk = talk_to(participant)
    (refused,) = talk(placed(data={"sku": "none"}))
    assert (refused.type, talk(command())) == ("PackingRefused", [refused])

    told = participant.handle([encode(placed("o-2"))], refuse=Faults(Settings(refuse=1)).refuse)
    assert [reply.message.event_type for reply in told] == ["PackingRefused"]


def test_two_commands_with_two_bodies_are_still_told_apart(engine: sa.Engine) -> None:
    """If it failed, a watched step would lose what R20 promises every other."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    talk(command(data={"sku": "apple"}))
    (refused,) = talk(command(data={"sku": "pear"}, attempt=2))
    assert (refused.type, refused.data["reason"], len(done)) == ("PackingRefused", "command_id_reused", 1)


def test_one_that_is_not_choreographed_acts_by_command_only(sqlite_engine: sa.Engine) -> None:
    """If it failed, the samples would act on the events of orders that Escrow asks for step by step."""
    participant, done = packer(sqlite_engine, choreographed=False)
    assert participant.subscriptions == frozenset()
    assert talk_to(participant)(placed()) == []
    assert done == []
    assert packer(sqlite_engine)[0].subscriptions == {"OrderPlaced"}


def test_one_event_may_be_two_steps(sqlite_engine: sa.Engine) -> None:
    """If it failed, the second of two reactions would silently replace the first."""
    participant = Participant("two", sqlite_engine)
    for name in ("Weigh", "Wrap"):

        @participant.reacts_to("OrderPlaced", step=name.lower())
        @participant.command(name)
        def work(_tx: Tx, command: Command) -> Reply:
            return Reply(f"{command.name}Done")

    answers = talk_to(participant)(placed())
    assert [(a.type, a.commandid) for a in answers] == [
        ("WeighDone", first_command_id("o-1", "weigh")),
        ("WrapDone", first_command_id("o-1", "wrap")),
    ]


def test_a_wrong_registration_is_refused_at_once(sqlite_engine: sa.Engine) -> None:
    """If it failed, a decorator in the wrong place would be found by the first order that nobody works off."""
    participant, _ = packer(sqlite_engine)
    with pytest.raises(ValueError, match="stands on no command"):
        participant.reacts_to("OrderPlaced", step="pack")(lambda _tx, _command: Reply("Done"))
    with pytest.raises(ValueError, match="Remind has a handler already"):
        participant.command("Remind")(lambda _tx, _command: Reply("Done"))


def test_a_notice_is_carried_out_once_and_never_answered(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    """If it failed, a reminder would be sent with every copy of it, or its answer be a message that no order expects."""
    participant, done = packer(engine)
    talk = talk_to(participant)
    notice = ask("Remind", "o-1", {})
    assert participant.handle([encode(notice), encode(notice)]) == []
    assert talk(ask("Remind", "o-1", {}, attempt=2)) == []
    assert caplog.records == []
    assert talk(ask("Remind", "o-2", {})) == []
    assert [work.order_id for work in done] == ["o-1", "o-2"]
    with caplog.at_level(logging.ERROR):
        assert talk(ask("Remind", "o-1", {"other": True})) == []
    assert [record.action for record in caplog.records] == ["command_id_reused"]  # type: ignore[attr-defined]
    assert len(done) == 2

"""Facts: told once however often, undone as commands are, published whatever dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from orchestrator.contract import Envelope, attempt_message_id, decode, event_command_id, undo_id
from participants.kit.control import Control, make_app
from participants.kit.facts import FactRefusedError, UnknownFactError, fact_message_id
from participants.kit.faults import Faults, Settings
from participants.kit.participant import Command, Fact, Participant, Tx
from participants.kit.replay import Replay
from participants.kit.runner import Runner
from participants.kit.service import happen, make_cli
from tests.participants.support import MemoryTransport, running, talk_to
from tests.support.processes import eventually

TABLE = sa.Table("received", sa.MetaData(), sa.Column("command_id", sa.String(64), primary_key=True), sa.Column("amount", sa.Integer))


def teller(engine: sa.Engine) -> Participant:
    """A participant that takes money, and gives it back."""
    participant = Participant("teller", engine, metadata=TABLE.metadata, totals=totals)

    @participant.fact("MoneyCame")
    def came(tx: Tx, fact: Fact) -> dict[str, Any]:
        if fact.data["amount"] < 0:
            raise ValueError("An amount is not negative.")
        tx.rows(TABLE).add(command_id=fact.command_id, amount=fact.data["amount"])
        return {"amount": fact.data["amount"]}

    @participant.undo("GiveBack", of="MoneyCame", confirmed_by="GivenBack")
    def give_back(tx: Tx, undo: Command) -> dict[str, Any]:
        tx.rows(TABLE).change(undo.undoes, amount=0)
        return {}

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        count, amount = connection.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(TABLE.c.amount), 0))).one()
    return {"count": int(count), "amount": int(amount)}


def undo_of(message_id: str, order_id: str = "o-1", *, attempt: int = 1) -> Envelope:
    """What Escrow sends to undo a fact."""
    undoes = event_command_id(order_id, "teller", message_id)
    own_id = undo_id(undoes)
    message = attempt_message_id(own_id, attempt)
    return Envelope(id=message, source="escrow", type="GiveBack", subject=order_id, data={}, commandid=own_id, undoes=undoes)


def test_a_fact_is_told_once(engine: sa.Engine) -> None:
    """If it failed, a report repeated after a lost answer would count the money twice."""
    participant = teller(engine)
    first = participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    assert participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1") == first
    events = [decode(event.message.wire) for event in participant.reported()]
    assert [(e.id, e.type, e.subject, e.source, e.commandid, e.data) for e in events] == [
        (first, "MoneyCame", "o-1", "teller", None, {"amount": 5})
    ] * 2
    assert participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-2") != first
    assert participant.totals() == {"count": 2, "amount": 10}


@pytest.mark.parametrize(("order_id", "data"), [("o-1", {"amount": 6}), ("o-2", {"amount": 5})])
def test_an_id_told_for_another_fact_is_refused(engine: sa.Engine, order_id: str, data: dict[str, Any]) -> None:
    """If it failed, one of two facts would be lost, and nobody told."""
    participant = teller(engine)
    participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    with pytest.raises(FactRefusedError, match="t-1 was told for another MoneyCame"):
        participant.happened("MoneyCame", order_id, data, "t-1")
    assert participant.totals() == {"count": 1, "amount": 5}


def test_a_fact_is_undone_once(engine: sa.Engine) -> None:
    """If it failed, a deposit would stay where it is, or be returned twice; told again it must not come back."""
    participant = teller(engine)
    message_id = participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    participant.reported()
    talk = talk_to(participant)
    confirmed = [talk(undo_of(message_id, attempt=attempt))[0] for attempt in (1, 2)]
    assert [(one.type, one.data["reversed"]) for one in confirmed] == [("GivenBack", True)] * 2
    assert participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1") == message_id
    assert participant.reported() == []
    assert participant.totals() == {"count": 1, "amount": 0}


def test_a_fact_after_its_undo_never_happened(engine: sa.Engine) -> None:
    """If it failed, a fact lost by a restore and told again would stand after Escrow was told that it is undone."""
    participant = teller(engine)
    message_id = fact_message_id("teller", "MoneyCame", "t-1")
    (confirmed,) = talk_to(participant)(undo_of(message_id))
    assert confirmed.data["reversed"] is False
    with pytest.raises(FactRefusedError, match="t-1 was undone before it was reported"):
        participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    assert (participant.totals()["count"], participant.reported(), len(participant.unsent())) == (0, [], 1)


@pytest.mark.parametrize(
    ("order_id", "data", "fact_id", "what"),
    [
        ("o 1", {"amount": 5}, "t-1", "not an order id"),
        ("o-1", {"amount": -5}, "t-1", "not negative"),
        ("o-1", {"amount": 5}, "", "1 to 256"),
        ("o-1", {"amount": 5}, "t" * 257, "1 to 256"),
        ("o-1", {"amount": 5}, "\0", "NUL"),
        ("o-1", {"amount": 5, "far": float("nan")}, "t-1", "not a JSON value"),
        ("o-1", {"amount": 5, "x": "\ud800"}, "t-1", "surrogate"),
    ],
)
def test_a_fact_that_makes_no_sense_is_refused(
    sqlite_engine: sa.Engine, order_id: str, data: dict[str, Any], fact_id: str, what: str
) -> None:
    """If it failed, Escrow would quarantine what the participant believes to have told it."""
    participant = teller(sqlite_engine)
    with pytest.raises(ValueError, match=what):
        participant.happened("MoneyCame", order_id, data, fact_id)
    assert (participant.totals()["count"], participant.unsent()) == (0, [])


def test_an_unknown_fact_names_the_known_ones(sqlite_engine: sa.Engine) -> None:
    """If it failed, a typing error would be told to nobody."""
    with pytest.raises(UnknownFactError, match=r"MoneyCome is no fact of teller.*MoneyCame"):
        teller(sqlite_engine).happened("MoneyCome", "o-1", {}, "t-1")


def test_a_fact_told_by_many_at_once_is_one(engine: sa.Engine) -> None:
    """If it failed, two callers of the door at the same moment would break each other's report, or both be booked."""
    participant, barrier = teller(engine), threading.Barrier(4)
    ids: list[str] = []

    def tell() -> None:
        barrier.wait(5)
        while True:
            try:
                ids.append(participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1"))
            except sa.exc.OperationalError:  # a lock that took too long: nothing was committed
                continue
            return

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(ids), len(set(ids)), participant.totals()["count"]) == (4, 1, 1)


def test_a_running_participant_publishes_its_facts(engine: sa.Engine) -> None:
    """If it failed, the event would wait for a restart, or lie in the outbox for ever and be published at every start."""
    transport, participant = MemoryTransport(), teller(engine)
    early = participant.happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    with running(Runner(participant, transport)):
        transport.wait_for(1)
        late = participant.happened("MoneyCame", "o-2", {"amount": 5}, "t-2")
        assert [event.id for event in transport.wait_for(2)] == [early, late]
        eventually(lambda: not participant.unsent())
    assert len(transport.answers()) == 2


def test_a_fact_outlives_the_process_that_was_told(engine: sa.Engine) -> None:
    """If it failed, a crash between commit and publishing would lose what was answered with 202."""
    told = teller(engine).happened("MoneyCame", "o-1", {"amount": 5}, "t-1")
    transport = MemoryTransport()
    Runner(teller(engine), transport).turn()
    assert [event.id for event in transport.answers()] == [told]


@pytest.fixture
def door(sqlite_engine: sa.Engine) -> Iterator[tuple[str, Participant]]:
    """The participant's door on loopback."""
    participant = teller(sqlite_engine)
    control = Control(make_app(participant, Faults(Settings()), lambda: None))
    yield control.url, participant
    control.close()


def test_the_door_takes_facts(door: tuple[str, Participant]) -> None:
    """If it failed, whoever tells a fact would not learn whether it is safe, or whom to tell instead."""
    url, participant = door
    fact = {"type": "MoneyCame", "order_id": "o-1", "data": {"amount": 5}, "fact_id": "t-1"}
    taken = [httpx.post(f"{url}/facts", json=fact) for _ in range(2)]
    (event, _) = participant.reported()
    assert [(answer.status_code, answer.json()) for answer in taken] == [(202, {"message_id": event.message.message_id})] * 2
    for change, status, said in (
        ({"type": "MoneyCome"}, 404, "MoneyCame"),
        ({"data": {"amount": 6}}, 409, "told for another"),
        ({"order_id": "o 1"}, 422, "order id"),
        ({"data": 5}, 422, "dictionary"),
        ({"extra": 5}, 422, "extra"),
    ):
        answer = httpx.post(f"{url}/facts", json=fact | change)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert participant.totals() == {"count": 1, "amount": 5}


def test_the_door_takes_no_facts_before_the_past(door: tuple[str, Participant]) -> None:
    """If it failed, whoever tells a fact to a participant that lost its state would think that it is safe, or never to be told again."""
    url, participant = door
    assert Replay(participant).begin(new=True)
    answer = httpx.post(f"{url}/facts", json={"type": "MoneyCame", "order_id": "o-1", "data": {"amount": 5}, "fact_id": "t-1"})
    assert (answer.status_code, "waits for a replay" in answer.json()["detail"]) == (503, True)
    assert participant.totals() == {"count": 0, "amount": 0}


def test_a_door_whose_database_is_away_says_that_it_may_be_tried_again(door: tuple[str, Participant]) -> None:
    """If it failed, a caller would take a hiccup for a bug and give up."""
    url, participant = door
    with participant.engine.begin() as connection:
        connection.exec_driver_sql(f'DROP TABLE "{participant.ledger.facts.name}"')
    fact = {"type": "MoneyCame", "order_id": "o-1", "data": {"amount": 5}, "fact_id": "t-1"}
    assert httpx.post(f"{url}/facts", json=fact).status_code == 503


def test_happen(door: tuple[str, Participant]) -> None:
    """If it failed, a fact could be told by hand only with curl."""
    url, participant = door
    cli = make_cli("teller", facts=True)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["happen", *arguments, "--url", url])
        assert "Traceback" not in result.output
        return result.exit_code, result.output

    code, said = run("MoneyCame", "--order", "o-1", "--data", '{"amount": 5}', "--fact", "t-1")
    (event,) = participant.reported()
    assert (code, json.loads(said)) == (0, {"message_id": event.message.message_id})
    assert run("MoneyCame", "--order", "o-2", "--data", '{"amount": 5}')[0] == 0
    for arguments, what in (
        (("MoneyCome", "--order", "o-1"), "404 MoneyCome is no fact of teller"),
        (("MoneyCame", "--order", "o-1", "--data", "{"), "--data is not JSON"),
        (("MoneyCame", "--order", "o-1", "--data", "5"), "422"),
        (("MoneyCame", "--order", "o-9", "--data", '{"amount": 7}', "--fact", "t-1"), "409 The id t-1"),
    ):
        code, said = run(*arguments)
        assert (code, said.count("\n"), what in said) == (2, 1, True), said
    assert participant.totals()["count"] == 2


def test_only_one_with_facts_is_told_them() -> None:
    """If it failed, the command line would offer what the participant cannot do."""
    plain, teller_cli = ({command.callback for command in make_cli("x", facts=facts).registered_commands} for facts in (False, True))
    assert teller_cli - plain == {happen}

"""The relay: nothing that the broker did not take is forgotten, and nothing it took is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.app.ports import OutboxMessage, Settled
from orchestrator.app.relay import AGAIN_FIRST_S, Relay
from orchestrator.saga.inputs import SentLate


def row(outbox_id: str, *, seq: int = 1, command_id: str | None = "c1") -> OutboxMessage:
    return OutboxMessage(
        outbox_id=outbox_id,
        order_id="o1",
        seq=seq,
        place=0,
        command_id=command_id,
        participant="inventory",
        owner="worker-1",
        exchange="escrow.commands",
        routing_key="inventory",
        message_id=outbox_id,
        message_type="ReserveInventory",
        content_type="application/cloudevents+json",
        headers={},
        body=b"{}",
        created_at=datetime(2026, 11, 21, tzinfo=UTC),
        mandatory=True,
    )


def test_a_confirmed_message_is_to_be_deleted_once() -> None:
    """If it failed, the outbox would grow for ever, or rows be deleted for nothing."""
    relay = Relay()
    relay.sending([row("a")], 0.0)
    assert relay.settle(Settled(outbox_id="a", outcome="confirmed"), 0.1)
    assert relay.take_confirmed() == ["a"]
    assert relay.take_confirmed() == []
    assert relay.take_late() == []


def test_a_command_confirmed_late_becomes_an_input() -> None:
    """If it failed, a deadline would run while its command had not left (R5)."""
    relay = Relay()
    relay.sending([row("a"), row("b", command_id=None)], 0.0)
    relay.settle(Settled(outbox_id="a", outcome="confirmed"), 1.5)
    relay.settle(Settled(outbox_id="b", outcome="confirmed"), 1.5)
    assert [work.input for work in relay.take_late()] == [SentLate(command_id="c1")]


def test_what_came_back_is_sent_again_after_growing_waits_in_journal_order() -> None:
    """If it failed, a returned command would be lost, or hammer the broker, or be overtaken by its undo (R17)."""
    relay = Relay()
    relay.sending([row("b", seq=2), row("a", seq=1)], 0.0)
    relay.settle(Settled(outbox_id="b", outcome="returned"), 1.0)
    relay.settle(Settled(outbox_id="a", outcome="lost"), 1.0)
    assert relay.due_again(1.0) == []
    assert [message.outbox_id for message in relay.due_again(1.0 + AGAIN_FIRST_S)] == ["a", "b"]
    relay.sending(relay.due_again(1.5), 1.5)
    relay.settle(Settled(outbox_id="b", outcome="nacked"), 2.0)
    assert relay.due_again(2.0 + AGAIN_FIRST_S) == []
    assert [message.outbox_id for message in relay.due_again(2.0 + 2 * AGAIN_FIRST_S)] == ["b"]


def test_a_confirm_of_a_message_sent_again_still_counts_from_its_commit() -> None:
    """If it failed, a command that waited out an outage would look as if it had left at once (R5)."""
    relay = Relay()
    relay.sending([row("a")], 0.0)
    relay.settle(Settled(outbox_id="a", outcome="lost"), 0.1)
    relay.sending(relay.due_again(9.0), 9.0)
    relay.settle(Settled(outbox_id="a", outcome="confirmed"), 9.1)
    assert len(relay.take_late()) == 1


def test_what_is_somebody_elses_is_forgotten() -> None:
    """If it failed, two workers would send one row for ever."""
    relay = Relay()
    relay.sending([row("a")], 0.0)
    relay.settle(Settled(outbox_id="a", outcome="lost"), 0.1)
    relay.forget(["a"])
    assert relay.came_back() == []
    assert len(relay) == 0


def test_confirms_whose_deletion_failed_are_deleted_later() -> None:
    """If it failed, a database hiccup would leave rows that are sent again."""
    relay = Relay()
    relay.sending([row("a")], 0.0)
    relay.settle(Settled(outbox_id="a", outcome="confirmed"), 0.1)
    relay.put_back_confirmed(relay.take_confirmed())
    assert relay.take_confirmed() == ["a"]

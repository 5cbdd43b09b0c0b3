"""Folding line by line gives, and refuses, what the core's fold does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from orchestrator.app import replay
from orchestrator.app.replay import LINE, SNAPSHOT_EVERY, Replay, due_snapshots, entry_of, line_hash, line_of
from orchestrator.app.sketch import sketch
from orchestrator.contract import canonical
from orchestrator.errors import InvariantViolated
from orchestrator.saga.chain import entry_hash
from orchestrator.saga.decision import Entry
from orchestrator.saga.fold import fold, fold_document
from orchestrator.saga.order import from_document
from orchestrator.store.orders import label_rows, projection
from tests.golden.corpus import CORPUS, decode_file


def journals() -> Iterator[list[Entry]]:
    """Recorded orders of every kind."""
    for file in sorted(CORPUS.glob("*.jsonl")):
        yield from decode_file(file.read_bytes())[1]


def replayed(journal: list[Entry]) -> Replay:
    """All of it."""
    one = Replay(journal[0].order_id)
    for entry in journal:
        one.take(line_of(entry))
    return one


def test_a_line_has_every_field_of_an_entry() -> None:
    """If it failed, a field of the journal would be outside its hash, or lost on the way."""
    assert set(LINE) == {field.name for field in fields(Entry)}
    for journal in journals():
        for entry in journal:
            assert entry_of(line_of(entry)) == entry
            assert line_hash(line_of(entry)) == entry.hash == entry_hash({name: getattr(entry, name) for name in LINE if name != "hash"})


def test_it_folds_as_the_core_does() -> None:
    """If it failed, a rebuilt order would be another than the one that was decided on."""
    for journal in journals():
        document = fold_document(journal)
        one = replayed(journal)
        assert one.bytes() == canonical.encode(document)
        assert from_document(document) == fold(journal) == replay.thawed(one)


def test_a_sketch_has_the_rows_of_the_order() -> None:
    """If it failed, rows would be compared with, and rebuilt as, those of an order that is not this one."""
    for journal in journals():
        for place in range(1, len(journal) + 1):
            order, drawn = fold(journal[:place]), sketch(canonical.encode(fold_document(journal[:place])))
            assert projection(drawn) == projection(order)
            assert label_rows(drawn) == label_rows(order)
            assert (drawn.deadlines, drawn.next_due_at) == (order.deadlines, order.next_due_at)
            assert [ask.undo_is_open for ask in drawn.asks.values()] == [ask.undo_is_open for ask in order.asks.values()]
            assert dict(drawn.parked) == dict(order.parked)


def test_it_refuses_what_the_core_refuses() -> None:
    """If it failed, a damaged history would be folded into an order that never was."""
    journal = max(journals(), key=len)
    last = journal[-1]
    for broken in (
        [*journal[:3], *journal[4:]],
        [*journal[:-1], replace(last, verdict="ignored" if last.verdict != "ignored" else "late")],
        [*journal[:-1], replace(last, effects=b'{"alerts":[]}')],
        [*journal[:-1], replace(last, prev_hash=journal[0].hash)],
        journal[1:],
    ):
        with pytest.raises(InvariantViolated) as theirs:
            fold(broken)
        with pytest.raises(InvariantViolated) as ours:
            replayed(broken)
        assert str(ours.value) == str(theirs.value)
    with pytest.raises(InvariantViolated):
        Replay("nobody").bytes()


def test_it_goes_on_from_any_entry() -> None:
    """If it failed, an order seen from a snapshot would be another than the one seen from its beginning."""
    for journal in journals():
        for place in range(1, len(journal)):
            one = Replay(journal[0].order_id, fold_document(journal[:place]))
            for entry in journal[place:]:
                one.take(line_of(entry))
            assert one.bytes() == canonical.encode(fold_document(journal))


def test_most_orders_have_no_snapshot() -> None:
    """If it failed, every order would be written twice."""
    for journal in journals():
        if len(journal) < SNAPSHOT_EVERY:
            assert due_snapshots(None, fold(journal), journal) == []


def test_snapshots_fall_on_the_multiples_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it failed, a rebuild would make other snapshots than the line took, and no two could be compared."""
    monkeypatch.setattr(replay, "SNAPSHOT_EVERY", 3)
    journal = max(journals(), key=len)
    cut = 4
    expected = [(seq, canonical.encode(fold_document(journal[:seq]))) for seq in range(3, len(journal) + 1, 3)]
    assert due_snapshots(None, fold(journal), journal) == expected
    assert due_snapshots(fold(journal[:cut]), fold(journal), journal[cut:]) == expected[1:]

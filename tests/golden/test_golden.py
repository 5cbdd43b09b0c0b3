from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.contract import canonical
from orchestrator.saga import inputs
from orchestrator.saga.decide import decide
from orchestrator.saga.decision import Entry
from orchestrator.saga.fold import fold
from orchestrator.saga.order import Order
from orchestrator.saga.rulebook import Rulebook
from tests.golden.corpus import BYTES_MAX, CORPUS, decode_file, encode_entry, encode_file
from tests.golden.record import record

FILES = sorted(CORPUS.glob("*.jsonl"))


def decided_again(rulebook: Rulebook, journal: list[Entry]) -> tuple[Order | None, list[Entry | None]]:
    """The order and the entries that the recorded inputs give today. Each is decided on the order as recorded before it."""
    order: Order | None = None
    entries: list[Entry | None] = []
    for place, recorded in enumerate(journal):
        before = fold(journal[:place]) if place else None
        decision = decide(rulebook, before, inputs.from_document(canonical.load(recorded.input)), recorded.at)
        order = decision.order
        entries.append(decision.entry)
    return order, entries


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_recorded_orders_fold_and_decide_as_they_did(file: Path) -> None:
    """If it failed, a running installation's orders would change their history, or go on otherwise than they began, with the next upgrade.

    Was that meant? `tests/golden/record.py` says when to record anew.
    """
    rulebook, journals = decode_file(file.read_bytes())
    for journal in journals:
        order, entries = decided_again(rulebook, journal)
        for recorded, today in zip(journal, entries, strict=True):
            where = f"{file.name}: {recorded.order_id}, entry {recorded.seq}, {recorded.name}"
            assert today is not None, f"{where}: is not journaled any more"
            assert canonical.load(encode_entry(today)) == canonical.load(encode_entry(recorded)), where
            assert encode_entry(today) == encode_entry(recorded), where
        assert fold(journal) == order


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_reading_and_writing_the_corpus_loses_nothing(file: Path) -> None:
    """If it failed, the comparison above would compare less than what was recorded."""
    content = file.read_bytes()
    assert encode_file(*decode_file(content)) == content


def test_recording_is_deterministic_and_leaves_no_scenario_out() -> None:
    """If it failed, a corpus recorded anew would differ for no reason, or a scenario would have been forgotten when it was recorded."""
    files = record()
    assert files == record()
    recorded = {journal[0].order_id for file in FILES for journal in decode_file(file.read_bytes())[1]}
    assert {journal[0].order_id for content in files.values() for journal in decode_file(content)[1]} <= recorded


def test_the_corpus_is_small_and_sees_much() -> None:
    """If it failed, nobody would read its differences, or a kind of input or verdict would be decided anew by no recorded order."""
    journals = [journal for file in FILES for journal in decode_file(file.read_bytes())[1]]
    assert sum(file.stat().st_size for file in FILES) <= BYTES_MAX
    assert {entry.kind for journal in journals for entry in journal} == {"message", "deadline", "sent_late", "act"}
    assert {entry.verdict for journal in journals for entry in journal} >= {"moved", "duplicate", "late", "refused", "ignored", "parked"}
    acts = {entry.name for journal in journals for entry in journal if entry.kind == "act"}
    assert acts == {"force", "retry", "abort", "hold", "release", "skip", "confirm", "deadline", "abandon"}


def test_a_changed_entry_would_be_seen() -> None:
    """If it failed, the corpus would agree with any core."""
    rulebook, journals = decode_file(FILES[0].read_bytes())
    order, entries = decided_again(rulebook, journals[0])
    changed = [*journals[0][:-1], replace(journals[0][-1], verdict="ignored")]
    assert order is not None
    assert [encode_entry(entry) for entry in entries if entry] != [encode_entry(entry) for entry in changed]

"""Record the golden journals anew: `python -m tests.golden.record`. Deterministic: the same core gives the same bytes.

That is right only when an order is *meant* to be decided, or written down, otherwise than before, and no installation has orders whose
histories were written the old way: recorded orders must fold and decide alike in every later version (R25). Before recording, read the
failure of `make golden`; afterwards, read the difference (`git diff --stat tests/golden`), say in the commit which rule changed, and why.
Where such orders exist, the core must go on deciding them as recorded: change the core, not the corpus. To add orders, add scenarios or
seeds: what is recorded already must not change.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.decision import Entry
from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.play import play_file
from orchestrator.testing.scenario import scenario_files
from tests.golden.corpus import BYTES_MAX, CORPUS, encode_file
from tests.golden.walk import walk
from tests.saga.listening import HOUSE_RULES, ORDER_WATCHED_RULES
from tests.saga.world import ORDER_RULES, PARCEL_RULES, TOUR_RULES
from tests.testing.kit import SCENARIOS

#: How many inputs an order that lives at random gets after its opening.
INPUTS = 14
#: The definitions, and the seeds of their random lives: of 400 tried, those that saw most. What listens lives by its scenarios alone.
SEEDS = (
    (ORDER_RULES, (156, 147, 213)),
    (TOUR_RULES, (267, 362, 230, 86)),
    (PARCEL_RULES, (390, 221, 175, 350)),
    (ORDER_WATCHED_RULES, ()),
    (HOUSE_RULES, ()),
)


def record() -> dict[str, bytes]:
    """The whole corpus, by file name."""
    files = {}
    for rulebook, seeds in SEEDS:
        journals = [*_played(rulebook), *(walk(rulebook, seed, inputs=INPUTS).history for seed in seeds)]
        files[f"{rulebook.name}.{rulebook.version}.jsonl"] = encode_file(rulebook, journals)
    return files


def _played(rulebook: Rulebook) -> Iterator[list[Entry]]:
    """The journals of a shipped definition's scenarios."""
    for file in scenario_files(SCENARIOS):
        result = play_file(file)
        if result is not None and result.harness is not None and result.harness.rulebook.document == rulebook.document:
            assert not result.failures, result.failures
            yield result.harness.history


def main() -> None:
    """Write the corpus in place of the old one."""
    files = record()
    size = sum(map(len, files.values()))
    assert size <= BYTES_MAX, f"The corpus would have {size} bytes; at most {BYTES_MAX}."
    CORPUS.mkdir(exist_ok=True)
    for old in CORPUS.glob("*.jsonl"):
        old.unlink()
    for name, content in files.items():
        (CORPUS / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")


if __name__ == "__main__":
    main()

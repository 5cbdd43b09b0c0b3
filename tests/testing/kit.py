"""What the tests of the testing floor share."""

from __future__ import annotations

from pathlib import Path

from orchestrator.saga.rulebook import Rulebook
from orchestrator.testing.harness import Harness
from tests.saga.world import ORDER_RULES

#: The scenario files of the shipped definitions.
SCENARIOS = Path(__file__).parents[1] / "scenarios"


def placed(*done: str, rulebook: Rulebook = ORDER_RULES) -> Harness:
    """An order that was opened, and these steps done."""
    harness = Harness(rulebook)
    harness.open({"amount_minor": 500})
    for step in done:
        harness.reply(step, {"payment_id": "p-1"})
    harness.look()
    return harness

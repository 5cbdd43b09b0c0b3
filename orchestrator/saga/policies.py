"""What a definition says of events that come at another time than they should (R1): by event, by state, by the row of R1 they fall into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

#: `early`: its state is still to come. `late`: its time is over. `unexpected`: nothing awaits it.
Cell = Literal["early", "late", "unexpected"]
#: `park`, `note` and `ignore` are what R1 does with an early, a late and an unexpected event; `quarantine` keeps it for a human, too.
Policy = Literal["park", "note", "ignore", "quarantine"]
CELLS: tuple[Cell, ...] = ("early", "late", "unexpected")


def policies_of(document: Mapping[str, Any]) -> dict[tuple[str, str | None, Cell], Policy]:
    """By event, state (None: every state that no other row names) and cell."""
    found: dict[tuple[str, str | None, Cell], Policy] = {}
    for row in document.get("policies", ()):
        for cell in CELLS:
            if row[cell] is not None:
                for state in row["in"] or [None]:
                    found[row["event"], state, cell] = row[cell]
    return found

"""The state diagram of a definition, in Mermaid, from the machine that makes the moves; for an order, with where it is and was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from orchestrator.saga.drawing import Edge
from orchestrator.saga.graph_line import edges_of_line
from orchestrator.saga.graph_states import edges_of_states
from orchestrator.saga.order import ENDS
from orchestrator.saga.rulebook import Rulebook

#: How states are drawn, by class.
_STYLES = {
    "current": "fill:#ffd54f,stroke:#b28704,stroke-width:3px,color:#000",
    "visited": "fill:#c8e6c9,stroke:#388e3c,color:#000",
    "possible": "stroke:#1565c0,stroke-width:2px,stroke-dasharray:4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Where an order is in the diagram of its definition."""

    current: str
    #: States it was in before, in no order.
    visited: frozenset[str]
    #: States that it can come to next by itself. A force leads to any step, an admin to `abandoned`.
    possible: frozenset[str]


def marks(rulebook: Rulebook, state: str, visited: Collection[str]) -> Marks:
    """Where an order is whose journal names these states."""
    following = {edge.target for edge in edges(rulebook) if edge.source == state}
    return Marks(current=state, visited=frozenset(visited) - {state}, possible=frozenset(following) - {state})


def mermaid(rulebook: Rulebook, order: Marks | None = None) -> str:
    """A Mermaid `stateDiagram-v2`. Forces are left out: they lead from anywhere to any step."""
    lines = ["stateDiagram-v2"]
    lines += [f"    {edge.source} --> {edge.target}: {_plain(edge.label)}" for edge in edges(rulebook)]
    lines += [f"    {end} --> [*]{said}" for end, said in _ends(rulebook).items()]
    if order is not None:
        ended = {order.current} & (ENDS - _ends(rulebook).keys())
        lines += [f"    {state} --> [*]" for state in ended]
        drawn = {"current": {order.current}, "visited": order.visited, "possible": order.possible - order.visited}
        lines += [f"    classDef {name} {style}" for name, style in _STYLES.items() if drawn[name]]
        lines += [f"    class {','.join(sorted(states))} {name}" for name, states in drawn.items() if states]
    return "\n".join(lines) + "\n"


def edges(rulebook: Rulebook) -> list[Edge]:
    """Every arrow: forward, back, and along the undos."""
    return edges_of_line(rulebook) if rulebook.is_line else edges_of_states(rulebook)


def _ends(rulebook: Rulebook) -> dict[str, str]:
    """The ends that are always drawn, each with what is said of it: the outcome, where its name is another."""
    own = {state: "" if state == ending.outcome else f": {ending.outcome}" for state, ending in rulebook.endings.items()}
    return {**(own or {"completed": ""}), "compensated": ""}


def _plain(label: str) -> str:
    """Mermaid ends a label at a line break and takes a semicolon for one."""
    return label.replace(";", ",")

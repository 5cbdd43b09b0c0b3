"""What can be come to in a graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def reached(following: Mapping[Node, Iterable[Node]], first: Iterable[Node]) -> frozenset[Node]:
    """Everything that these lead to, and they themselves.

    >>> sorted(reached({0: [1], 1: [2], 2: [1], 3: []}, [1]))
    [1, 2]
    """
    seen: set[Node] = set()
    todo = list(first)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += following[node]
    return frozenset(seen)

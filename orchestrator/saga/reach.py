"""What can be come to in a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def reached(following: Mapping[int, Iterable[int]], first: Iterable[int]) -> frozenset[int]:
    """Everything that these lead to, and they themselves.

    >>> sorted(reached({0: [1], 1: [2], 2: [1], 3: []}, [1]))
    [1, 2]
    """
    seen: set[int] = set()
    todo = list(first)
    while todo:
        index = todo.pop()
        if index not in seen:
            seen.add(index)
            todo += following[index]
    return frozenset(seen)

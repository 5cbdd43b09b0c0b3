"""What can be said of the way of an expanded document without walking it: loops, what every order comes to, where the pivots are passed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

Way = Sequence[Mapping[str, Any]]


def inner_ways(item: Mapping[str, Any]) -> list[Way]:
    """The ways inside of a choice or a loop."""
    return [item["way"]] if "repeat" in item else [*(case["way"] for case in item["cases"]), item["otherwise"]]


def repeats(way: Way) -> Iterator[Mapping[str, Any]]:
    """Every loop."""
    for item in way:
        if "stage" not in item:
            if "repeat" in item:
                yield item
            for inner in inner_ways(item):
                yield from repeats(inner)


def choices(way: Way) -> Iterator[Mapping[str, Any]]:
    """Every choice."""
    for item in way:
        if "stage" not in item:
            if "choose" in item:
                yield item
            for inner in inner_ways(item):
                yield from choices(inner)


def stages_in(way: Way) -> Iterator[int]:
    """Every stage."""
    for item in way:
        if "stage" in item:
            yield item["stage"]
        else:
            for inner in inner_ways(item):
                yield from stages_in(inner)


def asked(way: Way) -> frozenset[int]:
    """The stages that every way through comes to."""
    found: frozenset[int] = frozenset()
    for item in way:
        if "stage" in item:
            found |= {item["stage"]}
        else:
            first, *others = [asked(inner) for inner in inner_ways(item)]
            found |= first.intersection(*others)
    return found


def known(way: Way, before: frozenset[int]) -> Iterator[tuple[int, frozenset[int]]]:
    """Every stage, with those that are done when an order first comes to it, whichever way it took."""
    for item in way:
        if "stage" in item:
            yield item["stage"], before
        else:
            for inner in inner_ways(item):
                yield from known(inner, before)
        before |= asked([item])


def passed(way: Way, pivots: Collection[int], *, before: bool = False) -> tuple[dict[int, bool], bool]:
    """By stage: whether a pivot was passed when an order comes to it; and whether one was at the end. `before`: when the way begins."""
    found: dict[int, bool] = {}
    for item in way:
        if "stage" in item:
            found[item["stage"]] = before
            before = before or item["stage"] in pivots
        else:
            through = [passed(inner, pivots, before=before) for inner in inner_ways(item)]
            for inner, _ in through:
                found |= inner
            before = any(after for _, after in through)
    return found, before

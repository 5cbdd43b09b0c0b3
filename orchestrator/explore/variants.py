"""A definition as it is explored: its limits lowered, its guards decided beforehand in every way, what it computes a constant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

#: What a time is that a definition computes: it lies behind every deadline of a state that has a length.
_AT = "'2100-01-01T00:00:00Z'"
_GUARDS = ("when", "until", "done_when")


def bounded(document: Mapping[str, Any], attempts: int) -> dict[str, Any]:
    """An expanded document whose limits are at most `attempts`, wherever a retry stands in it."""
    lowered: dict[str, Any] = _bounded(document, attempts, is_retry=False)
    return lowered


def _bounded(value: Any, attempts: int, *, is_retry: bool) -> Any:
    if isinstance(value, Mapping):
        limits = ("attempts", "stuck_after") if is_retry else ()
        return {
            name: min(item, attempts) if name in limits and item is not None else _bounded(item, attempts, is_retry=name == "retry")
            for name, item in value.items()
        }
    return [_bounded(item, attempts, is_retry=False) for item in value] if isinstance(value, list) else value


def variants(document: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """The document with its guards decided beforehand, in every way they can come out; and what stands for each guard, by its text there.

    What a guard says depends on data that nobody knows here. So each input is decided with each variant, and an order may go one way at one
    time and another way at the next: all that any data can bring about, and more. Of several cases, of a choice or of an event, at most one
    holds. Computed fields are null, and a computed time is one; what an expression that fails leads to is not explored.

    No two guards have the same text in any variant, so what a decision has asked says which variants decide as it did.
    """
    found: list[tuple[dict[str, Any], dict[str, str]]] = []
    for picks in product(*map(range, _ways(document))):
        deciding = _Deciding(iter(picks))
        found.append((deciding.decided(document), deciding.guards))
    return found


def says(text: str) -> bool:
    """What a guard of a variant says, by its text there."""
    return "==" in text


def _ways(value: Any) -> Iterator[int]:
    """The number of ways in which each guard, or list of cases, can come out; in the order of `_Deciding`."""
    if isinstance(value, list):
        for item in value:
            yield from _ways(item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name in _GUARDS and isinstance(item, str):
                yield 2
            elif name == "cases":
                yield len(item) + 1
                yield from _ways([case["way"] for case in item])
            elif _is_of_events(name, item):
                yield from (_outcomes(cases) for cases in item.values())
            else:
                yield from _ways(item)


class _Deciding:
    """One way in which all guards of a document come out."""

    def __init__(self, picks: Iterator[int]) -> None:
        self._picks = picks
        #: Text in the variant → as it is written.
        self.guards: dict[str, str] = {}

    def decided(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decided(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        return {name: self._field(name, item) for name, item in value.items()}

    def _field(self, name: str, item: Any) -> Any:
        if name in _GUARDS and isinstance(item, str):
            return self._guard(item, holds=bool(next(self._picks)))
        if name == "cases":
            taken = next(self._picks)
            ways = self.decided([case["way"] for case in item])
            return [
                {"when": self._guard(case["when"], holds=place == taken), "way": way}
                for place, (case, way) in enumerate(zip(item, ways, strict=True))
            ]
        if _is_of_events(name, item):
            return {event: self._cases(cases) for event, cases in item.items()}
        if name in {"with", "set"} and isinstance(item, Mapping):
            return dict.fromkeys(item, "null")
        if name == "deadline" and isinstance(item, Mapping) and item["at"] is not None:
            return {**item, "at": _AT}
        return self.decided(item)

    def _cases(self, cases: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        taken = next(self._picks)
        return [
            {
                "when": case["when"] and self._guard(case["when"], holds=place == taken),
                "set": dict.fromkeys(case["set"], "null"),
                "then": case["then"],
            }
            for place, case in enumerate(cases)
        ]

    def _guard(self, text: str, *, holds: bool) -> str:
        number = len(self.guards)
        decided = f"{number} {'==' if holds else '!='} {number}"
        self.guards[decided] = text
        return decided


def _is_of_events(name: str, item: Any) -> bool:
    """Whether it says what events do in a state: cases by type."""
    return name == "events" and isinstance(item, Mapping) and all(isinstance(cases, list) for cases in item.values())


def _outcomes(cases: list[Mapping[str, Any]]) -> int:
    """One for each case that may be taken; and that none is, unless one always holds."""
    always = next((place for place, case in enumerate(cases) if case["when"] is None), None)
    return len(cases) + 1 if always is None else always + 1

"""Labels: the fields of an order's data by which a definition lets orders be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Labels of one definition.
LABELS_MAX: Final = 8
#: Characters of a label's value.
VALUE_CHARS_MAX: Final = 128


def labels_of(names: Iterable[str], data: Mapping[str, Any]) -> dict[str, str]:
    """The labels that an order opened with `data` keeps, in order of `names`.

    Kept as text: a text of 1 to 128 characters as it is, an integer in decimal, a boolean as `true` or `false`. What is missing, longer or
    of another kind is left out: an order is never refused for a label.

    >>> labels_of(["region", "vip", "lines"], {"region": "eu", "vip": True, "lines": [1]})
    {'region': 'eu', 'vip': 'true'}
    """
    found = ((name, _text(data.get(name))) for name in names)
    return {name: text for name, text in found if 1 <= len(text) <= VALUE_CHARS_MAX}


def _text(value: Any) -> str:
    """A value as a label; empty for what is none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""

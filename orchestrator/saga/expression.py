"""Expressions of definitions: CEL, bounded when they are compiled, pure when they are evaluated (R32).

The library has no limit of cost: nested comprehensions run for seconds. So an expression has at most one, and a length, and knows nothing
but the order: its data (`order`), what steps answered (`replies`, by step), and the event at hand (`event`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import cel

from orchestrator.contract import canonical
from orchestrator.errors import MalformedMessage

#: Characters of an expression.
LENGTH_MAX: Final = 500
#: Names that an expression may begin with.
ROOTS: Final = frozenset({"order", "replies", "event"})
#: What walks a list or a map, with the name it gives the element; one expression may have one of them. The library expands these macros
#: before it tells what an expression calls, so they are found in the text, outside of its strings.
_COMPREHENSION = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)?")
_STRING = re.compile(r"""\"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
#: What would hide a string's end, or the end of the text: raw and long strings, comments, line breaks.
_UNCLEAR = re.compile(r"""[rRbB]["']|\"{3}|'{3}|//|\n""")
#: Functions that need no more than their arguments' size. No clock and no random source is among them.
_FUNCTIONS = frozenset(
    {
        "size",
        "has",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "int",
        "uint",
        "double",
        "string",
        "bool",
        "min",
        "max",
        "timestamp",
        "duration",
    }
)


class ExpressionError(Exception):
    """What is wrong with an expression, or with what it was given. Never seen outside of the core."""


class Expression:
    """One compiled expression; may be used from any thread."""

    def __init__(self, text: str) -> None:
        """Compile it. Raises: ExpressionError, saying what to change."""
        if len(text) > LENGTH_MAX:
            raise ExpressionError(f"it has {len(text)} characters; at most {LENGTH_MAX} are taken")
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise ExpressionError(f"it is no CEL expression: {str(error).splitlines()[0]}") from None
        self.text = text
        _refuse_unknown(self._program, text)

    def value(self, names: Mapping[str, Any]) -> Any:
        """What it says of these: a JSON value. Raises: ExpressionError for a missing field, a type that does not fit, an overflow."""
        try:
            found = self._program.execute(dict(names))
            canonical.check(found)
        except KeyError as error:
            raise ExpressionError(f"{self.text}: there is no field {error.args[0]!r}") from None
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MalformedMessage) as error:
            raise ExpressionError(f"{self.text}: {str(error).splitlines()[0]}") from None
        return found

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it is true. Raises: ExpressionError, also when it says neither true nor false."""
        found = self.value(names)
        if not isinstance(found, bool):
            raise ExpressionError(f"{self.text}: it says {found!r}, not true or false")
        return found


def _refuse_unknown(program: Any, text: str) -> None:
    if _UNCLEAR.search(text):
        raise ExpressionError("it has a raw, bytes or long string, a comment or a line break; write it plainly, on one line")
    walks = _COMPREHENSION.findall(_STRING.sub('""', text))
    if len(walks) > 1:
        raise ExpressionError("it walks lists more than once; one all, exists, exists_one, map or filter is taken")
    called = {name for name in program.functions() if name.isidentifier()}
    if unknown := sorted(called - _FUNCTIONS):
        raise ExpressionError(f"it calls {', '.join(unknown)}; known are {', '.join(sorted(_FUNCTIONS))}")
    if strangers := sorted(set(program.variables()) - ROOTS - set(walks)):
        raise ExpressionError(f"it names {', '.join(strangers)}; known are {', '.join(sorted(ROOTS))}")

"""What a command prints: data on stdout as a table or as one JSON document, talk on stderr.

Tables show times relative to now on a terminal and absolute off it; JSON is the API's shape, untouched. Nothing is coloured or
cut off a terminal. Text from outside is shown with its control characters written out, so no order can drive an operator's terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns off a terminal: enough that no line of a table is ever wrapped.
_WIDE = 100_000
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


class Format(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="A table for people, or one JSON document for programs.")]


def print_json(document: Any) -> None:
    """One JSON document. ASCII only, so it can be written in any encoding."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True, default=_json_value) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Rows under headings; `empty` goes to stderr when there are none, so stdout stays data."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if table.row_count:
        _print(table)
    else:
        note(empty)


def print_fields(pairs: Mapping[str, object]) -> None:
    """One thing, a field a line; a field without value is left out."""
    table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, "", [], {}):
            table.add_row(Text(name), Text(printable(value)))
    _print(table)


def print_line(text: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(_writable(printable(text), sys.stdout) + "\n")


def print_text(text: str) -> None:
    """A document of several lines that is ours (SQL, Mermaid), as it is."""
    sys.stdout.write(_writable(text if text.endswith("\n") else text + "\n", sys.stdout))


def note(text: str, *, lines: bool = False) -> None:
    """Talk, on stderr: one line, or with `lines` as many as the text has. Never fails: a closed stderr has no reader."""
    shown = "\n".join(printable(line) for line in text.splitlines()) if lines else printable(" ".join(text.split()))
    with suppress(OSError, ValueError):
        sys.stderr.write(_writable(shown, sys.stderr) + "\n")


def when(value: object, now: datetime) -> str:
    """An instant for a table: relative to `now` (aware) on a terminal, else as it is.

    `value`: RFC 3339 text as the API gives it, an aware datetime, or None (empty).
    """
    if value is None:
        return ""
    instant = value if isinstance(value, datetime) else parse_instant(str(value))
    if instant is None:
        return str(value)
    return relative(instant, now) if on_terminal() else format_instant(instant)


def relative(instant: datetime, now: datetime) -> str:
    """How far away an instant is, in its two largest units.

    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> relative(at, at + timedelta(seconds=75)), relative(at, at - timedelta(hours=26)), relative(at, at)
    ('1m15s ago', 'in 1d2h', 'now')
    """
    seconds = round((instant - now) / timedelta(seconds=1))
    if seconds == 0:
        return "now"
    parts: list[str] = []
    left = abs(seconds)
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break  # 1d0h5m reads as 1d
    span = "".join(parts[:2])
    return f"in {span}" if seconds > 0 else f"{span} ago"


def parse_instant(text: str) -> datetime | None:
    """An RFC 3339 instant with its offset; None for anything else.

    >>> parse_instant("2026-01-01T00:00:00Z")
    datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> parse_instant("2026-01-01") is None
    True
    """
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo else None
    except (ValueError, OverflowError):
        return None


def format_instant(instant: datetime) -> str:
    """RFC 3339, UTC, with Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def printable(value: object) -> str:
    r"""Text that cannot drive a terminal: control and format characters, and lone surrogates, are written out.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    >>> printable(True), printable(["a", "b"])
    ('yes', 'a, b')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = json.dumps(value, ensure_ascii=False, default=_json_value)
    elif isinstance(value, list | tuple):
        value = ", ".join(printable(item) for item in value)
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def release_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush cannot fail on a closed pipe."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(table: Table) -> None:
    """A table on stdout, without the blanks that fill its last column."""
    terminal = on_terminal()
    console = Console(
        file=sys.stdout,
        width=None if terminal else _WIDE,
        no_color=not terminal,
        force_terminal=terminal,
        highlight=False,
    )
    with console.capture() as capture:
        console.print(table)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    sys.stdout.write(_writable(text, sys.stdout))


def _writable(text: str, stream: TextIO) -> str:
    """Text that the stream's encoding can hold: other characters are written out."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _json_value(value: object) -> object:
    return format_instant(value) if isinstance(value, datetime) else str(value)

"""What the demo shows: a line for each event, with the seconds since the start, and who waits for whom as a table.

On a terminal the table stands below the lines and moves; off it, it is printed now and then.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.cli.session import Session

#: Columns off a terminal.
WIDTH = 110
#: Between two tables off a terminal, in seconds.
TABLE_EVERY_S = 4.0
_INDENT = 9


class Screen:
    """Use it in a `with` block."""

    def __init__(self, session: Session) -> None:
        terminal = sys.stdout.isatty()
        self._monotonic = session.monotonic
        self._begin_s = session.monotonic()
        self._console = Console(width=None if terminal else WIDTH, no_color=not terminal, force_terminal=terminal, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if terminal else None
        self._shown_s = 0.0
        self._shown: object = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._monotonic() - self._begin_s

    def title(self, text: str) -> None:
        """What this is, before anything happens."""
        self._console.print(Text(text, style="bold"))

    def say(self, text: str, style: str = "") -> None:
        """Something happens."""
        line = Text.assemble((f"{self.elapsed_s:5.1f} s  ", "dim"), (text, style))
        self._console.print(line, soft_wrap=True)

    def show(self, orders: Iterable[Mapping[str, Any]], *, now: bool = False) -> None:
        """Who waits for whom. Off a terminal only now and then, when it has changed, or `now`."""
        rows = _rows(orders)
        if self._live:
            self._live.update(_table(rows), refresh=True)
        elif rows and rows != self._shown and (now or self.elapsed_s - self._shown_s >= TABLE_EVERY_S):
            self._shown, self._shown_s = rows, self.elapsed_s
            self._console.print(Padding(_table(rows), (0, 0, 0, _INDENT), expand=False))

    def close_table(self) -> None:
        """The moving table has done its work."""
        if self._live:
            self._live.stop()
            self._live = None

    def checks(self, checks: Iterable[tuple[bool, str, str]]) -> None:
        """What had to hold, a line each: whether it does, what it is, and the figures."""
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for holds, what, figures in checks:
            table.add_row(Text("yes", style="green") if holds else Text("NO", style="bold red"), Text(what), Text(figures))
        self._console.print(table)

    def proof(self, checks: list[tuple[bool, str, str]]) -> bool:
        """What had to hold, and whether all of it does."""
        self.close_table()
        self.say("the end, as the API and the participants' own tables tell it:\n")
        self.checks(checks)
        held = all(holds for holds, _, _ in checks)
        words = f"\n{'All of it held' if held else 'NOT all of it held'}, in {self.elapsed_s:.0f} s."
        self._console.print(Text(words, style="bold green" if held else "bold red"), soft_wrap=True)
        return held


Row = tuple[str, str, str, str, str]


def _rows(orders: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Orders that stand alike, together: state, status, how many, whom they wait for, and how often they asked."""
    alike: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for order in orders:
        waits = order["waiting_on"]
        whom = f"{waits[0]['participant']}: {waits[0]['for']}" if waits else ""
        alike[order["state"], order["status"], whom].append(order["attempts"])
    rows = [(state, status, str(len(seen)), whom, _span(seen) if whom else "") for (state, status, whom), seen in alike.items()]
    return sorted(rows, key=lambda row: (row[3] == "", row[0], row[1]))


def _span(attempts: list[int]) -> str:
    low, high = min(attempts), max(attempts)
    return str(low) if low == high else f"{low} to {high}"


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, width in (("state", 27), ("status", 11), ("orders", 7), ("waits for", 28), ("attempts", 8)):
        table.add_column(name, min_width=width, no_wrap=True, justify="right" if name == "orders" else "left")
    for row in rows:
        table.add_row(*row)
    return table

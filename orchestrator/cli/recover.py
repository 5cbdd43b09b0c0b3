"""`escrow recover`: bring a restored database up to what the recorder knows (R28)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer

from orchestrator.cli.bar import progress_bar
from orchestrator.cli.db import database_url
from orchestrator.cli.exits import ExitCode
from orchestrator.cli.output import Format, OutputOption, note, print_json, print_line, print_table
from orchestrator.cli.session import Session, session_of
from orchestrator.contract.canonical import format_time, parse_time
from orchestrator.errors import RequestError

if TYPE_CHECKING:
    from orchestrator.bus.recorder import Start
    from orchestrator.recovery import Recovered, Unknown

#: Rows of a ledger that are asked for at once.
_ROWS = 1_000
#: Digits of an offset in the recorder.
_OFFSET_DIGITS_MAX = 18

LedgerOption = Annotated[
    list[str] | None,
    typer.Option("--ledger", metavar="URL", help="The door of a participant (repeatable): tell what it knows and Escrow does not."),
]


FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="first|OFFSET", help="Where to begin in the recorder; default: where the database's mark says."),
]


def command(ctx: typer.Context, ledger: LedgerOption = None, start: FromOption = None, output: OutputOption = Format.TABLE) -> None:
    """Fold in what the recorder has beyond this database, handle again what does not fit, and have everything outstanding asked again.

    For a database that was restored by any tool, while no process runs. It can be killed and run again; until it has come to its end no
    process starts. `--from first` is for a database whose mark was moved past what it lacks, since processes ran on it. Ends with 1 when
    something does not agree, or is uncertain.
    """
    session = session_of(ctx)
    database_url(session)
    run(session, ledger or [], output, _start(start))


def run(session: Session, urls: list[str], output: Format, start: Start | None = None) -> None:
    """Recover, and tell what was done. Ends the command with `FINDINGS` when a human should look."""
    from orchestrator import loading, recovery

    settings = session.settings()
    registrations = loading.load_definitions(settings.definitions, shipped=settings.shipped_names)
    ledgers = [_ledger(url) for url in urls]
    with progress_bar("Recovering") as progress:
        found = recovery.run(settings, registrations, progress, start=start, pause=session.sleep)
    report = _Report(found)
    if output is Format.TABLE:
        _tell(found)
    try:
        for name, rows in ledgers:
            report.unknown += recovery.unknown_to_us(settings, name, rows)
        with progress_bar("Verifying") as progress:
            report.findings = len(session.verify(settings, progress=progress).findings)
    finally:
        # What was recovered is so, whatever becomes of the rest, and no other run can tell it.
        if output is Format.JSON:
            print_json(_document(report))
        else:
            _tell_rest(report)
    if report.findings or found.tally.uncertain or found.gap or report.unknown:
        raise typer.Exit(ExitCode.FINDINGS)


@dataclass(slots=True)
class _Report:
    """A recovery that was finished, and what was found out after it."""

    found: Recovered
    unknown: list[Unknown] = field(default_factory=list)
    #: What does not agree; None: that was not found out.
    findings: int | None = None


def _start(text: str | None) -> Start | None:
    if text is None or text == "first":
        return "first" if text else None
    if (offset := offset_of(text)) is None:
        raise RequestError(f"--from {text!r} is neither 'first' nor an offset of the recorder.")
    return offset


def offset_of(text: str) -> int | None:
    """An offset of the recorder as a person writes it; None: it is none."""
    is_offset = text.isascii() and text.isdigit() and len(text) <= _OFFSET_DIGITS_MAX
    return int(text) if is_offset else None


def _ledger(url: str) -> tuple[str, Iterator[Mapping[str, Any]]]:
    """The name of a participant, and its ledger, by its door."""

    def rows(page: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        while page["rows"]:
            yield from page["rows"]
            page = _page(url, page["rows"][-1]["command_id"])

    first = _page(url, "")
    return first["participant"], rows(first)


def _page(url: str, after: str) -> dict[str, Any]:
    try:
        answer = httpx.get(f"{url.rstrip('/')}/ledger", params={"after": after, "limit": _ROWS}, timeout=30).raise_for_status()
        page: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise RequestError(f"The ledger of the participant at {url} cannot be read: {error}. Fix: name the address it printed.") from error
    return page


def _tell(found: Recovered) -> None:
    tally, messages = found.tally, found.tally.messages
    print_line(f"Read from the recorder: {found.read} messages.")
    print_line(f"Folded in: {tally.folded} journal entries; {tally.opened} orders opened, {tally.moved} moved on.")
    print_line(f"There already: {tally.known} journal entries.")
    if messages:
        said = ", ".join(f"{number} {verdict}" for verdict, number in sorted(messages.items()))
        print_line(f"Handled again: {sum(messages.values())} messages ({said}).")
    if tally.acts:
        print_line(f"Done again: {tally.acts} acts of operators.")
    asked = ", ".join(f"{name} {number}" for name, number in sorted(found.after.outstanding.items())) or "nothing"
    print_line(f"Asked again when workers start: {asked}.")
    print_line(
        f"Now {found.after.orders} orders, {found.after.entries} journal entries; before {found.before.orders}, {found.before.entries}."
    )
    if found.after.parked:
        print_line(f"Messages wait for orders that do not exist: {', '.join(found.after.parked)}. Whoever placed these was not answered.")


def _tell_rest(report: _Report) -> None:
    found, unknown, tally = report.found, report.unknown, report.found.tally
    if found.gap:
        _tell_window(found, unknown)
    if unknown:
        rows = [(one.participant, one.order_id, one.command_type, one.state, one.command_id) for one in unknown]
        print_table(("participant", "order", "command", "state", "command id"), rows, empty="")
        note(f"escrow: {len(unknown)} commands are known to participants and not to Escrow.")
    if tally.uncertain:
        print_table(("order", "uncertain"), tally.uncertain, empty="")
        if tally.more:
            print_line(f"and {tally.more} more.")
    if report.findings is None:
        note("escrow: The recovery has come to its end, and processes may start; it was not verified: run `escrow verify`.")
    elif report.findings:
        note(f"escrow: {report.findings} findings: `escrow verify` tells them.")


def _tell_window(found: Recovered, unknown: list[Unknown]) -> None:
    """The time of which something may be lost."""
    begin, end = _window(found, unknown)
    note(f"escrow: {found.gap}")
    note(f"escrow: What was accepted between {begin or 'the beginning'} and {end or 'the loss of the database'} may be lost.")
    if not unknown:
        note("escrow: `escrow recover --ledger URL` compares what a participant knows.")


def _window(found: Recovered, unknown: list[Unknown]) -> tuple[str | None, str | None]:
    """From the last commit of the backup to the last event that was seen, on the bus or at participants."""
    seen = [parse_time(one.answered_at) for one in unknown if one.answered_at]
    if found.heard_at is not None:
        seen.append(found.heard_at)
    last = found.before.last_entry_at
    return None if last is None else format_time(last), format_time(max(seen)) if seen else None


def _document(report: _Report) -> dict[str, Any]:
    found, unknown = report.found, report.unknown
    begin, end = _window(found, unknown)
    tally = found.tally
    return {
        "read": found.read,
        "gap": found.gap,
        "window": {"from": begin, "to": end} if found.gap else None,
        "folded": tally.folded,
        "known": tally.known,
        "opened": tally.opened,
        "moved": tally.moved,
        "messages": dict(tally.messages),
        "acts": tally.acts,
        "uncertain": [{"order_id": order_id, "what": what} for order_id, what in tally.uncertain],
        "more_uncertain": tally.more,
        "outstanding": dict(found.after.outstanding),
        "orders": found.after.orders,
        "entries": found.after.entries,
        "parked": list(found.after.parked),
        "unknown": [asdict(one) for one in unknown],
        "findings": report.findings,
    }

"""How a command ends: the exit codes, and the one place where an error becomes one line and a code.

The codes are a contract with scripts: a code never changes its meaning, and a new one is added at the end.
"""

from __future__ import annotations

import sys
import traceback
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NoReturn

import httpx
import typer
from typer.core import TyperGroup

from orchestrator.cli.output import note, release_stdout
from orchestrator.cli.session import Session
from orchestrator.errors import (
    DefinitionError,
    EscrowError,
    InvariantViolated,
    JournalDamaged,
    MessageError,
    RequestError,
    SettingsError,
    StoreForbidden,
    TemporaryError,
)


class ExitCode(IntEnum):
    """The exit codes of `escrow`."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    FORBIDDEN = 5
    UNAVAILABLE = 6
    TIMED_OUT = 7
    BUG = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


#: What each code says; `escrow --help` and the reference documentation are made from it.
MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FINDINGS: "a check found something, or an order ended otherwise than waited for",
    ExitCode.USAGE: "wrong usage, settings or request",
    ExitCode.NOT_FOUND: "no such order, definition, message or token",
    ExitCode.REFUSED: "refused at this moment: a conflict, or the order has moved on",
    ExitCode.FORBIDDEN: "no valid token, or its role does not allow it",
    ExitCode.UNAVAILABLE: "the API, the database or the broker does not answer",
    ExitCode.TIMED_OUT: "the time to wait ran out",
    ExitCode.BUG: "a bug in Escrow",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE_CLOSED: "the reader of the output went away",
}

EPILOG = "Exit codes:\n" + "\n".join(f"{code.value:>5}  {meaning}" for code, meaning in MEANINGS.items())

_BY_STATUS = {
    401: ExitCode.FORBIDDEN,
    403: ExitCode.FORBIDDEN,
    404: ExitCode.NOT_FOUND,
    408: ExitCode.UNAVAILABLE,
    409: ExitCode.REFUSED,
    410: ExitCode.NOT_FOUND,
    412: ExitCode.REFUSED,
    429: ExitCode.UNAVAILABLE,
    500: ExitCode.BUG,
}

#: Problems of the API that say more than their status does, by code.
_BY_PROBLEM = {"journal_damaged": ExitCode.FINDINGS}


def code_of_status(status: int) -> ExitCode:
    """The exit code for an HTTP status that is an error (400 to 599)."""
    return _BY_STATUS.get(status, ExitCode.USAGE if status < HTTPStatus.INTERNAL_SERVER_ERROR else ExitCode.UNAVAILABLE)


def code_of(error: BaseException) -> ExitCode:
    """The exit code for any exception: whose fault it is decides."""
    status, problem = getattr(error, "status", None), getattr(error, "problem", {})
    match error:
        case EscrowError() if problem.get("code") in _BY_PROBLEM:
            return _BY_PROBLEM[problem["code"]]
        case EscrowError() if isinstance(status, int):
            return code_of_status(status)
        case DefinitionError() | JournalDamaged():
            return ExitCode.FINDINGS
        case MessageError() | RequestError() | StoreForbidden():
            return ExitCode.USAGE
        case TemporaryError() | httpx.TransportError():
            return ExitCode.UNAVAILABLE
        case httpx.InvalidURL():
            return ExitCode.USAGE
        case _:
            return ExitCode.BUG


def explain(error: BaseException) -> str:
    """What to print for an exception: one line, but findings about a definition or the settings are one line each."""
    if isinstance(error, InvariantViolated) or not isinstance(error, EscrowError | httpx.HTTPError | httpx.InvalidURL):
        text = str(error) or "no details"
        return f"This is a bug in Escrow: {type(error).__name__}: {text}. Run it again with --debug, and report what it prints."
    return str(error)


class Commands(TyperGroup):
    """The root of the command line: every way out of a command leads through its `main`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, then the exit codes as a list: Typer's own epilog would join its lines."""
        super().format_help(ctx, formatter)
        typer.echo(EPILOG)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a reader that went away (`| head`) is no error of ours."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(ExitCode.PIPE_CLOSED) from None

    def main(self, args: Any = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run the command line `args` (default: the process's own) and end with SystemExit, whatever happens.

        `obj`: the Session, where a test brings its own.
        """
        session = extra.pop("obj", None) or Session()
        extra["standalone_mode"] = False
        try:
            code = super().main(args=args, prog_name=prog_name, obj=session, **extra)
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        except typer.TyperException as error:
            code = _usage(error)
        except Exception as error:  # noqa: BLE001  # the last door: nothing leaves as a traceback
            if session.debug:
                traceback.print_exception(error)
            note(f"escrow: {explain(error)}", lines=isinstance(error, DefinitionError | SettingsError))
            code = code_of(error)
        if code == ExitCode.INTERRUPTED:
            note("escrow: Interrupted.")
        sys.exit(_flushed(int(code or ExitCode.OK)))


def _usage(error: typer.TyperException) -> int:
    """Say in one line what is wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "escrow"
    message = " ".join(error.format_message().split())
    if type(error).__name__ == "NoArgsIsHelpError":
        note(f"{path}: Say what to do. See '{path} --help'.")
    else:
        note(f"{path}: {message.rstrip('.')}. See '{path} --help'.")
    return ExitCode.USAGE


def _flushed(code: int) -> int:
    """Write what is buffered while an error can still be told from a bug."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        release_stdout()
        return ExitCode.PIPE_CLOSED
    except OSError as error:
        release_stdout()
        note(f"escrow: The output cannot be written: {error.strerror}.")
        return ExitCode.UNAVAILABLE
    return code

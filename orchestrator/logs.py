"""Structured logs: one event a line, JSON off a terminal, readable on one.

Every line has `at` (UTC), `level`, `logger`, `action` (a machine name, for grep) and `message`; lines about an order have `order_id`.
A line of a library, which knows no actions, has the action `library`.
Call it so: `log = logs.get(__name__)`, then `log.info("Took over the messages of a dead worker", action="outbox_adopted", rows=12)`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: Keys that carry what customers wrote. They are shown at debug level only; above it, the line says which were left out.
PAYLOAD_KEYS = frozenset({"body", "bodies", "data", "document", "effects", "envelope", "headers", "input", "lines", "patch", "payload"})

#: Libraries that say too much at INFO. `transitions` logs each callback of each move (libraries.md A.1).
QUIET_LOGGERS = ("alembic", "apscheduler", "httpcore", "httpx", "transitions", "uvicorn.access")

#: Libraries whose every word ours say better. pika writes six lines for each try to connect; the bus says once why its link is down.
SILENT_LOGGERS = ("pika",)

#: Loggers that bring handlers of their own, which would print each line twice.
ROUTED_LOGGERS = ("alembic", "apscheduler", "pika", "transitions", "uvicorn", "uvicorn.access", "uvicorn.error")

#: What a caller of the standard library's logging may add to its line: the sample participants do.
_EXTRAS = ("action", "order_id")

_SLUG = re.compile(r"[a-z][a-z0-9_.]*")
#: PostgreSQL shows the row that it refuses. In an error it stands at the end; in a traceback, before what begins the next part.
_DETAIL = re.compile(
    r"\s*^DETAIL:.*?(?=\n(?:HINT:|CONTEXT:|\[SQL: |\(Background |The above |During handling |Traceback )|\s*\Z)", re.DOTALL | re.MULTILINE
)


def configure(*, level: str = "info", form: Literal["auto", "json", "console"] = "auto", stream: TextIO | None = None) -> None:
    """Send everything that is logged, ours and the libraries', to `stream` (default stderr). May be called again."""
    stream = stream if stream is not None else sys.stderr
    on_terminal = stream.isatty() if form == "auto" else form == "console"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        name_the_action,
        hide_payloads,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A logger kept by a module must follow a later configure(): the tests and `escrow up` call it twice.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(_EXTRAS), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(on_terminal=on_terminal, stream=stream)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ROUTED_LOGGERS:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in SILENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def name_the_action(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give a line that names no action one: its message when that is a machine name, else `library`: ours name theirs."""
    if "action" not in event:
        message = str(event.get("event", ""))
        event["action"] = message if _SLUG.fullmatch(message) else "library"
    return event


def hide_payloads(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Above debug level, leave out the values of `PAYLOAD_KEYS`, and say so; and the rows that PostgreSQL shows in its errors."""
    if event.get("level", method) == "debug":
        return event
    for key in ("error", "exception"):
        if key in event:
            event[key] = _DETAIL.sub("", str(event[key]))
    hidden = sorted(PAYLOAD_KEYS & event.keys())
    for key in hidden:
        del event[key]
    if hidden:
        event["hidden"] = hidden
    return event


def _renderers(*, on_terminal: bool, stream: TextIO) -> list[Processor]:
    if on_terminal:
        return [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                timestamp_key="at",
            )
        ]
    return [
        structlog.processors.EventRenamer("message"),
        _in_order,
        structlog.processors.JSONRenderer(default=str),
    ]


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> Mapping[str, Any]:
    """The fixed keys first: logs are read by people too."""
    first = {key: event[key] for key in ("at", "level", "action", "order_id", "message") if key in event}
    return {**first, **event}

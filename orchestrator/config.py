"""The settings: read from the environment (`ESCROW_…`), every limit with its unit in its name, relations asserted at start.

`load()` is the only way in. `describe()` writes `deploy/env.example`: `python -m orchestrator.config > deploy/env.example`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.errors import SettingsError

PREFIX = "ESCROW_"

#: Variables with our prefix that are not settings of Escrow: those of the test suite.
EXEMPT_PREFIXES = ("ESCROW_TEST_",)

#: What the suffix of a setting's name says about its value.
UNITS = {"_ms": "milliseconds", "_s": "seconds", "_h": "hours", "_bytes_max": "bytes", "_count_max": "messages", "_count": "messages"}

#: Settings whose values never appear in an error, a log line or env.example.
SECRETS = frozenset({"database_url", "amqp_url", "token"})

#: Largest message of the wire, in bytes (DESIGN section 7); a batch must hold at least one.
MESSAGE_BYTES_MAX = 64 * 1024

#: The definitions that come with Escrow.
SHIPPED = ("order", "order_watched", "house_closing")


def _names(text: str) -> list[str]:
    return [] if text.strip() == "none" else [name.strip() for name in text.split(",")]


class Settings(BaseSettings):
    """Everything that can be set from outside. Immutable; made by `load()`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: str | None = Field(
        default=None,
        repr=False,
        examples=["postgresql+psycopg://escrow:PASSWORD@127.0.0.1:5432/escrow"],
        description="Escrow's database: postgresql+psycopg://… in production, sqlite:///FILE embedded. `serve` and `worker` need it. "
        "A primary and its standbys: postgresql+psycopg://USER:PASSWORD@/DATABASE?host=HOST:PORT&host=HOST:PORT.",
    )
    amqp_url: str | None = Field(
        default=None,
        repr=False,
        examples=["amqp://escrow:PASSWORD@127.0.0.1:5672/%2F"],
        description="The RabbitMQ broker: amqp://… or amqps://…. `serve` and `worker` need it. "
        "The nodes of a cluster: amqp://USER:PASSWORD@HOST:PORT,HOST:PORT,HOST:PORT/VHOST.",
    )
    namespace: str = Field(
        default="escrow",
        description="Prefix of every exchange and queue: lower-case letters, digits, dots, dashes, underscores; up to 64, a letter first.",
    )
    definitions: Path | None = Field(
        default=None,
        examples=["/etc/escrow/definitions"],
        description="A directory of definition files (YAML); one there replaces the shipped one of the same name.",
    )
    shipped: str = Field(
        default="order",
        examples=["order,house_closing"],
        description=f"Which of the definitions that come with Escrow are loaded: of {', '.join(SHIPPED)}, commas between; or `none`.",
    )
    url: str = Field(default="http://127.0.0.1:8080", description="Where the command line finds the API: http://… or https://….")
    token: str | None = Field(
        default=None, repr=False, examples=["escrow_…"], description="The bearer token of the command line, made by `escrow token create`."
    )
    metrics_address: str = Field(
        default="127.0.0.1:9464",
        description="HOST:PORT where each process serves /metrics, /healthz and /readyz; port 0 takes a free one.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="Form of the log lines; auto: console on a terminal, JSON off it."
    )
    batch_count_max: int = Field(default=400, ge=1, le=5_000, description="Most inputs handled in one transaction.")
    batch_bytes_max: int = Field(default=4 * 1024 * 1024, ge=MESSAGE_BYTES_MAX, le=64 * 1024 * 1024, description="Largest batch.")
    linger_ms: int = Field(default=3, ge=0, le=100, description="Longest wait for a small batch to fill while others are under way.")
    prefetch_count: int = Field(default=1_000, ge=1, le=20_000, description="Most messages the broker may have unacked at one worker.")
    tick_ms: int = Field(
        default=500, ge=50, le=500, description="Interval of the metronome: heartbeat, due deadlines, dead owners' messages."
    )
    drain_grace_s: int = Field(
        default=30, ge=0, le=600, description="After an outage deadlines wait this long at most for the queued replies to be read."
    )
    parked_expiry_h: int = Field(default=24, ge=1, le=24 * 90, description="How long an event that came too early waits before quarantine.")
    backup_dir: Path | None = Field(
        default=None, examples=["/var/backups/escrow"], description="Where the workers write backups, in turns; without it they write none."
    )
    backup_every_h: int = Field(default=24, ge=1, le=24 * 31, description="How often a backup is written.")
    backup_keep: int = Field(default=7, ge=1, le=1_000, description="Backups that are kept; older ones are deleted.")
    silent_orders_min: int = Field(
        default=10, ge=1, le=10_000, description="Orders that must find a participant silent, and be half of those that asked it (R8)."
    )
    canary_ms: int = Field(default=10_000, ge=100, le=600_000, description="Between two tries while a participant is silent.")
    recovery_first_per_s: int = Field(
        default=10, ge=1, le=10_000, description="Commands a second to a participant that is back; doubled every second."
    )
    recovery_max_per_s: int = Field(default=200, ge=1, le=10_000, description="What that comes to; from then on a hundredth more a second.")
    recorder: bool = Field(
        default=True,
        description="Keep every event and every journal entry in a stream of the broker, from which a lost database is recovered (R28); "
        "acks and answers wait for it (true or false).",
    )
    recorder_keep_h: int = Field(
        default=24 * 7, ge=1, le=24 * 3650, description="How long the recorder keeps them. Applies when its stream is made."
    )
    recorder_bytes_max: int = Field(
        default=20 * 1024**3, ge=10**9, le=10**15, description="How much the recorder keeps. Applies when its stream is made."
    )
    require_user_id: bool = Field(
        default=False, description="Accept a participant's events only from the broker user of the same name (true or false)."
    )
    failpoint: str | None = Field(
        default=None,
        examples=["committed"],
        description="For tests only: the named point at which the process kills itself, to prove that nothing is lost. Never set it.",
    )

    @field_validator("database_url")
    @classmethod
    def _database_url_is_known(cls, value: str | None) -> str | None:
        if value is None or value.startswith(("postgresql+psycopg://", "sqlite:///")):
            return value
        if value.startswith(("postgres://", "postgresql://")):
            raise ValueError("the driver is missing: write postgresql+psycopg://…")
        raise ValueError("neither postgresql+psycopg://… nor sqlite:///…")

    @field_validator("amqp_url")
    @classmethod
    def _amqp_url_is_known(cls, value: str | None) -> str | None:
        return _with_scheme(value, "amqp", "amqps")

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        return (_with_scheme(value, "http", "https") or "").rstrip("/")

    @field_validator("namespace")
    @classmethod
    def _namespace_is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9._-]{0,63}", value) or value.startswith("amq."):
            raise ValueError("not a name that every exchange and queue can begin with")
        return value

    @field_validator("shipped")
    @classmethod
    def _shipped_are_names(cls, value: str) -> str:
        for name in _names(value):
            if name not in SHIPPED:
                raise ValueError(f"no definition {name!r} comes with Escrow: there are {', '.join(SHIPPED)}")
        return value

    @property
    def shipped_names(self) -> list[str]:
        """The shipped definitions that are loaded."""
        return _names(self.shipped)

    @field_validator("definitions")
    @classmethod
    def _definitions_is_a_directory(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("no such directory")
        return value

    @field_validator("metrics_address")
    @classmethod
    def _metrics_address_is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _relations_hold(self) -> Settings:
        if self.prefetch_count < self.batch_count_max:
            raise ValueError(
                f"{PREFIX}PREFETCH_COUNT={self.prefetch_count} is less than {PREFIX}BATCH_COUNT_MAX={self.batch_count_max}: "
                "no batch could fill. Fix: raise the first or lower the second."
            )
        if self.recovery_first_per_s > self.recovery_max_per_s:
            raise ValueError(
                f"{PREFIX}RECOVERY_FIRST_PER_S={self.recovery_first_per_s} is more than "
                f"{PREFIX}RECOVERY_MAX_PER_S={self.recovery_max_per_s}: a recovery begins slowly. Fix: lower the first or raise the second."
            )
        if self.linger_ms * 2 > self.tick_ms:
            raise ValueError(
                f"{PREFIX}LINGER_MS={self.linger_ms} is more than half of {PREFIX}TICK_MS={self.tick_ms}: deadlines would come late. "
                "Fix: lower the first or raise the second."
            )
        return self

    def require(self, *names: str) -> None:
        """Assert that settings which have no default are given.

        Raises: SettingsError naming each that is missing, with an example.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise SettingsError("\n".join(f"{_variable(name)} is not set. Fix: {_fix(name)}" for name in missing))


def load(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (command line options, by field name) win over it, None means not given.

    Raises: SettingsError with one line for each bad or unknown variable, naming it and the fix; secret values are not shown.
    """
    lines = list(_unknown_variables())
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines += [_line(detail["loc"], detail["msg"], detail["input"]) for detail in error.errors(include_url=False)]
    if lines:
        raise SettingsError("\n".join(lines))
    return settings


def environment_with(**settings: str) -> dict[str, str]:
    """Our environment for a child process: without our settings, so that it has exactly these, by field name."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return inherited | {_variable(name): value for name, value in settings.items()}


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT` (IPv6 hosts in brackets). Raises: ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
        raise ValueError("not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def masked(url: str | None) -> str:
    """A URL that may be shown: its password replaced by `***`."""
    if url is None:
        return "(not set)"
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@", 1) if password else url


def describe() -> str:
    """The text of `deploy/env.example`: every setting with its meaning, unit, default and range."""
    blocks = [
        (
            "# Every setting of Escrow, with its unit and default. Generated by `python -m orchestrator.config`; a test keeps it so.\n"
            "# A line that is commented out shows the default, or an example where there is none.\n"
        )
    ]
    for name, field in Settings.model_fields.items():
        notes = [f"Unit: {unit}." for unit in [_unit(name)] if unit]
        notes.append(f"Default: {_text(field.default)}." if field.default is not None else "No default.")
        notes += _bounds(field)
        shown = field.default if field.default is not None else (field.examples or [""])[0]
        blocks.append(f"# {field.description}\n# {' '.join(notes)}\n#{_variable(name)}={_text(shown)}\n")
    return "\n".join(blocks)


def _with_scheme(value: str | None, *schemes: str) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"neither {schemes[0]}://HOST… nor {schemes[1]}://HOST…")
    return value


def _unknown_variables() -> Iterator[str]:
    known = {_variable(name) for name in Settings.model_fields}
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX) or name.upper() in known or name.startswith(EXEMPT_PREFIXES):
            continue
        near = difflib.get_close_matches(name.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "remove it; every setting is listed in deploy/env.example."
        yield f"{name} is no setting of Escrow. Fix: {hint}"


def _line(where: tuple[int | str, ...], message: str, value: Any) -> str:
    """One line for one thing pydantic found wrong; a relation's message names its variables itself."""
    message = message.removeprefix("Value error, ")
    if not where:
        return message
    name = str(where[0])
    shown = "" if name in SECRETS else f"={value}"
    return f"{_variable(name)}{shown} is not acceptable: {message}. Fix: {_fix(name)}"


def _fix(name: str) -> str:
    field = Settings.model_fields[name]
    example = (field.examples or [None])[0] if field.default is None else field.default
    bounds = " ".join(["", *_bounds(field)])
    return f"{field.description}{bounds} Example: {_variable(name)}={_text(example)}"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _unit(name: str) -> str | None:
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None)


def _bounds(field: FieldInfo) -> list[str]:
    limits = {key: getattr(bound, key) for bound in field.metadata for key in ("ge", "le") if getattr(bound, key, None) is not None}
    return [f"From {limits['ge']} to {limits['le']}."] if limits else []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.stdout.write(describe())

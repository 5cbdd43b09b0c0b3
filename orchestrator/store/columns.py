"""The types of columns that mean the same on PostgreSQL and SQLite."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text, TypeDecorator

from orchestrator.contract.canonical import format_time, parse_time


class TextInstant(TypeDecorator[datetime]):
    """An instant as RFC 3339 text with six digits and Z, so that text order is time order. For SQLite, which has no such type."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write."""
        return None if value is None else format_time(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Read."""
        return None if value is None else parse_time(value)


Name = Text().with_variant(Text(collation="C"), "postgresql")
Instant = DateTime(timezone=True).with_variant(TextInstant(), "sqlite")
#: Counts rows by itself on both dialects (SQLite does so for INTEGER alone).
Arrival = BigInteger().with_variant(Integer(), "sqlite")

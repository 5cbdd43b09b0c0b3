"""What processes find of participants that they do not hear (R8): each tells its own, and every beat reads what they find together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestrator.app.circuit import Found, Suspicion
from orchestrator.store.tables import participants, suspicions, workers

#: Separates participants, a name from its numbers, and these, in the one text that a beat reads.
_BETWEEN, _WITHIN, _NUMBERS = ",", "=", "/"


def tell(connection: sa.Connection, incarnation: str, found: Mapping[str, Suspicion]) -> None:
    """Replace what a process has told; what is left of those that are gone is deleted."""
    s = suspicions.c
    is_gone = s.incarnation.not_in(sa.select(workers.c.incarnation))
    connection.execute(sa.delete(suspicions).where(sa.or_(s.incarnation == incarnation, is_gone)))
    rows = [
        {
            "name": name,
            "incarnation": incarnation,
            "asked": suspicion.found.asked,
            "overdue": suspicion.found.overdue,
            "waiting": suspicion.found.waiting,
            "since": suspicion.since,
        }
        for name, suspicion in sorted(found.items())
    ]
    if rows:
        connection.execute(sa.insert(suspicions), rows)


def together(silent_since: sa.ColumnElement[datetime]) -> sa.ColumnElement[str | None]:
    """What the living processes, whose beat is later than an instant, find together; in one text (`read_together`)."""
    s, w = suspicions.c, workers.c
    lives = sa.exists().where(w.incarnation == s.incarnation, w.beat_at > silent_since)
    sums = (sa.func.sum(column).label(column.name) for column in (s.asked, s.overdue, s.waiting))
    each = sa.select(s.name, *sums).where(lives, ~_is_refuted()).group_by(s.name).subquery("each")
    asked, overdue, waiting = (sa.cast(each.c[name], sa.Text) for name in ("asked", "overdue", "waiting"))
    pair = each.c.name + sa.literal(_WITHIN) + asked + sa.literal(_NUMBERS) + overdue + sa.literal(_NUMBERS) + waiting
    return sa.select(sa.func.aggregate_strings(pair, _BETWEEN)).scalar_subquery()


def read_together(text: str | None) -> dict[str, Found]:
    """What `together` says."""
    found = {}
    for pair in text.split(_BETWEEN) if text else ():
        name, _, numbers = pair.partition(_WITHIN)
        asked, overdue, waiting = map(int, numbers.split(_NUMBERS))
        found[name] = Found(asked=asked, overdue=overdue, waiting=waiting)
    return found


def refuted(incarnation: str) -> sa.ColumnElement[str | None]:
    """Of what a process has told, the participants that were heard since it began; in one text (`read_refuted`)."""
    s = suspicions.c
    return sa.select(sa.func.aggregate_strings(s.name, _BETWEEN)).where(s.incarnation == incarnation, _is_refuted()).scalar_subquery()


def read_refuted(text: str | None) -> frozenset[str]:
    """What `refuted` says."""
    return frozenset(text.split(_BETWEEN)) if text else frozenset()


def _is_refuted() -> sa.ColumnElement[bool]:
    p = participants.c
    return sa.exists().where(p.name == suspicions.c.name, p.last_reply_at >= suspicions.c.since)

"""API tokens: kept as hashes, so a copy of the database lets nobody in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.errors import Conflict
from orchestrator.store.dialect import of, reading, writing
from orchestrator.store.tables import api_tokens

_SHOWN = (api_tokens.c.name, api_tokens.c.role, api_tokens.c.created_at, api_tokens.c.revoked_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """What is known of a token; its text is not."""

    name: str
    role: str
    created_at: datetime
    revoked_at: datetime | None


class Tokens:
    """The tokens of an installation."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, name: str, role: str, token: str) -> None:
        """Keep the hash of a token made by the caller (at least 256 random bits: so no salt or slow hash is needed).

        Raises: Conflict when the name is taken, by a revoked token too: the audit must tell them apart.
        """
        with writing(self._engine) as connection:
            dialect = of(connection)
            row = {"name": name, "role": role, "digest": _digest(token), "created_at": dialect.now(connection)}
            insert = dialect.insert(api_tokens).values(row).on_conflict_do_nothing().returning(api_tokens.c.name)
            if connection.execute(insert).one_or_none() is None:
                raise Conflict(f"A token named {name!r} exists, or existed: choose another name.")

    def check(self, token: str) -> TokenRow | None:
        """Whose token this is; None when it is unknown or revoked."""
        c = api_tokens.c
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(*_SHOWN).where(c.digest == _digest(token), c.revoked_at.is_(None))).one_or_none()
        return None if row is None else TokenRow(**row._mapping)

    def list(self) -> list[TokenRow]:
        """All tokens, revoked ones too, by name."""
        with reading(self._engine) as connection:
            return [TokenRow(**row._mapping) for row in connection.execute(sa.select(*_SHOWN).order_by(api_tokens.c.name))]

    def revoke(self, name: str) -> bool:
        """End a token at once. False: there is none of this name that could still be used."""
        c = api_tokens.c
        with writing(self._engine) as connection:
            now = of(connection).now(connection)
            statement = sa.update(api_tokens).where(c.name == name, c.revoked_at.is_(None)).values(revoked_at=now)
            return connection.execute(statement).rowcount == 1


def _digest(token: str) -> str:
    # A header may hold anything, a lone surrogate too; such a token is simply unknown.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()

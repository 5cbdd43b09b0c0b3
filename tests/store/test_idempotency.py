"""Idempotency keys, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from queue import Queue

import sqlalchemy as sa

from orchestrator.store import idempotency
from orchestrator.store.dialect import writing
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World


def test_the_first_claim_of_an_idempotency_key_wins(engine: sa.Engine, world: World) -> None:
    """If this failed, a request sent twice would place two orders."""
    first = idempotency.claim(engine, key="k", actor="ada", fingerprint="f", order_id="o-1", now=world.now)
    assert idempotency.claim(engine, key="k", actor="ada", fingerprint="g", order_id="o-2", now=world.now) == first
    assert idempotency.claim(engine, key="k", actor="bob", fingerprint="g", order_id="o-2", now=world.now).order_id == "o-2"


def test_old_idempotency_keys_are_forgotten_oldest_first(store: SqlStore, engine: sa.Engine, world: World) -> None:
    """If this failed, the table would grow for ever, or a key be forgotten while a caller still asks again."""

    def claim(key: str, order_id: str, hours_ago: int) -> str:
        at = world.now - timedelta(hours=hours_ago)
        return idempotency.claim(engine, key=key, actor="ada", fingerprint="f", order_id=order_id, now=at).order_id

    for hours_ago in (1, 4, 2, 3):
        claim(f"k{hours_ago}", "first", hours_ago)
    assert claim("k4", "second", 0) == "first"
    assert [store.forget_keys(world.now - timedelta(hours=2), 1) for _ in range(3)] == [1, 1, 0]
    assert [claim(f"k{hours_ago}", "second", 0) for hours_ago in (1, 2, 3, 4)] == ["first", "first", "second", "second"]


def test_a_key_that_is_forgotten_at_the_moment_of_its_use_is_claimed_anew(engine: sa.Engine, world: World) -> None:
    """If this failed, a caller would get an error of ours, or an order id that no key stands for any more."""
    begun: Queue[None] = Queue()

    def claim(order_id: str) -> str:
        begun.put(None)
        return idempotency.claim(engine, key="k", actor="ada", fingerprint="f", order_id=order_id, now=world.now).order_id

    assert claim("first") == "first"
    begun.get()
    with ThreadPoolExecutor(1) as pool:
        with writing(engine) as connection:
            assert idempotency.forget(connection, world.now + timedelta(hours=1), 10) == 1
            waiting = pool.submit(claim, "second")
            begun.get(timeout=5)
        assert waiting.result(timeout=5) == "second"
    assert claim("third") == "second"

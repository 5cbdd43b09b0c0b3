"""Registered definitions, on both databases (R30)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from orchestrator.contract import canonical
from orchestrator.errors import SettingsError
from orchestrator.saga.order import Order
from orchestrator.store.definitions import Registration
from orchestrator.store.queries import Queries
from orchestrator.store.transaction import SqlStore
from tests.store.conftest import World

EXPANDED = canonical.encode(
    {"opens_on": "OrderPlaced", "abort_on": ["Cancel"], "steps": [{"done_on": "Done", "refused_on": ["No"], "undo": {"done_on": "Undone"}}]}
)


def registration(
    name: str = "order", version: int = 1, fingerprint: str = "f", *, opens_on: str = "OrderPlaced", is_opener: bool = True
) -> Registration:
    """A definition."""
    return Registration(
        name=name,
        version=version,
        fingerprint=fingerprint,
        raw=b"{}",
        expanded=EXPANDED,
        opens_on=opens_on,
        is_opener=is_opener,
    )


def test_the_latest_start_marks_the_opener(store: SqlStore) -> None:
    """If this failed, an event would open no order, or one of an old version."""
    store.register([registration()])
    store.register([registration()])
    assert store.opener("OrderPlaced") == ("order", 1)
    store.register([registration(is_opener=False), registration(version=2, fingerprint="g")])
    assert store.opener("OrderPlaced") == ("order", 2)
    store.register([registration()])
    assert store.opener("OrderPlaced") == ("order", 1)
    assert (store.latest_version("order"), store.latest_version("none"), store.opener("Other")) == (1, None, None)


def test_a_step_back_takes_every_mark_of_the_later_version_with_it(store: SqlStore) -> None:
    """If this failed, after a return to the old files orders placed by name would get another version than those of events."""
    store.register([registration()])
    store.register([registration(version=2, fingerprint="g", opens_on="OrderMade")])
    assert (store.latest_version("order"), store.opener("OrderPlaced"), store.opener("OrderMade")) == (2, None, ("order", 2))
    store.register([registration()])
    assert (store.latest_version("order"), store.opener("OrderPlaced"), store.opener("OrderMade")) == (1, ("order", 1), None)


def test_one_that_opens_on_no_event_is_placed_by_name_at_its_highest_version(store: SqlStore) -> None:
    """If this failed, a shipped definition that stepped back could not be used by name any more."""
    store.register([registration(), registration(version=2, fingerprint="g", is_opener=False)])
    store.register([registration("demo"), registration(is_opener=False)])
    assert (store.opener("OrderPlaced"), store.latest_version("order"), store.latest_version("demo")) == (("demo", 1), 2, 1)


def test_what_is_registered_is_read_back(store: SqlStore) -> None:
    """If this failed, a worker could not run an order of another release, or would ignore its events."""
    store.register([registration()])
    assert store.stored_definition("order", 1) == EXPANDED
    assert store.stored_definition("order", 2) is None
    assert store.known_types() == {"OrderPlaced", "Cancel", "Done", "No", "Undone"}


def test_changed_content_needs_a_new_version(store: SqlStore) -> None:
    """If this failed, orders in flight would run on rules they were not opened with."""
    store.register([registration()])
    with pytest.raises(SettingsError, match=r"fingerprint f, now g.*raise `version` to 2"):
        store.register([registration("other"), registration(fingerprint="g", is_opener=False)])
    assert store.opener("OrderPlaced") == ("order", 1)


def test_the_version_to_raise_to_is_one_that_is_free(store: SqlStore) -> None:
    """If this failed, whoever follows the advice would be refused again, for a version that is taken."""
    store.register([registration(), registration(version=4, fingerprint="g", is_opener=False)])
    with pytest.raises(SettingsError, match="raise `version` to 5"):
        store.register([registration(fingerprint="h")])


def test_two_openers_for_one_event_are_refused(store: SqlStore) -> None:
    """If this failed, chance would decide which definition an event opens."""
    with pytest.raises(SettingsError, match="order 1 and other 1 both open on OrderPlaced"):
        store.register([registration(), registration("other")])


def test_the_open_orders_of_each_version_are_counted(engine: sa.Engine, store: SqlStore, world: World, put: Callable[..., Order]) -> None:
    """If this failed, a version would seem unused while orders run on it, or in use for ever."""
    store.register([registration(), registration(version=2, fingerprint="g", is_opener=False), registration("demo", is_opener=False)])
    put(world.order("one"))
    put(replace(world.order("two"), version=2))
    put(replace(world.order("three"), version=2, held=True))
    put(replace(world.order("four"), version=2, state="completed", direction="ended", asks={}, deadlines={}))
    found, cursor = Queries(engine).definitions()
    assert [(row.name, row.version, row.is_opener, row.open_orders) for row in found] == [
        ("demo", 1, False, 0),
        ("order", 1, True, 1),
        ("order", 2, False, 2),
    ]
    assert (cursor, {row.expanded for row in found}) == (None, {EXPANDED})


def test_pages_of_definitions_go_on_where_they_ended(engine: sa.Engine, store: SqlStore) -> None:
    """If this failed, a version would be on two pages, or on none."""
    versions = [registration(version=version, fingerprint=str(version), is_opener=False) for version in (1, 2, 10)]
    store.register([*versions, registration("Other", is_opener=False)])
    queries = Queries(engine)
    first, cursor = queries.definitions(limit=2)
    second, end = queries.definitions(after=cursor, limit=2)
    assert [(row.name, row.version) for row in [*first, *second]] == [("Other", 1), ("order", 1), ("order", 2), ("order", 10)]
    assert end is None
    one, none = queries.definition("order", 10), queries.definition("order", 3)
    assert one is not None
    assert (one.version, none) == (10, None)


def test_every_state_that_a_journal_names_is_found(engine: sa.Engine, world: World, put: Callable[..., Order]) -> None:
    """If this failed, an order's diagram would forget where the order was."""
    put(world.order("one"))
    put(world.order("other", state="elsewhere"))
    assert Queries(engine).states("one") == {"reserving"}
    assert Queries(engine).states("none") == frozenset()

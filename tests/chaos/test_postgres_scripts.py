"""The scripts of a failover, run on the wrong server: they say so and change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.postgres import PostgresUnavailable
from tests.support.replicated import Node, PostgresPair, postgres_pair
from tests.support.services import postgres_admin_url

pytestmark = [pytest.mark.real, pytest.mark.slow]

_STARTED = "SELECT pg_postmaster_start_time()"
_WAITS_FOR = "SHOW synchronous_standby_names"


@pytest.fixture(scope="module")
def pair() -> Iterator[PostgresPair]:
    """The tests of this module use it one after the other; each leaves a primary that waits for its standby."""
    with postgres_pair() as made:
        yield made


def test_the_present_primary_is_not_made_a_standby_of_the_old_one(pair: PostgresPair) -> None:
    """Whoever mixes up the two would undo every order since the promotion, on both servers."""
    pair.kill_primary()
    pair.promote()
    pair.primary.run("CREATE TABLE since_the_promotion AS SELECT 1")
    pair.start_old()
    with pytest.raises(PostgresUnavailable, match=r"left as it is: it is on timeline 2, and .* on 1"):
        pair.run_rejoin(pair.primary, pair.standby.conninfo)
    assert pair.primary.ask("SELECT count(*) FROM since_the_promotion") == 1
    pair.rejoin()
    assert pair.standby.ask("SELECT count(*) FROM since_the_promotion") == 1


@pytest.mark.parametrize("old", ["primary", "standby"])
def test_a_server_that_was_not_left_behind_is_not_stopped(pair: PostgresPair, old: str) -> None:
    """The present primary, given as the old one, or its standby, would be stopped before anybody looks."""
    node: Node = getattr(pair, old)
    started = node.ask(_STARTED)
    with pytest.raises(PostgresUnavailable, match="left as it is: it is on timeline"):
        pair.run_rejoin(node, pair.primary.conninfo)
    assert node.ask(_STARTED) == started


def test_nothing_rejoins_a_standby_or_another_database(pair: PostgresPair) -> None:
    """A server would be stopped, or rewound to a history that is not its own, for a slip in an address."""
    started = pair.standby.ask(_STARTED)
    with pytest.raises(PostgresUnavailable, match="does not answer as a primary"):
        pair.run_rejoin(pair.standby, pair.standby.conninfo)
    other = make_conninfo(postgres_admin_url().replace("+psycopg", ""), application_name="slip")
    with pytest.raises(PostgresUnavailable, match="no copy of the database of"):
        pair.run_rejoin(pair.standby, other)
    assert pair.standby.ask(_STARTED) == started


def test_a_primary_that_somebody_promotes_goes_on_waiting_for_its_standby(pair: PostgresPair) -> None:
    """From then on it would accept orders on one copy, and nobody would know."""
    before = _settings(pair.primary)
    with pytest.raises(PostgresUnavailable, match="is no standby, and left as it is"):
        pair.run_promote(pair.primary)
    assert _settings(pair.primary) == before
    assert pair.primary.ask(_WAITS_FOR) == f"ANY 1 ({pair.standby.name})"


def test_a_promotion_that_fails_leaves_the_settings_as_they_were(pair: PostgresPair) -> None:
    """Promoted later in another way, the server would go on alone, and nobody would have said so."""
    before = _settings(pair.standby)
    pair.stop_standby()
    with pytest.raises(PostgresUnavailable, match="was not promoted"):
        pair.run_promote(pair.standby)
    assert _settings(pair.standby) == before
    pair.start_standby()


def _settings(node: Node) -> str:
    return (node.data / "postgresql.auto.conf").read_text(encoding="utf-8")

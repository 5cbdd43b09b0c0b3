"""A database user that lacks a right: it is said which, nothing is taken for a bug, and what runs loses nothing until it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from orchestrator.errors import StoreForbidden
from orchestrator.store import schema
from orchestrator.store.engine import make_engine
from orchestrator.store.queries import Queries
from orchestrator.store.tokens import Tokens
from tests.app.house import House
from tests.app.running import Running
from tests.support.processes import eventually
from tests.support.services import private_postgres

pytestmark = pytest.mark.real

READS = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk"
WRITES = (
    f"{READS}; GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO clerk"
)


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A migrated database on a server where users can be made: its owner's URL."""
    with private_postgres() as server:
        schema.upgrade(server.url)
        yield server.url


@pytest.fixture
def tell(server_url: str) -> Iterator[Callable[[str], None]]:
    """What the owner tells the database. There is a user `clerk` meanwhile, without any right."""

    def carry_out(statements: str) -> None:
        with psycopg.connect(make_url(server_url).set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
            connection.execute(statements.encode())

    carry_out("CREATE USER clerk PASSWORD 'local-only'")
    yield carry_out
    carry_out("DROP OWNED BY clerk; DROP USER clerk")


@pytest.fixture
def clerk_url(server_url: str, tell: Callable[[str], None]) -> str:
    """How the clerk comes in."""
    return make_url(server_url).set(username="clerk", password="local-only").render_as_string(hide_password=False)


@pytest.fixture
def engine(clerk_url: str) -> Iterator[sa.Engine]:
    """The clerk's engine; it is let go before the clerk is dropped."""
    made = make_engine(clerk_url, clock=None)
    yield made
    made.dispose()


def test_who_has_no_right_is_told_so_wherever_it_is_met(engine: sa.Engine, clerk_url: str) -> None:
    """If it failed, whoever forgot the GRANTs would be told to report a bug in Escrow."""
    told = r"permission denied for (table|sequence) \w+\. Fix: give the user the rights that docs/operations\.md grants"
    for ask in (
        lambda: schema.check(engine),
        lambda: schema.upgrade(clerk_url),
        lambda: Queries(engine).orders(),
        lambda: Tokens(engine).create("ann", "viewer", "escrow_x"),
    ):
        with pytest.raises(StoreForbidden, match=told):
            ask()


def test_who_may_not_make_tables_is_told_so(clerk_url: str, tell: Callable[[str], None]) -> None:
    """If it failed, an upgrade by the wrong user would end as a bug in Escrow."""
    name = f"empty_{uuid4().hex}"
    tell(f"CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO clerk")
    try:
        for path, told in ((name, f"permission denied for schema {name}"), ("no_such_schema", "no schema has been selected to create in")):
            url = make_url(clerk_url).update_query_dict({"options": f"-c search_path={path}"})
            with pytest.raises(StoreForbidden, match=rf"{told}\. Fix: .*`escrow db upgrade` needs the owner"):
                schema.upgrade(url.render_as_string(hide_password=False))
    finally:
        tell(f"DROP SCHEMA {name}")


def test_who_may_only_read_is_found_before_it_is_to_write(engine: sa.Engine, tell: Callable[[str], None]) -> None:
    """If it failed, a worker would start, and stumble over one missing right after the other."""
    tell(READS)
    schema.check(engine)
    with pytest.raises(StoreForbidden, match=r"lacks rights: DELETE on api_tokens, .* and \d+ more\. Fix: "):
        schema.check_rights(engine)
    tell(WRITES)
    schema.check_rights(engine)
    tell("REVOKE DELETE ON outbox FROM clerk; REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM clerk")
    with pytest.raises(
        StoreForbidden,
        match=r"lacks rights: DELETE on outbox, USAGE on public\.audit_audit_id_seq, USAGE on public\.parked_arrival_seq\. Fix: ",
    ):
        schema.check_rights(engine)


@pytest.mark.parametrize("lost", ["INSERT ON journal", "ALL ON ALL TABLES IN SCHEMA public"])
def test_a_right_that_is_taken_away_is_waited_for_and_nothing_is_lost(
    clerk_url: str, tell: Callable[[str], None], lost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If it failed, a slip of an administrator would quarantine or lose every event that comes until it is noticed."""
    tell(WRITES)
    house = House(clerk_url)
    running = Running(house)
    try:
        running.place(f"before-{uuid4()}")
        eventually(lambda: running.line.database_up)
        tell(f"REVOKE {lost} FROM clerk")
        order_id = f"order-{uuid4()}"
        running.place(order_id)
        eventually(lambda: running.bus.was_paused and not running.line.database_up)
        tell(WRITES)
        eventually(lambda: running.state(order_id) == "reserving_inventory")
        eventually(lambda: running.line.database_up)
        assert running.house.queries.quarantine() == ([], None)
    finally:
        running.line.stop()
        running.broker.close()
        house.close()
    told = capsys.readouterr()
    assert "permission denied" in told.out + told.err
    assert "Fix: give the user the rights" in told.out + told.err
    assert "stumbled" not in told.out + told.err

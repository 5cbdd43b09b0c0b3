"""Very many rows at once, on both databases: all of them, as they are, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa
from psycopg.pq import Format

from orchestrator.errors import EscrowError
from orchestrator.store.bulk import CHUNK, delete_rows, stream_rows, write_rows
from orchestrator.store.dialect import reading, writing
from orchestrator.store.engine import for_bulk, make_engine
from orchestrator.store.tables import order_labels
from tests.store.conftest import utc_now

ALL = sa.select(order_labels).where(order_labels.c.name == sa.bindparam("name")).order_by(order_labels.c.order_id)
NOW = utc_now()
ROWS = [(f"o-{number:04d}", "note", "Grüße", NOW) for number in range(2 * CHUNK + 7)]


@pytest.fixture
def bulk(url: str) -> Iterator[sa.Engine]:
    """An engine for it, and ROWS in the table of labels."""
    engine = for_bulk(make_engine(url, clock=utc_now))
    with writing(engine) as connection:
        write_rows(connection, order_labels, ROWS)
    yield engine
    engine.dispose()


def test_a_stream_gives_every_row_as_it_was_written(bulk: sa.Engine) -> None:
    """If it failed, a verification would compare with other rows than there are; or miss those at the edge of a chunk."""
    with reading(bulk) as connection:
        rows = list(stream_rows(connection, ALL, {"name": "note"}))
        assert rows == ROWS
        assert {type(row) for row in rows} == {tuple}
        assert list(stream_rows(connection, ALL, {"name": "nothing"})) == []


def test_a_stream_that_is_left_early_leaves_the_connection_as_it_was(bulk: sa.Engine) -> None:
    """If it failed, one damaged journal would end the whole run."""
    with writing(bulk) as connection:
        with closing(stream_rows(connection, ALL, {"name": "note"})) as rows:
            assert next(rows) == ROWS[0]
        delete_rows(connection, order_labels, [row[0] for row in ROWS[1:]])
    with reading(bulk) as connection:
        assert list(stream_rows(connection, ALL, {"name": "note"})) == ROWS[:1]


def test_an_error_in_a_stream_is_one_of_ours(bulk: sa.Engine) -> None:
    """If it failed, a database that goes away meanwhile would look like a bug in Escrow."""
    broken: sa.Select[tuple[int]] = sa.select(sa.column("x")).select_from(sa.table("there_is_no_such_table"))
    with pytest.raises(EscrowError), reading(bulk) as connection:
        list(stream_rows(connection, broken, {}))


@pytest.mark.real
def test_values_travel_in_binary(postgres_url: str) -> None:
    """If it failed, every byte of a history would be sent as two digits, and going through all of it cost half as much again."""
    engine = for_bulk(make_engine(postgres_url, clock=None))
    with reading(engine) as connection:
        result = connection.execute(sa.select(sa.literal(b"\x00\xff")))
        assert result.cursor.pgresult.fformat(0) == Format.BINARY
        assert result.scalar_one() == b"\x00\xff"
    engine.dispose()

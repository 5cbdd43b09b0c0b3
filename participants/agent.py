"""The agent of a house sale: knows who signed what, and chases those who have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from participants.kit.participant import Command, Fact, Participant, Tx
from participants.kit.service import make_plain_cli

NAME = "agent"
METADATA = sa.MetaData()
CLOSINGS = sa.Table(
    "closings",
    METADATA,
    sa.Column("closing_id", sa.String(128), primary_key=True),
    # How often each happened to this closing.
    sa.Column("opened", sa.Integer, nullable=False),
    sa.Column("buyer_signed", sa.Integer, nullable=False),
    sa.Column("seller_signed", sa.Integer, nullable=False),
    sa.Column("amended", sa.Integer, nullable=False),
    sa.Column("chased", sa.Integer, nullable=False),
)
CHASES = sa.Table(
    "chases",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("closing_id", sa.String(128), nullable=False),
    # More than once would be a bug of the kit, and the totals would show it.
    sa.Column("chased_times", sa.Integer, nullable=False),
)
#: What the agent tells of, and the column that counts it.
FACTS = {"ClosingOpened": "opened", "BuyerSigned": "buyer_signed", "SellerSigned": "seller_signed", "ClosingAmended": "amended"}


def build(engine: sa.Engine) -> Participant:
    """The participant."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(CHASES).load(command.command_id for command in commands)
        tx.rows(CLOSINGS).load(command.order_id for command in commands)

    def tell(tx: Tx, fact: Fact) -> dict[str, Any]:
        if fact.data.get("closing_id", fact.order_id) != fact.order_id:
            raise ValueError("closing_id in the data is not the id of the closing.")
        _count(tx, fact.order_id, FACTS[fact.name])
        return {**fact.data, "closing_id": fact.order_id}

    for event_type in FACTS:
        participant.fact(event_type)(tell)

    @participant.notice("ChaseSignatures")
    def chase(tx: Tx, notice: Command) -> None:
        _count(tx, notice.order_id, "chased")
        row = tx.rows(CHASES).get(notice.command_id)
        if row is None:
            tx.rows(CHASES).add(command_id=notice.command_id, closing_id=notice.order_id, chased_times=1)
        else:
            tx.rows(CHASES).change(notice.command_id, chased_times=row["chased_times"] + 1)

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """How often each fact was told, and signatures were chased.

    It adds up when `applied_twice` is 0 and `chased`, which is counted closing by closing, equals `chases`, which counts commands.
    """
    counted = [sa.func.coalesce(sa.func.sum(CLOSINGS.c[name]), 0).label(name) for name in (*FACTS.values(), "chased")]
    twice = sa.func.count().filter(CHASES.c.chased_times > 1)
    with engine.connect() as connection:
        closings = connection.execute(sa.select(*counted)).one()
        chases = connection.execute(sa.select(sa.func.count().label("chases"), twice.label("applied_twice")).select_from(CHASES)).one()
    return {name: int(value) for row in (closings, chases) for name, value in row._mapping.items()}


def _count(tx: Tx, closing_id: str, what: str) -> None:
    if tx.rows(CLOSINGS).get(closing_id) is None:
        tx.rows(CLOSINGS).add(closing_id=closing_id, opened=0, buyer_signed=0, seller_signed=0, amended=0, chased=0)
    row = tx.rows(CLOSINGS).get(closing_id)
    assert row is not None
    tx.rows(CLOSINGS).change(closing_id, **{what: row[what] + 1})


cli = make_plain_cli(
    NAME, build, "Tell of ClosingOpened, BuyerSigned, SellerSigned and ClosingAmended, and take the notice ChaseSignatures.", facts=True
)


if __name__ == "__main__":
    cli()

"""The order service: where orders are placed. It tells the bus of each, and the choreography goes on from there by itself."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.contract import canonical
from participants.kit.facts import FactRefusedError
from participants.kit.participant import Fact, Participant, Tx
from participants.kit.service import make_plain_cli

NAME = "orders"
METADATA = sa.MetaData()
ORDERS = sa.Table(
    "orders_placed",
    METADATA,
    sa.Column("order_id", sa.String(128), primary_key=True),
    # Canonical JSON: what was ordered, by whom, for how much.
    sa.Column("data", sa.LargeBinary, nullable=False),
)


def build(engine: sa.Engine) -> Participant:
    """The participant. What an order holds is for those to judge who work it off."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)

    @participant.fact("OrderPlaced")
    def place(tx: Tx, fact: Fact) -> dict[str, Any]:
        data = {**fact.data, "order_id": fact.order_id}
        if fact.data.get("order_id", fact.order_id) != fact.order_id:
            raise ValueError("order_id in the data is not the id of the order.")
        if tx.rows(ORDERS).get(fact.order_id) is not None:
            raise FactRefusedError(f"Order {fact.order_id} is placed already. Fix: place another order under an id of its own.")
        tx.rows(ORDERS).add(order_id=fact.order_id, data=canonical.encode(data))
        return data

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """`placed` counts orders."""
    with engine.connect() as connection:
        return {"placed": int(connection.execute(sa.select(sa.func.count()).select_from(ORDERS)).scalar_one())}


cli = make_plain_cli(NAME, build, "Tell of OrderPlaced.", facts=True)


if __name__ == "__main__":
    cli()

"""The bank of a house sale: holds the buyer's deposits in an escrow account, returns them, or pays the seller.

Amounts are integers of minor units (cents), never floats. Each closing has an account of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from participants.kit.answers import Refusal, Reply
from participants.kit.participant import Command, Fact, Participant, Tx
from participants.kit.service import make_plain_cli

NAME = "bank"
METADATA = sa.MetaData()
ACCOUNTS = sa.Table(
    "escrow_accounts",
    METADATA,
    sa.Column("closing_id", sa.String(128), primary_key=True),
    # Kept step by step, not summed up from the rows below, so that the two can be compared.
    sa.Column("held_minor", sa.BigInteger, nullable=False),
    sa.Column("returned_minor", sa.BigInteger, nullable=False),
    sa.Column("paid_minor", sa.BigInteger, nullable=False),
)
DEPOSITS = sa.Table(
    "deposits",
    METADATA,
    # The id under which the deposit is undone.
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("closing_id", sa.String(128), nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    # How often each was carried out: more than once would be a bug of the kit, and the totals would show it.
    sa.Column("received_times", sa.Integer, nullable=False),
    sa.Column("returned_times", sa.Integer, nullable=False),
)
PAYOUTS = sa.Table(
    "payouts",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("closing_id", sa.String(128), nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("paid_times", sa.Integer, nullable=False),
)
#: Largest amount, in minor units: sums stay far from the limits of 64 bits.
AMOUNT_MINOR_MAX = 10_000_000_000_000


def build(engine: sa.Engine) -> Participant:
    """The participant."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(DEPOSITS).load(command.undoes for command in commands if command.undoes)
        tx.rows(PAYOUTS).load(command.command_id for command in commands if not command.undoes)
        tx.rows(ACCOUNTS).load(command.order_id for command in commands)

    @participant.fact("FundsReceived")
    def receive(tx: Tx, fact: Fact) -> dict[str, Any]:
        amount_minor = _amount(fact.data, "amount_minor")
        if amount_minor is None:
            raise ValueError(f"amount_minor is {fact.data.get('amount_minor')!r}; it must be a whole number from 1 to {AMOUNT_MINOR_MAX}.")
        _book(tx, fact.order_id, held_minor=amount_minor)
        _note(tx, DEPOSITS, fact.command_id, "received_times", closing_id=fact.order_id, amount_minor=amount_minor, returned_times=0)
        return {"closing_id": fact.order_id, "amount_minor": amount_minor, "deposit_id": f"D-{fact.command_id}"}

    @participant.undo("ReturnDeposit", of="FundsReceived", confirmed_by="DepositReturned")
    def give_back(tx: Tx, undo: Command) -> dict[str, Any]:
        # An undo is never refused: money that was paid out since is the bank's loss, and shows as less than nothing held.
        row = tx.rows(DEPOSITS).get(undo.undoes)
        assert row is not None, "a fact that was told has its deposit"
        _book(tx, row["closing_id"], held_minor=-row["amount_minor"], returned_minor=row["amount_minor"])
        tx.rows(DEPOSITS).change(undo.undoes, returned_times=row["returned_times"] + 1)
        return {"closing_id": row["closing_id"], "amount_minor": row["amount_minor"], "deposit_id": f"D-{undo.undoes}"}

    @participant.command("PaySeller", refused_by="PaymentRejected")
    def pay(tx: Tx, command: Command) -> Reply | Refusal:
        price_minor = _amount(command.data, "price_minor")
        if price_minor is None:
            return Refusal("PaymentRejected", {"closing_id": command.order_id, "reason": "price_not_valid"})
        account = tx.rows(ACCOUNTS).get(command.order_id)
        is_covered = account is not None and account["held_minor"] >= price_minor
        # What is replayed was paid once.
        if not is_covered and not command.replayed:
            return Refusal("PaymentRejected", {"closing_id": command.order_id, "reason": "not_covered"})
        _book(tx, command.order_id, held_minor=-price_minor, paid_minor=price_minor)
        _note(tx, PAYOUTS, command.command_id, "paid_times", closing_id=command.order_id, amount_minor=price_minor)
        return Reply("SellerPaid", {"closing_id": command.order_id, "price_minor": price_minor, "payout_id": f"S-{command.command_id}"})

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """`deposits`, `returns` and `payouts` are counted; `_minor` are minor units.

    It adds up when `applied_twice` is 0, `held_minor` = `received_minor` - `returned_minor` - `paid_minor`, and `returned_minor` and
    `paid_minor`, which the accounts keep step by step, are `deposits_returned_minor` and `payouts_minor`, which are summed up.
    """
    returned = DEPOSITS.c.returned_times > 0
    with engine.connect() as connection:
        rows = [
            connection.execute(
                sa.select(*(_sum(ACCOUNTS.c[name]).label(name) for name in ("held_minor", "returned_minor", "paid_minor")))
            ).one(),
            connection.execute(
                sa.select(
                    sa.func.count().label("deposits"),
                    sa.func.count().filter(returned).label("returns"),
                    _sum(DEPOSITS.c.amount_minor).label("received_minor"),
                    sa.func.coalesce(sa.func.sum(DEPOSITS.c.amount_minor).filter(returned), 0).label("deposits_returned_minor"),
                ).select_from(DEPOSITS)
            ).one(),
            connection.execute(
                sa.select(sa.func.count().label("payouts"), _sum(PAYOUTS.c.amount_minor).label("payouts_minor")).select_from(PAYOUTS)
            ).one(),
        ]
        twice = sa.or_(DEPOSITS.c.received_times > 1, DEPOSITS.c.returned_times > 1)
        deposits_twice = connection.execute(sa.select(sa.func.count()).select_from(DEPOSITS).where(twice)).scalar_one()
        payouts_twice = connection.execute(sa.select(sa.func.count()).select_from(PAYOUTS).where(PAYOUTS.c.paid_times > 1)).scalar_one()
    found = {name: int(value) for row in rows for name, value in row._mapping.items()}
    return found | {"applied_twice": int(deposits_twice) + int(payouts_twice)}


def _sum(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(column), 0)


def _amount(data: Mapping[str, Any], name: str) -> int | None:
    """An amount that can be booked, or None."""
    value = data.get(name)
    return value if type(value) is int and 1 <= value <= AMOUNT_MINOR_MAX else None


def _book(tx: Tx, closing_id: str, **changes_minor: int) -> None:
    if tx.rows(ACCOUNTS).get(closing_id) is None:
        tx.rows(ACCOUNTS).add(closing_id=closing_id, held_minor=0, returned_minor=0, paid_minor=0)
    account = tx.rows(ACCOUNTS).get(closing_id)
    assert account is not None
    tx.rows(ACCOUNTS).change(closing_id, **{name: account[name] + change for name, change in changes_minor.items()})


def _note(tx: Tx, table: sa.Table, command_id: str, times: str, **values: Any) -> None:
    row = tx.rows(table).get(command_id)
    if row is None:
        tx.rows(table).add(command_id=command_id, **values, **{times: 1})
    else:
        tx.rows(table).change(command_id, **{times: row[times] + 1})


cli = make_plain_cli(NAME, build, "Tell of FundsReceived, serve ReturnDeposit and PaySeller.", facts=True)


if __name__ == "__main__":
    cli()

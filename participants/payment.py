"""The payment service: takes and refunds money. Amounts are integers of minor units (cents), never floats."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from participants.kit.answers import Refusal, Reply
from participants.kit.participant import Command, Participant, Tx
from participants.kit.service import AMQP_URL, NAMESPACE, AmqpUrl, DatabaseUrl, HttpPort, Namespace, New, make_cli, serve

NAME = "payment"
METADATA = sa.MetaData()
PAYMENTS = sa.Table(
    "payments",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("order_id", sa.String(128), nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    # How often each was carried out: more than once would be a bug of the kit, and the totals would show it.
    sa.Column("taken_times", sa.Integer, nullable=False),
    sa.Column("refunded_times", sa.Integer, nullable=False),
)
ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("currency", sa.String(3), primary_key=True),
    # Kept step by step, not summed up from the payments, so that the two can be compared.
    sa.Column("balance_minor", sa.BigInteger, nullable=False),
)
#: Amounts above this are declined unless told otherwise: a hundred million in minor units.
LIMIT_MINOR = 10_000_000_000
_CURRENCY = re.compile(r"[A-Z]{3}")


def build(engine: sa.Engine, *, limit_minor: int = LIMIT_MINOR) -> Participant:
    """The participant. An amount above `limit_minor` is declined."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(PAYMENTS).load(command.undoes or command.command_id for command in commands)
        asked = {currency for command in commands if _is_currency(currency := command.data.get("currency"))}
        paid = {row["currency"] for command in commands if (row := tx.rows(PAYMENTS).get(command.undoes or command.command_id))}
        tx.rows(ACCOUNTS).load(asked | paid)

    @participant.command("TakePayment", refused_by="PaymentDeclined")
    def take(tx: Tx, command: Command) -> Reply | Refusal:
        amount_minor, currency = command.data.get("amount_minor"), command.data.get("currency")
        if type(amount_minor) is not int or amount_minor < 1 or not _is_currency(currency):
            return Refusal("PaymentDeclined", {"order_id": command.order_id, "reason": "amount_not_valid"})
        # What is replayed was taken once, whatever the limit is today.
        if amount_minor > limit_minor and not command.replayed:
            return Refusal("PaymentDeclined", {"order_id": command.order_id, "reason": "over_limit"})
        _book(tx, str(currency), amount_minor)
        _note_payment(tx, command, amount_minor, str(currency))
        paid = {"payment_id": _payment_id(command.command_id), "amount_minor": amount_minor, "currency": currency}
        return Reply("PaymentTaken", {"order_id": command.order_id, **paid})

    @participant.undo("RefundPayment", of="TakePayment", confirmed_by="PaymentRefunded")
    def refund(tx: Tx, undo: Command) -> dict[str, Any]:
        # What to refund is known from the command it undoes: its payment_id is null when Escrow never heard the reply.
        row = tx.rows(PAYMENTS).get(undo.undoes)
        assert row is not None, "a done command has its payment"
        _book(tx, row["currency"], -row["amount_minor"])
        tx.rows(PAYMENTS).change(undo.undoes, refunded_times=row["refunded_times"] + 1)
        return {"payment_id": _payment_id(row["command_id"]), "amount_minor": row["amount_minor"], "currency": row["currency"]}

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """`taken` and `refunded` count commands; `_minor` are minor units, summed over currencies.

    It adds up when `applied_twice` is 0 and `balance_minor` = `taken_minor` - `refunded_minor`.
    """
    refunded = PAYMENTS.c.refunded_times > 0
    with engine.connect() as connection:
        payments = connection.execute(
            sa.select(
                sa.func.count().label("taken"),
                sa.func.count().filter(refunded).label("refunded"),
                sa.func.count().filter(sa.or_(PAYMENTS.c.taken_times > 1, PAYMENTS.c.refunded_times > 1)).label("applied_twice"),
                sa.func.coalesce(sa.func.sum(PAYMENTS.c.amount_minor), 0).label("taken_minor"),
                sa.func.coalesce(sa.func.sum(PAYMENTS.c.amount_minor).filter(refunded), 0).label("refunded_minor"),
            ).select_from(PAYMENTS)
        ).one()
        balance = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(ACCOUNTS.c.balance_minor), 0))).scalar_one()
    return {name: int(value) for name, value in payments._mapping.items()} | {"balance_minor": int(balance)}


def _is_currency(value: object) -> bool:
    return isinstance(value, str) and _CURRENCY.fullmatch(value) is not None


def _payment_id(command_id: str) -> str:
    return f"P-{command_id}"


def _book(tx: Tx, currency: str, amount_minor: int) -> None:
    account = tx.rows(ACCOUNTS).get(currency)
    if account is None:
        tx.rows(ACCOUNTS).add(currency=currency, balance_minor=amount_minor)
    else:
        tx.rows(ACCOUNTS).change(currency, balance_minor=account["balance_minor"] + amount_minor)


def _note_payment(tx: Tx, command: Command, amount_minor: int, currency: str) -> None:
    row = tx.rows(PAYMENTS).get(command.command_id)
    if row is not None:
        tx.rows(PAYMENTS).change(command.command_id, taken_times=row["taken_times"] + 1)
        return
    tx.rows(PAYMENTS).add(
        command_id=command.command_id,
        order_id=command.order_id,
        amount_minor=amount_minor,
        currency=currency,
        taken_times=1,
        refunded_times=0,
    )


cli = make_cli(NAME)


@cli.command()
def run(
    database_url: DatabaseUrl = "sqlite:///payment.db",
    amqp_url: AmqpUrl = AMQP_URL,
    namespace: Namespace = NAMESPACE,
    http_port: HttpPort = 0,
    limit_minor: Annotated[int, typer.Option(envvar="PAYMENT_LIMIT_MINOR", min=0, help="Larger amounts are declined.")] = LIMIT_MINOR,
    *,
    new: New = False,
) -> None:
    """Serve TakePayment and RefundPayment."""
    where = {"database_url": database_url, "amqp_url": amqp_url, "namespace": namespace}
    serve(lambda engine: build(engine, limit_minor=limit_minor), **where, http_port=http_port, new=new)


if __name__ == "__main__":
    cli()

"""The invoice service: numbers invoices without a gap, and writes each as an e-mail into an outbox folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from orchestrator.contract import canonical
from participants.kit.answers import Refusal, Reply
from participants.kit.participant import Command, Participant, Tx
from participants.kit.service import AMQP_URL, NAMESPACE, AmqpUrl, DatabaseUrl, HttpPort, Namespace, make_cli, serve

NAME = "invoice"
METADATA = sa.MetaData()
INVOICES = sa.Table(
    "invoices",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("invoice_number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("order_id", sa.String(128), nullable=False),
    # The e-mail, and whether it is known to lie in the outbox folder.
    sa.Column("mail", sa.LargeBinary, nullable=False),
    sa.Column("mailed", sa.Boolean, nullable=False),
    # More than once would be a bug of the kit, and the totals would show it.
    sa.Column("emailed_times", sa.Integer, nullable=False),
)
sa.Index("invoices_to_mail", INVOICES.c.command_id, sqlite_where=~INVOICES.c.mailed, postgresql_where=~INVOICES.c.mailed)
NUMBERS = sa.Table(
    "invoice_numbers",
    METADATA,
    sa.Column("series", sa.String(32), primary_key=True),
    sa.Column("last_number", sa.BigInteger, nullable=False),
)
SERIES = "invoice"
#: An address that can stand in a header; whether it exists is the mail server's to say.
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{3,254}}\Z){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*")


def build(engine: sa.Engine, *, mail_dir: Path) -> Participant:
    """The participant. `mail_dir` is made when it is missing. Raises: OSError when it cannot be."""
    mail_dir.mkdir(parents=True, exist_ok=True)
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)
    written: set[str] = set()

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(INVOICES).load({command.command_id for command in commands} | written)
        # Mails that the last `settle` wrote are marked now: no commit of its own for it.
        for command_id in written:
            tx.rows(INVOICES).change(command_id, mailed=True)

    @participant.command("EmailInvoice", refused_by="InvoiceRejected")
    def email(tx: Tx, command: Command) -> Reply | Refusal:
        address = command.data.get("customer_email")
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            return Refusal("InvoiceRejected", {"order_id": command.order_id, "reason": "address_not_valid"})
        amount_minor, currency = command.data.get("amount_minor"), command.data.get("currency")
        if type(amount_minor) is not int or amount_minor < 0 or not isinstance(currency, str):
            return Refusal("InvoiceRejected", {"order_id": command.order_id, "reason": "amount_not_valid"})
        number = _next_number(tx)
        invoice = {"invoice_number": number, "mail": _mail(command, number, address), "mailed": False}
        row = tx.rows(INVOICES).get(command.command_id)
        if row is None:
            tx.rows(INVOICES).add(command_id=command.command_id, order_id=command.order_id, emailed_times=1, **invoice)
        else:
            tx.rows(INVOICES).change(command.command_id, emailed_times=row["emailed_times"] + 1, **invoice)
        return Reply("InvoiceEmailed", {"order_id": command.order_id, "invoice_number": number})

    @participant.settled_by
    def write_mails() -> None:
        with engine.connect() as connection:
            due = connection.execute(sa.select(INVOICES.c.command_id, INVOICES.c.mail).where(~INVOICES.c.mailed)).all()
        written.intersection_update({row.command_id for row in due})
        fresh = {row.command_id: bytes(row.mail) for row in due if row.command_id not in written}
        _write_all(mail_dir, fresh)
        written.update(fresh)

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """`emailed` invoices and the `last_number` given: without a gap they are equal. `applied_twice` counts commands."""
    twice = sa.func.count().filter(INVOICES.c.emailed_times > 1)
    with engine.connect() as connection:
        emailed, again = connection.execute(sa.select(sa.func.count(), twice).select_from(INVOICES)).one()
        last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(NUMBERS.c.last_number), 0))).scalar_one()
    return {"emailed": int(emailed), "last_number": int(last), "applied_twice": int(again)}


def mail_name(command_id: str) -> str:
    """The file of a command's e-mail: the same for every writing of it, and safe whatever the id holds."""
    return f"{sha256(command_id.encode()).hexdigest()[:32]}.eml"


def _next_number(tx: Tx) -> int:
    row = tx.rows(NUMBERS).get(SERIES)
    if row is None:
        tx.rows(NUMBERS).add(series=SERIES, last_number=1)
        return 1
    number: int = row["last_number"] + 1
    tx.rows(NUMBERS).change(SERIES, last_number=number)
    return number


def _mail(command: Command, number: int, address: str) -> bytes:
    """A message of RFC 5322, put together by hand: `email.message` takes longer than all the rest of an invoice."""
    text = "\r\n".join(_text(command.order_id, command.data, number)) + "\r\n"
    head = (
        "From: Invoices <invoices@escrow.invalid>",
        f"To: {address}",  # checked by _ADDRESS: nothing in it can end the header
        f"Subject: Invoice {number}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "\r\n",
    )
    return "\r\n".join(head).encode() + base64.encodebytes(text.encode()).replace(b"\n", b"\r\n")


def _text(order_id: str, data: Mapping[str, Any], number: int) -> Iterable[str]:
    yield f"Invoice {number} for order {order_id}"
    lines = data.get("lines")
    for line in lines if isinstance(lines, list) else []:
        yield f"- {canonical.encode(line).decode()}"
    units, cents = divmod(data["amount_minor"], 100)
    yield f"Total: {units}.{cents:02d} {data['currency']}"


def _write_all(folder: Path, mails: Mapping[str, bytes]) -> None:
    """Write each whole or not at all: a reader of the folder never sees half a mail, also when this process dies.

    Not synced, which would cost more than all the rest: after a power cut the last seconds' mails are to be had from `invoices.mail`.
    """
    for command_id, mail in mails.items():
        path = folder / mail_name(command_id)
        path.with_suffix(".tmp").write_bytes(mail)
        path.with_suffix(".tmp").replace(path)


cli = make_cli(NAME)


@cli.command()
def run(
    database_url: DatabaseUrl = "sqlite:///invoice.db",
    amqp_url: AmqpUrl = AMQP_URL,
    namespace: Namespace = NAMESPACE,
    http_port: HttpPort = 0,
    mail_dir: Annotated[Path, typer.Option(envvar="INVOICE_MAIL_DIR", help="The outbox folder of e-mails.")] = Path("mail"),
) -> None:
    """Serve EmailInvoice."""
    where = {"database_url": database_url, "amqp_url": amqp_url, "namespace": namespace}
    serve(lambda engine: build(engine, mail_dir=mail_dir), **where, http_port=http_port)


if __name__ == "__main__":
    cli()

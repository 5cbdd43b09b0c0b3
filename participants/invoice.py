"""The invoice service: numbers invoices without a gap, and writes each as an e-mail into an outbox folder.

An invoice that was e-mailed is not called back: its undo e-mails a credit note, numbered without a gap in a series of its own.
"""

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
from participants.kit.service import AMQP_URL, NAMESPACE, AmqpUrl, Choreographed, DatabaseUrl, HttpPort, Namespace, New, make_cli, serve

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
CREDIT_NOTES = sa.Table(
    "credit_notes",
    METADATA,
    # Of the invoice's command.
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("credit_note_number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("order_id", sa.String(128), nullable=False),
    # As in `invoices`.
    sa.Column("mail", sa.LargeBinary, nullable=False),
    sa.Column("mailed", sa.Boolean, nullable=False),
    sa.Column("emailed_times", sa.Integer, nullable=False),
)
#: All that is e-mailed, and the series that numbers it.
LETTERS = {"invoice": INVOICES, "credit_note": CREDIT_NOTES}
for _table in LETTERS.values():
    sa.Index(f"{_table.name}_to_mail", _table.c.command_id, sqlite_where=~_table.c.mailed, postgresql_where=~_table.c.mailed)
_DUE = sa.union_all(
    *(
        sa.select(sa.literal(series).label("series"), table.c.command_id, table.c.mail).where(~table.c.mailed)
        for series, table in LETTERS.items()
    )
)
NUMBERS = sa.Table(
    "invoice_numbers",
    METADATA,
    sa.Column("series", sa.String(32), primary_key=True),
    sa.Column("last_number", sa.BigInteger, nullable=False),
)
_TO = "To: "
#: An address that can stand in a header; whether it exists is the mail server's to say.
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{3,254}}\Z){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*")


def build(engine: sa.Engine, *, mail_dir: Path, choreographed: bool = False) -> Participant:
    """The participant. `mail_dir` is made when it is missing. Raises: OSError when it cannot be."""
    mail_dir.mkdir(parents=True, exist_ok=True)
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals, choreographed=choreographed)
    post = _Post(engine, mail_dir)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(INVOICES).load({command.undoes or command.command_id for command in commands} | post.written["invoice"])
        tx.rows(CREDIT_NOTES).load({command.undoes for command in commands if command.undoes} | post.written["credit_note"])
        post.mark(tx)

    @participant.reacts_to("InventoryUpdated", step="email_invoice")
    @participant.command("EmailInvoice", refused_by="InvoiceRejected")
    def email(tx: Tx, command: Command) -> Reply | Refusal:
        address = command.data.get("customer_email")
        if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
            return Refusal("InvoiceRejected", {"order_id": command.order_id, "reason": "address_not_valid"})
        amount_minor, currency = command.data.get("amount_minor"), command.data.get("currency")
        if type(amount_minor) is not int or amount_minor < 0 or not isinstance(currency, str):
            return Refusal("InvoiceRejected", {"order_id": command.order_id, "reason": "amount_not_valid"})
        number = _number(tx, "invoice", command)
        mail = _mail(address, f"Invoice {number}", _text(command.order_id, command.data, number))
        # What is replayed was e-mailed before it was answered.
        _note(tx, INVOICES, command.command_id, command.replayed, order_id=command.order_id, invoice_number=number, mail=mail)
        return Reply("InvoiceEmailed", {"order_id": command.order_id, "invoice_number": number})

    @participant.undo("CancelInvoice", of="EmailInvoice", confirmed_by="InvoiceCancelled")
    def cancel(tx: Tx, undo: Command) -> dict[str, Any]:
        invoice = tx.rows(INVOICES).get(undo.undoes)
        assert invoice is not None, "a done command has its invoice"
        number, invoice_number = _number(tx, "credit_note", undo), invoice["invoice_number"]
        said = f"Credit note {number} cancels invoice {invoice_number} for order {undo.order_id}"
        mail = _mail(_addressee(bytes(invoice["mail"])), f"Credit note {number}", [said])
        _note(tx, CREDIT_NOTES, undo.undoes, undo.replayed, order_id=undo.order_id, credit_note_number=number, mail=mail)
        return {"invoice_number": invoice_number, "credit_note_number": number}

    participant.settled_by(post.write)
    return participant


class _Post:
    """Writes the mails that are due into the outbox folder, after their commit, and has the next batch mark them as written."""

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        #: Command ids, by series, whose mails are written and not known to be marked.
        self.written: dict[str, set[str]] = {series: set() for series in LETTERS}

    def mark(self, tx: Tx) -> None:
        """Mark what the last `write` wrote: no commit of its own for it."""
        for series, table in LETTERS.items():
            for command_id in self.written[series]:
                tx.rows(table).change(command_id, mailed=True)

    def write(self) -> None:
        """Write every mail that is not known to be written. Idempotent: a mail has one file. Raises: OSError."""
        due: dict[str, dict[str, bytes]] = {series: {} for series in LETTERS}
        with self._engine.connect() as connection:
            for row in connection.execute(_DUE):
                due[row.series][row.command_id] = bytes(row.mail)
        for series, mails in due.items():
            written = self.written[series]
            written.intersection_update(mails)
            fresh = mails.keys() - written
            _write_all(self._folder, {mail_name(command_id, series): mails[command_id] for command_id in fresh})
            written.update(fresh)


def totals(engine: sa.Engine) -> dict[str, int]:
    """`emailed` invoices and the `last_number` given: without a gap they are equal. `credited`: those cancelled by a credit note.

    `applied_twice` counts commands; the numbers of credit notes have no gap when `credited` = `last_credit_note`.
    """
    found: dict[str, tuple[int, int, int]] = {}
    with engine.connect() as connection:
        for series, table in LETTERS.items():
            twice = sa.func.count().filter(table.c.emailed_times > 1)
            count, again = connection.execute(sa.select(sa.func.count(), twice).select_from(table)).one()
            last = connection.execute(sa.select(NUMBERS.c.last_number).where(NUMBERS.c.series == series)).scalar()
            found[series] = (int(count), int(again), int(last or 0))
    (emailed, emailed_twice, last_number), (credited, credited_twice, last_credit_note) = found["invoice"], found["credit_note"]
    return {
        "emailed": emailed,
        "last_number": last_number,
        "credited": credited,
        "last_credit_note": last_credit_note,
        "applied_twice": emailed_twice + credited_twice,
    }


def mail_name(command_id: str, series: str = "invoice") -> str:
    """The file of a command's e-mail, or of its credit note's: the same for every writing of it, and safe whatever the id holds."""
    return f"{sha256(command_id.encode()).hexdigest()[:32]}{'' if series == 'invoice' else f'-{series}'}.eml"


def _number(tx: Tx, series: str, command: Command) -> int:
    """The next number of a series; in a replay the one that was given then."""
    if tx.rows(NUMBERS).get(series) is None:
        tx.rows(NUMBERS).add(series=series, last_number=0)
    row = tx.rows(NUMBERS).get(series)
    assert row is not None
    given = command.recorded.get(f"{series}_number") if command.recorded is not None else None
    number: int = given if isinstance(given, int) else row["last_number"] + 1
    tx.rows(NUMBERS).change(series, last_number=max(row["last_number"], number))
    return number


def _note(tx: Tx, table: sa.Table, command_id: str | None, is_mailed: bool, **letter: Any) -> None:  # noqa: FBT001 - a column
    row = tx.rows(table).get(command_id)
    if row is None:
        tx.rows(table).add(command_id=command_id, mailed=is_mailed, emailed_times=1, **letter)
    else:
        tx.rows(table).change(command_id, mailed=is_mailed, emailed_times=row["emailed_times"] + 1, **letter)


def _mail(address: str, subject: str, lines: Iterable[str]) -> bytes:
    """A message of RFC 5322, put together by hand: `email.message` takes longer than all the rest of an invoice."""
    text = "\r\n".join(lines) + "\r\n"
    head = (
        "From: Invoices <invoices@escrow.invalid>",
        f"{_TO}{address}",  # checked by _ADDRESS: nothing in it can end the header
        f"Subject: {subject}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "\r\n",
    )
    return "\r\n".join(head).encode() + base64.encodebytes(text.encode()).replace(b"\n", b"\r\n")


def _addressee(mail: bytes) -> str:
    """To whom a mail of `_mail` goes."""
    return next(line.removeprefix(_TO) for line in mail.decode().splitlines() if line.startswith(_TO))


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
    for name, mail in mails.items():
        path = folder / name
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
    *,
    choreographed: Choreographed = False,
    new: New = False,
) -> None:
    """Serve EmailInvoice and CancelInvoice."""
    where = {"database_url": database_url, "amqp_url": amqp_url, "namespace": namespace}
    serve(lambda engine: build(engine, mail_dir=mail_dir, choreographed=choreographed), **where, http_port=http_port, new=new)


if __name__ == "__main__":
    cli()

"""The inventory service: stock per SKU, reserved and released.

Asked step by step it reserves; in a choreography it updates the stock by itself when an order is placed, and says what the next needs.
Stock comes by `StockReceived`, {sku, units}, from whomever (`participants.warehouse` is one to say it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from orchestrator.contract import canonical
from orchestrator.contract.ids import is_order_id
from participants.kit.answers import Refusal, Reply
from participants.kit.participant import Command, Heard, Participant, Tx
from participants.kit.service import AMQP_URL, NAMESPACE, AmqpUrl, Choreographed, DatabaseUrl, HttpPort, Namespace, New, make_cli, serve

NAME = "inventory"
METADATA = sa.MetaData()
STOCK = sa.Table(
    "stock",
    METADATA,
    sa.Column("sku", sa.String(128), primary_key=True),
    # What it was given to begin with, and all that was received since.
    sa.Column("initial", sa.BigInteger, nullable=False),
    sa.Column("available", sa.BigInteger, nullable=False),
)
RESERVATIONS = sa.Table(
    "reservations",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("order_id", sa.String(128), nullable=False),
    # Canonical JSON: {sku: quantity}
    sa.Column("quantities", sa.LargeBinary, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    # How often each was carried out: more than once would be a bug of the kit, and the totals would show it.
    sa.Column("reserved_times", sa.Integer, nullable=False),
    sa.Column("released_times", sa.Integer, nullable=False),
)
#: Stock of a SKU that was given none.
DEFAULT_STOCK = 1_000_000_000
#: Units of one line, and of one receipt, at most: sums stay far from the limits of 64 bits.
QUANTITY_MAX = 1_000_000
#: The events of others that change the stock.
HEARD = ("StockReceived",)
#: What `InventoryUpdated` carries on of the order: whoever reacts to it has not seen the order.
CARRIED = ("order_id", "customer_email", "lines", "amount_minor", "currency")


def build(
    engine: sa.Engine, *, stock: Mapping[str, int] | None = None, default_stock: int = DEFAULT_STOCK, choreographed: bool = False
) -> Participant:
    """The participant. `stock` is the initial stock per SKU, of a SKU that has no row yet, in units; of others `default_stock`."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals, choreographed=choreographed)
    shelves = _Shelves(stock or {}, default_stock)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(RESERVATIONS).load(command.undoes or command.command_id for command in commands)
        quantities = [_quantities(command.data) or {} for command in commands]
        held = [_held(tx, command.undoes) for command in commands if command.undoes]
        tx.rows(STOCK).load(sku for wanted in quantities + held for sku in wanted)

    @participant.command("ReserveInventory", refused_by="InventoryRejected")
    def reserve(tx: Tx, command: Command) -> Reply | Refusal:
        reserved = Reply("InventoryReserved", {"order_id": command.order_id, "reservation_id": f"R-{command.command_id}"})
        return shelves.take(tx, command) or reserved

    @participant.reacts_to("OrderPlaced", step="update_inventory")
    @participant.command("UpdateInventory", refused_by="InventoryRejected")
    def update(tx: Tx, command: Command) -> Reply | Refusal:
        carried = {name: command.data[name] for name in CARRIED if name in command.data}
        updated = Reply("InventoryUpdated", {**carried, "order_id": command.order_id, "reservation_id": f"R-{command.command_id}"})
        return shelves.take(tx, command) or updated

    for event_type in HEARD:
        participant.hears(event_type)(shelves.receive)
    participant.undo("ReleaseInventory", of="ReserveInventory", confirmed_by="InventoryReleased")(shelves.give_back)
    participant.undo("RestoreInventory", of="UpdateInventory", confirmed_by="InventoryRestored")(shelves.give_back)
    return participant


class _Shelves:
    """What reserving and updating have in common: units leave the shelves, and come back."""

    def __init__(self, initial: Mapping[str, int], default_stock: int) -> None:
        self._initial = dict(initial)
        self._default_stock = default_stock

    def take(self, tx: Tx, command: Command) -> Refusal | None:
        """Take the units of all lines, or refuse and take none."""
        wanted = _quantities(command.data)
        if wanted is None:
            return Refusal("InventoryRejected", {"order_id": command.order_id, "reason": "lines_not_valid"})
        short = sorted(sku for sku, quantity in wanted.items() if self._available(tx, sku) < quantity)
        # What is replayed was taken once: the stock that it was taken from may have come before anything that is known today.
        if short and not command.replayed:
            return Refusal("InventoryRejected", {"order_id": command.order_id, "reason": "out_of_stock", "skus": short})
        for sku, quantity in wanted.items():
            tx.rows(STOCK).change(sku, available=self._shelf(tx, sku)["available"] - quantity)
        _note_reservation(tx, command, wanted)
        return None

    def receive(self, tx: Tx, event: Heard) -> None:
        """Put units that came onto their shelf. Raises: ValueError for what makes no sense."""
        sku, units = event.data.get("sku"), event.data.get("units")
        if not is_order_id(sku) or type(units) is not int or not 1 <= units <= QUANTITY_MAX:
            raise ValueError(f"{event.name} has sku {sku!r} and units {units!r}; units must be a whole number from 1 to {QUANTITY_MAX}.")
        shelf = self._shelf(tx, str(sku))
        tx.rows(STOCK).change(sku, initial=shelf["initial"] + units, available=shelf["available"] + units)

    def give_back(self, tx: Tx, undo: Command) -> dict[str, Any]:
        """Put back what the command took that the undo names."""
        held = _held(tx, undo.undoes)
        for sku, quantity in held.items():
            tx.rows(STOCK).change(sku, available=self._shelf(tx, sku)["available"] + quantity)
        row = tx.rows(RESERVATIONS).get(undo.undoes)
        if row is not None:
            tx.rows(RESERVATIONS).change(undo.undoes, released_times=row["released_times"] + 1)
        return {"reservation_id": f"R-{undo.undoes}", "units": sum(held.values())}

    def _available(self, tx: Tx, sku: str) -> int:
        row = tx.rows(STOCK).get(sku)
        units: int = self._given(sku) if row is None else row["available"]
        return units

    def _given(self, sku: str) -> int:
        return self._initial.get(sku, self._default_stock)

    def _shelf(self, tx: Tx, sku: str) -> Mapping[str, Any]:
        row = tx.rows(STOCK).get(sku)
        if row is None:
            units = self._given(sku)
            tx.rows(STOCK).add(sku=sku, initial=units, available=units)
            row = tx.rows(STOCK).get(sku)
        assert row is not None
        return row


def totals(engine: sa.Engine) -> dict[str, int]:
    """`reserved` and `released` count commands; the rest but `applied_twice` are units.

    It adds up when `applied_twice` is 0 and `stock_initial` = `stock_available` + `stock_held`.
    """
    held = RESERVATIONS.c.units * (RESERVATIONS.c.reserved_times - RESERVATIONS.c.released_times)
    twice = sa.or_(RESERVATIONS.c.reserved_times > 1, RESERVATIONS.c.released_times > 1)
    with engine.connect() as connection:
        reservations = connection.execute(
            sa.select(
                sa.func.count().label("reserved"),
                sa.func.count().filter(RESERVATIONS.c.released_times > 0).label("released"),
                sa.func.count().filter(twice).label("applied_twice"),
                sa.func.coalesce(sa.func.sum(held), 0).label("stock_held"),
            ).select_from(RESERVATIONS)
        ).one()
        shelves = connection.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(STOCK.c.initial), 0).label("stock_initial"),
                sa.func.coalesce(sa.func.sum(STOCK.c.available), 0).label("stock_available"),
            )
        ).one()
    return {name: int(value) for row in (reservations, shelves) for name, value in row._mapping.items()}


def _quantities(data: Mapping[str, Any]) -> dict[str, int] | None:
    """Units by SKU, of the lines of a command; None when they are not valid."""
    lines = data.get("lines")
    if not isinstance(lines, list) or not lines:
        return None
    wanted: dict[str, int] = {}
    for line in lines:
        sku, quantity = (line.get("sku"), line.get("quantity")) if isinstance(line, dict) else (None, None)
        if not is_order_id(sku) or type(quantity) is not int or not 1 <= quantity <= QUANTITY_MAX:
            return None
        wanted[str(sku)] = wanted.get(str(sku), 0) + quantity
    return wanted


def _held(tx: Tx, command_id: str | None) -> dict[str, int]:
    row = tx.rows(RESERVATIONS).get(command_id)
    quantities: dict[str, int] = canonical.load(bytes(row["quantities"])) if row is not None else {}
    return quantities


def _note_reservation(tx: Tx, command: Command, wanted: dict[str, int]) -> None:
    row = tx.rows(RESERVATIONS).get(command.command_id)
    if row is not None:
        tx.rows(RESERVATIONS).change(command.command_id, reserved_times=row["reserved_times"] + 1)
        return
    tx.rows(RESERVATIONS).add(
        command_id=command.command_id,
        order_id=command.order_id,
        quantities=canonical.encode(wanted),
        units=sum(wanted.values()),
        reserved_times=1,
        released_times=0,
    )


def read_stock(texts: Sequence[str]) -> dict[str, int]:
    """`["sku=5"]` as `{"sku": 5}`. Raises: typer.BadParameter."""
    stock: dict[str, int] = {}
    for text in texts:
        sku, _, units = text.partition("=")
        if not is_order_id(sku) or not (units.isascii() and units.isdigit() and len(units) <= len(str(DEFAULT_STOCK))):
            raise typer.BadParameter(f"{text!r} is not SKU=UNITS.")
        stock[sku] = int(units)
    return stock


cli = make_cli(NAME)


@cli.command()
def run(
    database_url: DatabaseUrl = "sqlite:///inventory.db",
    amqp_url: AmqpUrl = AMQP_URL,
    namespace: Namespace = NAMESPACE,
    http_port: HttpPort = 0,
    stock: Annotated[list[str] | None, typer.Option(envvar="INVENTORY_STOCK", help="SKU=UNITS to begin with, repeated.")] = None,
    default_stock: Annotated[
        int, typer.Option(envvar="INVENTORY_DEFAULT_STOCK", min=0, max=DEFAULT_STOCK, help="Units to begin with of every other SKU.")
    ] = DEFAULT_STOCK,
    *,
    choreographed: Choreographed = False,
    new: New = False,
) -> None:
    """Serve ReserveInventory and UpdateInventory, and their undos; hear StockReceived."""
    initial = read_stock(stock or [])
    where = {"database_url": database_url, "amqp_url": amqp_url, "namespace": namespace}
    made = partial(build, stock=initial, default_stock=default_stock, choreographed=choreographed)
    serve(made, **where, http_port=http_port, new=new)


if __name__ == "__main__":
    cli()

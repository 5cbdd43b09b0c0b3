"""The warehouse: says what stock came, for whoever keeps count of it. It keeps nothing itself.

::

    python -m participants.warehouse receive TEA-1=100 TEA-2=50
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4, uuid5

import typer

from orchestrator.contract import ESCROW_NAMESPACE_UUID, Envelope, Topology, canonical
from participants.inventory import QUANTITY_MAX, read_stock
from participants.kit.saying import say
from participants.kit.service import AMQP_URL, NAMESPACE, AmqpUrl, Namespace

NAME = "warehouse"

cli = typer.Typer(add_completion=False, help="The warehouse.", pretty_exceptions_enable=False)


@cli.callback()
def warehouse() -> None:
    """The warehouse."""


@cli.command()
def receive(
    stock: Annotated[list[str], typer.Argument(metavar="SKU=UNITS...", help="What came; each SKU is an event of its own.")],
    receipt: Annotated[str, typer.Option(help="The name of this receipt: said again it is the same. Default: a new one.")] = "",
    amqp_url: AmqpUrl = AMQP_URL,
    namespace: Namespace = NAMESPACE,
) -> None:
    """Say `StockReceived`, and wait until the broker has it."""
    received = read_stock(stock)
    if unlikely := [sku for sku, units in received.items() if not 1 <= units <= QUANTITY_MAX]:
        raise typer.BadParameter(f"{unlikely[0]}={received[unlikely[0]]}: units must be from 1 to {QUANTITY_MAX}.")
    receipt = receipt or str(uuid4())
    try:
        say(amqp_url, Topology(namespace), NAME, [stock_received(receipt, sku, units) for sku, units in received.items()])
    except (ConnectionError, ValueError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"receipt {receipt}: {', '.join(f'{sku}={units}' for sku, units in received.items())}")


def stock_received(receipt: str, sku: str, units: int) -> Envelope:
    """The event of one SKU of a receipt: the same for ever, but for its time."""
    message_id = str(uuid5(ESCROW_NAMESPACE_UUID, canonical.encode([NAME, "StockReceived", receipt, sku]).decode()))
    data = {"sku": sku, "units": units, "receipt": receipt}
    return Envelope(id=message_id, source=NAME, type="StockReceived", subject=sku, time=datetime.now(UTC), data=data)


if __name__ == "__main__":
    cli()

"""`escrow demo`: the outage story, played live. Its exit status says whether everything ended as it had to."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import session_of

ServicesOption = Annotated[
    bool,
    typer.Option(
        "--services",
        help="Play it on the PostgreSQL of ESCROW_DATABASE_URL and the RabbitMQ of ESCROW_AMQP_URL, in a schema and a namespace of its "
        "own, which are dropped at the end: other orders there are neither seen nor touched.",
    ),
]
WatchedOption = Annotated[
    bool,
    typer.Option(
        "--watched",
        help="Play the choreography instead: services that react to each other's events and miss them while they are down, first without "
        "Escrow, then with Escrow listening.",
    ),
]


def command(ctx: typer.Context, services: ServicesOption = False, watched: WatchedOption = False) -> None:
    """Play the outage story in under a minute: orders flow, inventory falls silent, Escrow is killed, all ends well.

    Needs no services and no configuration. It uses shipped definitions with every duration divided by 20.
    Ends with 0 when everything held that had to, else with 1.
    """
    from orchestrator.cli.demo_performance import outage, perform
    from orchestrator.cli.demo_watched import choreography

    perform(session_of(ctx), choreography if watched else outage, services=services)

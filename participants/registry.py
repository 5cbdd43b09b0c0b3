"""The land registry of a house sale: records deeds, and strikes them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.contract import is_order_id
from participants.kit.answers import Refusal, Reply
from participants.kit.participant import Command, Participant, Tx
from participants.kit.service import make_plain_cli

NAME = "registry"
METADATA = sa.MetaData()
DEEDS = sa.Table(
    "deeds",
    METADATA,
    sa.Column("command_id", sa.String(256), primary_key=True),
    sa.Column("closing_id", sa.String(128), nullable=False),
    sa.Column("property_id", sa.String(128), nullable=False),
    # How often each was carried out: more than once would be a bug of the kit, and the totals would show it.
    sa.Column("recorded_times", sa.Integer, nullable=False),
    sa.Column("struck_times", sa.Integer, nullable=False),
)
PROPERTIES = sa.Table(
    "properties",
    METADATA,
    sa.Column("property_id", sa.String(128), primary_key=True),
    # Kept step by step, not counted from the deeds, so that the two can be compared.
    sa.Column("standing_deeds", sa.Integer, nullable=False),
)


def build(engine: sa.Engine) -> Participant:
    """The participant."""
    participant = Participant(NAME, engine, metadata=METADATA, totals=totals)

    @participant.prepare
    def prepare(tx: Tx, commands: Sequence[Command]) -> None:
        tx.rows(DEEDS).load(command.undoes or command.command_id for command in commands)
        asked = {property_id for command in commands if is_order_id(property_id := command.data.get("property_id"))}
        recorded = {row["property_id"] for command in commands if (row := tx.rows(DEEDS).get(command.undoes or command.command_id))}
        tx.rows(PROPERTIES).load(asked | recorded)

    @participant.command("RecordDeed", refused_by="DeedRejected")
    def record(tx: Tx, command: Command) -> Reply | Refusal:
        property_id = command.data.get("property_id")
        if not is_order_id(property_id):
            return Refusal("DeedRejected", {"closing_id": command.order_id, "reason": "property_not_valid"})
        _book(tx, str(property_id), 1)
        row = tx.rows(DEEDS).get(command.command_id)
        if row is None:
            deed = {"closing_id": command.order_id, "property_id": property_id}
            tx.rows(DEEDS).add(command_id=command.command_id, **deed, recorded_times=1, struck_times=0)
        else:
            tx.rows(DEEDS).change(command.command_id, recorded_times=row["recorded_times"] + 1)
        return Reply("DeedRecorded", {"closing_id": command.order_id, "property_id": property_id, "deed_id": f"T-{command.command_id}"})

    @participant.undo("StrikeDeed", of="RecordDeed", confirmed_by="DeedStruck")
    def strike(tx: Tx, undo: Command) -> dict[str, Any]:
        row = tx.rows(DEEDS).get(undo.undoes)
        assert row is not None, "a done command has its deed"
        _book(tx, row["property_id"], -1)
        tx.rows(DEEDS).change(undo.undoes, struck_times=row["struck_times"] + 1)
        return {"closing_id": row["closing_id"], "property_id": row["property_id"], "deed_id": f"T-{undo.undoes}"}

    return participant


def totals(engine: sa.Engine) -> dict[str, int]:
    """All count deeds. It adds up when `applied_twice` is 0 and `standing` = `recorded` - `struck`."""
    twice = sa.or_(DEEDS.c.recorded_times > 1, DEEDS.c.struck_times > 1)
    with engine.connect() as connection:
        deeds = connection.execute(
            sa.select(
                sa.func.count().label("recorded"),
                sa.func.count().filter(DEEDS.c.struck_times > 0).label("struck"),
                sa.func.count().filter(twice).label("applied_twice"),
            ).select_from(DEEDS)
        ).one()
        standing = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(PROPERTIES.c.standing_deeds), 0))).scalar_one()
    return {name: int(value) for name, value in deeds._mapping.items()} | {"standing": int(standing)}


def _book(tx: Tx, property_id: str, deeds: int) -> None:
    row = tx.rows(PROPERTIES).get(property_id)
    if row is None:
        tx.rows(PROPERTIES).add(property_id=property_id, standing_deeds=deeds)
    else:
        tx.rows(PROPERTIES).change(property_id, standing_deeds=row["standing_deeds"] + deeds)


cli = make_plain_cli(NAME, build, "Serve RecordDeed and StrikeDeed.")


if __name__ == "__main__":
    cli()

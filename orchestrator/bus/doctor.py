"""Examine the broker as `escrow doctor` does: is it there, may we, and is the topology what it should be.

Nothing is published, consumed, deleted or made: what is missing is reported. Two requests are made that change nothing where all is well:
an existing exchange or queue is declared again with equal arguments (the broker answers 406 when they differ), and an existing queue is
bound again (AMQP cannot list bindings, so a binding that was missing is made, and Escrow would make it at its next start anyway).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pika
from pika import exceptions

from orchestrator.bus.connection import HEARTBEAT_S, blocking, parameters
from orchestrator.bus.topology import Binding, Part, Queue, inbound, outbound
from orchestrator.bus.trouble import ACCESS_REFUSED, PRECONDITION_FAILED, explain
from orchestrator.contract import Topology
from orchestrator.errors import SettingsError

#: The oldest broker that Escrow is tried on: quorum queues with a delivery limit and message TTL.
VERSION_MIN = (3, 10)
#: A message's headers must fit in one frame: the limit of the contract for `ce-` headers, and room for the rest.
FRAME_BYTES_MIN = 80 * 1024

_START = "start a worker, which declares it, or load the definitions of deploy/rabbitmq."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing examined."""

    name: str
    ok: bool
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    fix: str = ""


def examine(url: str, topology: Topology, participants: Collection[str]) -> list[Check]:
    """Examine everything that can be reached, in order; never raises for what it finds. Blocks for some seconds at most."""
    try:
        settings = parameters(url)
    except SettingsError as error:
        return [Check("broker address", False, str(error), "correct ESCROW_AMQP_URL.")]
    where = f"{settings.host}:{settings.port}{settings.virtual_host}"
    offered: list[int] = []

    def agree(_connection: object, broker_s: int) -> int:
        offered.append(broker_s)
        return HEARTBEAT_S

    settings.heartbeat = agree
    try:
        with blocking(settings) as connection:
            checks = [
                Check("broker reachable", True, where),
                Check("broker login", True, f"user {settings.credentials.username}"),
                *_broker_checks(connection, offered),
            ]
            return checks + _topology_checks(connection, topology, participants)
    except (exceptions.AMQPError, OSError) as error:
        trouble = explain(error, where)
        is_login = isinstance(error, exceptions.ProbableAuthenticationError | exceptions.ProbableAccessDeniedError)
        return [Check("broker login" if is_login else "broker reachable", False, trouble.problem, trouble.fix)]


def _broker_checks(connection: pika.BlockingConnection, offered_heartbeats: list[int]) -> list[Check]:
    implementation = connection._impl  # noqa: SLF001 - the blocking adapter shows neither the server's properties nor the limits agreed
    properties = implementation.server_properties
    version = str(properties.get("version", "unknown"))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    frame_max = implementation.params.frame_max
    offered_s = offered_heartbeats[0] if offered_heartbeats else 0
    return [
        _judged(
            "broker version",
            numbers >= VERSION_MIN,
            f"{properties.get('product', 'broker')} {version}",
            f"upgrade to RabbitMQ {'.'.join(map(str, VERSION_MIN))} or later.",
        ),
        _judged(
            "frame size",
            frame_max == 0 or frame_max >= FRAME_BYTES_MIN,
            f"{frame_max} bytes",
            f"set frame_max in rabbitmq.conf to at least {FRAME_BYTES_MIN}.",
        ),
        Check("heartbeat", True, f"{HEARTBEAT_S} s; the broker offers {offered_s} s"),
    ]


def _topology_checks(connection: pika.BlockingConnection, topology: Topology, participants: Collection[str]) -> list[Check]:
    return [
        *(_part_check(connection, part) for part in [*inbound(topology), *outbound(topology, participants)]),
        *(_write_check(connection, exchange) for exchange in (topology.events, topology.commands, topology.announcements)),
        _read_check(connection, topology.inbox),
    ]


def _judged(name: str, ok: bool, detail: str, fix: str) -> Check:  # noqa: FBT001 - the order of Check's own fields
    return Check(name, ok, detail, "" if ok else fix)


def _part_check(connection: pika.BlockingConnection, part: Part) -> Check:
    name = str(part)
    if isinstance(part, Binding):
        if _refusal(connection, Queue(part.queue).verify) is not None:
            return Check(name, False, f"queue {part.queue} is missing", _START)
        refusal = _refusal(connection, part.declare)
        if refusal is None:
            return Check(name, True, "bound (by binding it again)")
        return Check(name, False, refusal.reply_text, "allow the user to write to the queue and to read the exchange (set_permissions).")
    refusal = _refusal(connection, part.verify)
    if refusal is not None:
        return Check(name, False, refusal.reply_text, _START)
    refusal = _refusal(connection, part.declare)
    if refusal is None:
        return Check(name, True, "there, with the right arguments; may be configured")
    if refusal.reply_code == ACCESS_REFUSED:
        return Check(name, True, "there; its arguments cannot be compared, as this user may not configure it")
    return Check(name, False, refusal.reply_text, explain(refusal, "").fix)


def _write_check(connection: pika.BlockingConnection, exchange: str) -> Check:
    """The permission to write is checked when a message is published; rolled back, it reaches no queue."""

    def publish(channel: Any) -> None:
        channel.tx_select()
        channel.basic_publish(exchange, "escrow-doctor", b"")
        channel.tx_rollback()

    refusal = _refusal(connection, publish)
    detail = "allowed" if refusal is None else refusal.reply_text
    return _judged(f"permission to publish to {exchange}", refusal is None, detail, "allow the user to write to it (set_permissions).")


def _read_check(connection: pika.BlockingConnection, queue: str) -> Check:
    """The permission to read is checked before a consumer's arguments: one that asks with a wrong argument is refused, and gets nothing."""

    def consume(channel: Any) -> None:
        channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "none"})

    refusal = _refusal(connection, consume)
    ok = refusal is None or refusal.reply_code == PRECONDITION_FAILED
    detail = "allowed" if refusal is None or ok else refusal.reply_text
    return _judged(f"permission to consume {queue}", ok, detail, "allow the user to read it (set_permissions).")


def _refusal(connection: pika.BlockingConnection, act: Callable[[Any], None]) -> exceptions.ChannelClosedByBroker | None:
    """Do something on a channel of its own; the broker's refusal, if it refuses."""
    channel = connection.channel()
    try:
        act(channel)
    except exceptions.ChannelClosedByBroker as refusal:
        return refusal
    channel.close()
    return None

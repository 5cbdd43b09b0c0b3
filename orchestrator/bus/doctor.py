"""Examine the broker as `escrow doctor` does: is it there, may we, and is the topology what it should be.

Nothing is published, consumed, deleted or made: what is missing is reported. Requests are made that change nothing where all is well:
an existing exchange or queue is declared again with equal arguments (the broker answers 406 when they differ), a missing one with
arguments that no broker takes (403: we may not, 406: we may), and an existing queue is bound again (AMQP cannot list bindings, so a
binding that was missing is made, and Escrow would make it at its next start anyway).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import pika
from pika import exceptions

from orchestrator.bus.connection import HEARTBEAT_S, addresses, blocking, parameters
from orchestrator.bus.topology import Binding, Exchange, Part, Queue, Retention, Stream, inbound, outbound, recording
from orchestrator.bus.trouble import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, explain
from orchestrator.contract import Topology
from orchestrator.errors import SettingsError

#: The oldest broker that Escrow is tried on: quorum queues with a delivery limit and message TTL.
VERSION_MIN = (3, 10)
#: A message's headers must fit in one frame: the limit of the contract for `ce-` headers, and room for the rest.
FRAME_BYTES_MIN = 80 * 1024

_START = "start a worker, which declares it, or load the definitions of deploy/rabbitmq."


#: So many missing exchanges and queues have one line together.
_MANY_MISSING = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing examined."""

    name: str
    ok: bool
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Rights:
    """What RabbitMQ lets a user do: three patterns of names, as `rabbitmqctl set_permissions` takes them."""

    configure: str
    write: str
    read: str

    def command(self, user: str, vhost: str) -> str:
        """The command that gives a user these rights, and takes all others of its rights in this virtual host."""
        return shlex.join(["rabbitmqctl", "set_permissions", "-p", vhost, user, self.configure, self.write, self.read])


def needed(topology: Topology) -> Rights:
    r"""The least that `serve`, `worker` and `replay` need: to declare, to send commands, announcements, replays, records, to read events.

    >>> needed(Topology()).read
    '^escrow\\.(inbox|events|commands|recorder)$'
    """
    prefix = rf"^{re.escape(topology.namespace)}\."
    return Rights(
        configure=prefix,
        write=rf"{prefix}(inbox|commands(\..+)?|replay\..+|announcements|recorder)$",
        read=rf"{prefix}(inbox|events|commands|recorder)$",
    )


def examine(url: str, topology: Topology, participants: Collection[str], retention: Retention | None = None) -> list[Check]:
    """Examine everything that can be reached, in order; never raises for what it finds. Blocks for some seconds at most.

    `retention`: what the recorder is to keep; None: there is to be none, and it is not looked for.
    """
    try:
        nodes = parameters(url)
    except SettingsError as error:
        return [Check("broker address", False, str(error), "correct ESCROW_AMQP_URL.")]
    user, vhost = nodes[0].credentials.username, nodes[0].virtual_host
    where = addresses(nodes)
    give = f"{needed(topology).command(user, vhost)} (it replaces what the user may do now)"
    offered: list[int] = []

    def agree(_connection: object, broker_s: int) -> int:
        offered.append(broker_s)
        return HEARTBEAT_S

    for settings in nodes:
        settings.heartbeat = agree
    try:
        with blocking(nodes) as connection:
            checks = [
                Check("broker reachable", True, where),
                Check("broker login", True, f"user {user}, virtual host {vhost}"),
                *_broker_checks(connection, offered),
            ]
            return checks + _Examination(connection, give).checks(topology, participants, retention)
    except exceptions.ProbableAccessDeniedError as error:
        fix = f"correct the path of ESCROW_AMQP_URL, or run: {shlex.join(['rabbitmqctl', 'add_vhost', vhost])}; {give}"
        return [Check("broker login", False, explain(error, where).problem, fix)]
    except (exceptions.AMQPError, OSError) as error:
        trouble = explain(error, where)
        is_login = isinstance(error, exceptions.ProbableAuthenticationError)
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


def _judged(name: str, ok: bool, detail: str, fix: str) -> Check:  # noqa: FBT001 - the order of Check's own fields
    return Check(name, ok, detail, "" if ok else fix)


@dataclass(frozen=True, slots=True)
class _Examination:
    """Of the topology, by one user on one connection."""

    connection: pika.BlockingConnection
    #: The command that gives this user what it needs.
    give: str
    #: Names of what is missing, each with what to do.
    missing: dict[str, str] = field(default_factory=dict)
    #: Names of what is there and this user may not configure.
    fixed: set[str] = field(default_factory=set)

    def checks(self, topology: Topology, participants: Collection[str], retention: Retention | None) -> list[Check]:
        """Everything that Escrow needs, in the order it is declared."""
        recorder = [] if retention is None else recording(topology, retention)
        checks = [
            *(self._part(part) for part in [*inbound(topology), *outbound(topology, participants), *recorder]),
            self._write(topology.commands, sorted(participants)),
            self._write(topology.announcements, ["escrow-doctor"]),
            self._read(topology.inbox),
            *([self._write(topology.recorder, ["escrow-doctor"]), self._read(topology.recorder)] if recorder else []),
        ]
        return self._summed_up(checks)

    def _summed_up(self, checks: list[Check]) -> list[Check]:
        """Before the first worker everything is missing, and one act makes it: that is said once."""
        names = sorted(name for name, fix in self.missing.items() if fix == _START)
        if len(names) < _MANY_MISSING:
            return checks
        absent = [check for check in checks if check.fix == _START]
        said = Check("topology", False, f"missing: {', '.join(names)}", _START)
        first = checks.index(absent[0])
        left = [check for check in checks if check not in absent]
        return [*left[:first], said, *left[first:]]

    def _part(self, part: Part) -> Check:
        if isinstance(part, Binding):
            return self._binding(part)
        refusal = self._refusal(part.verify)
        if refusal is not None:
            self.missing[part.name] = _START if self._may_make(part) else f"run: {self.give}; then {_START}"
            return Check(str(part), False, refusal.reply_text, self.missing[part.name])
        refusal = self._refusal(part.declare)
        if refusal is None:
            return Check(str(part), True, "there, with the right arguments; may be configured")
        if refusal.reply_code == ACCESS_REFUSED:
            self.fixed.add(part.name)
            return Check(str(part), True, "there; its arguments cannot be compared, as this user may not configure it")
        return Check(str(part), False, refusal.reply_text, explain(refusal, "").fix)

    def _may_make(self, part: Exchange | Queue | Stream) -> bool:
        """Whether this user may declare what is missing; asked with an argument for which every broker refuses to make it."""

        def declare(channel: Any) -> None:
            if isinstance(part, Queue | Stream):
                channel.queue_declare(part.name, durable=True, arguments={"x-max-length": "none"})
            else:
                channel.exchange_declare(part.name, "topic", durable=True, arguments={"alternate-exchange": 0})

        refusal = self._refusal(declare)
        return refusal is None or refusal.reply_code != ACCESS_REFUSED

    def _binding(self, part: Binding) -> Check:
        absent = part.queue if part.queue in self.missing else part.exchange
        if absent in self.missing:
            return Check(str(part), False, f"{absent} is missing", self.missing[absent])
        refusal = self._refusal(part.declare)
        if refusal is None:
            return Check(str(part), True, "bound (by binding it again)")
        if part.queue in self.fixed and refusal.reply_code == ACCESS_REFUSED:
            return Check(
                str(part), True, "cannot be seen, as this user may neither bind nor configure; whoever declares the queue binds it"
            )
        return Check(str(part), False, refusal.reply_text, self._fix(refusal, part.queue))

    def _write(self, exchange: str, keys: Collection[str]) -> Check:
        """The permission to write is checked when a message is published; rolled back, it reaches no queue."""

        def publish(channel: Any) -> None:
            channel.tx_select()
            for key in keys:
                channel.basic_publish(exchange, key, b"")
            channel.tx_rollback()

        refusal = self._refusal(publish)
        detail = "allowed" if refusal is None else refusal.reply_text
        return _judged(f"permission to publish to {exchange}", refusal is None, detail, self._fix(refusal, exchange))

    def _read(self, queue: str) -> Check:
        """The permission to read is checked before a consumer's arguments: one that asks with a wrong one is refused, and gets nothing."""

        def consume(channel: Any) -> None:
            channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "none"})

        refusal = self._refusal(consume)
        ok = refusal is None or refusal.reply_code == PRECONDITION_FAILED
        detail = "allowed" if refusal is None or ok else refusal.reply_text
        return _judged(f"permission to consume {queue}", ok, detail, self._fix(refusal, queue))

    def _fix(self, refusal: exceptions.ChannelClosedByBroker | None, name: str) -> str:
        """What to do about a refusal that concerns this exchange or queue."""
        if refusal is not None and refusal.reply_code == NOT_FOUND:
            return self.missing.get(name, _START)
        return f"run: {self.give}"

    def _refusal(self, act: Callable[[Any], None]) -> exceptions.ChannelClosedByBroker | None:
        """Do something on a channel of its own; the broker's refusal, if it refuses."""
        channel = self.connection.channel()
        try:
            act(channel)
        except exceptions.ChannelClosedByBroker as refusal:
            return refusal
        channel.close()
        return None

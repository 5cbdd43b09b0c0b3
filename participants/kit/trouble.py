"""What went wrong between a participant and the broker, in one line with the fix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass

import pika
from pika import exceptions

from orchestrator.contract import Topology

#: What the names of queues begin with that the broker names.
_SERVER_NAMED = r"amq\.gen-"


def explain(
    reason: BaseException,
    settings: pika.connection.Parameters,
    topology: Topology,
    participant: str,
    *,
    subscriptions: Collection[str] = (),
    hearing: Collection[str] = (),
) -> str:
    """Put a pika error, or an error of the socket below it, in words. The password is in none of them.

    `subscriptions`, `hearing`: the events that it subscribes to, and hears.
    """
    needs = _Needs(settings, topology, participant, frozenset(subscriptions), frozenset(hearing))
    if isinstance(reason, exceptions.ProbableAuthenticationError):
        return (
            "RabbitMQ refuses the user name or password. "
            "Fix: correct them in ESCROW_AMQP_URL, or on the broker (rabbitmqctl add_user, change_password)."
        )
    if isinstance(reason, exceptions.ProbableAccessDeniedError):
        make = shlex.join(["rabbitmqctl", "add_vhost", settings.virtual_host])
        return (
            f"RabbitMQ does not let {settings.credentials.username} into the virtual host {settings.virtual_host}. "
            f"Fix: correct the path of ESCROW_AMQP_URL, or run: {make}; {needs.permissions()}"
        )
    if isinstance(reason, exceptions.ChannelClosedByBroker):
        return f"RabbitMQ refused: {reason.reply_code} {reason.reply_text}. Fix: {_fix(reason, needs)}"
    innermost = _innermost(reason)
    return " ".join(str(innermost).split()) or type(innermost).__name__


def _innermost(reason: BaseException) -> BaseException:
    """What the operating system said: pika wraps errors in errors, whose own text is their name."""
    nested = getattr(reason, "exceptions", None) or [arg for arg in reason.args if isinstance(arg, BaseException)]
    inner = nested[-1] if nested else getattr(reason, "exception", None)
    return reason if inner is None else _innermost(inner)


def _fix(reason: exceptions.ChannelClosedByBroker, needs: _Needs) -> str:
    match reason.reply_code:
        case 403 if "access to topic" in reason.reply_text:
            return f"run: {needs.topic_permissions()}"
        case 403:
            return f"run: {needs.permissions()}"
        case 404:
            return "start a worker of Escrow, which declares it, or load the definitions of deploy/rabbitmq."
        case 406:
            return "drain and delete it, so that it is declared anew, or set another ESCROW_NAMESPACE."
        case _:
            return "see the broker's log."


@dataclass(frozen=True, slots=True)
class _Needs:
    """The least that a participant needs of the broker, as commands that give it."""

    settings: pika.connection.Parameters
    topology: Topology
    participant: str
    subscriptions: frozenset[str]
    hearing: frozenset[str]

    def permissions(self) -> str:
        """To publish events, to read its own commands, to wait for a replay, and to hear what it hears."""
        topology, name = self.topology, self.participant
        events, commands, replay = (
            re.escape(each) for each in (topology.events, topology.command_queue(name), topology.replay_queue(name))
        )
        configure, write, read = [f"{replay}$"], [f"{events}$"], [f"{commands}$", f"{replay}$"]
        made = [f"{re.escape(topology.heard_queue(name))}$"] if self.hearing else []
        made += [_SERVER_NAMED] if self.subscriptions else []
        read += [f"{events}$"] if made else []
        rights = (_pattern(each) for each in (configure + made, write + made, read + made))
        return shlex.join([*self._command("set_permissions"), *rights])

    def topic_permissions(self) -> str:
        """To publish as itself, and to bind to the events of others, from whomever."""
        bound = sorted(self.subscriptions | self.hearing)
        read = rf"^\*\.({'|'.join(map(re.escape, bound))})$" if bound else "^$"
        return shlex.join([*self._command("set_topic_permissions"), self.topology.events, rf"^{re.escape(self.participant)}\.", read])

    def _command(self, name: str) -> list[str]:
        return ["rabbitmqctl", name, "-p", self.settings.virtual_host, self.settings.credentials.username]


def _pattern(names: list[str]) -> str:
    return f"^{names[0]}" if len(names) == 1 else f"^({'|'.join(names)})"

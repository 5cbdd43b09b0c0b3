"""What went wrong between a participant and the broker, in one line with the fix."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection

import pika
from pika import exceptions

from orchestrator.contract import Topology

#: What the names of queues begin with that the broker names.
_SERVER_NAMED = r"amq\.gen-"


def explain(
    reason: BaseException, settings: pika.connection.Parameters, topology: Topology, participant: str, event_types: Collection[str] = ()
) -> str:
    """Put a pika error, or an error of the socket below it, in words. The password is in none of them.

    `event_types`: the events that it subscribes to.
    """
    if isinstance(reason, exceptions.ProbableAuthenticationError):
        return (
            "RabbitMQ refuses the user name or password. "
            "Fix: correct them in ESCROW_AMQP_URL, or on the broker (rabbitmqctl add_user, change_password)."
        )
    if isinstance(reason, exceptions.ProbableAccessDeniedError):
        rights = _permissions(settings, topology, participant, event_types)
        make = shlex.join(["rabbitmqctl", "add_vhost", settings.virtual_host])
        return (
            f"RabbitMQ does not let {settings.credentials.username} into the virtual host {settings.virtual_host}. "
            f"Fix: correct the path of ESCROW_AMQP_URL, or run: {make}; {rights}"
        )
    if isinstance(reason, exceptions.ChannelClosedByBroker):
        fix = _fix(reason, settings, topology, participant, event_types)
        return f"RabbitMQ refused: {reason.reply_code} {reason.reply_text}. Fix: {fix}"
    innermost = _innermost(reason)
    return " ".join(str(innermost).split()) or type(innermost).__name__


def _innermost(reason: BaseException) -> BaseException:
    """What the operating system said: pika wraps errors in errors, whose own text is their name."""
    nested = getattr(reason, "exceptions", None) or [arg for arg in reason.args if isinstance(arg, BaseException)]
    inner = nested[-1] if nested else getattr(reason, "exception", None)
    return reason if inner is None else _innermost(inner)


def _fix(
    reason: exceptions.ChannelClosedByBroker,
    settings: pika.connection.Parameters,
    topology: Topology,
    participant: str,
    event_types: Collection[str],
) -> str:
    match reason.reply_code:
        case 403 if "access to topic" in reason.reply_text:
            return f"run: {_topic_permissions(settings, topology, participant, event_types)}"
        case 403:
            return f"run: {_permissions(settings, topology, participant, event_types)}"
        case 404:
            return "start a worker of Escrow, which declares it, or load the definitions of deploy/rabbitmq."
        case 406:
            return "drain and delete it, so that it is declared anew, or set another ESCROW_NAMESPACE."
        case _:
            return "see the broker's log."


def _permissions(settings: pika.connection.Parameters, topology: Topology, participant: str, event_types: Collection[str]) -> str:
    """The command that gives the least a participant needs: to publish events, to read its own commands, and to subscribe if it does."""
    events, queue = re.escape(topology.events), re.escape(topology.command_queue(participant))
    configure, write, read = "^$", f"^{events}$", f"^{queue}$"
    if event_types:
        configure, write, read = rf"^{_SERVER_NAMED}", rf"^({events}$|{_SERVER_NAMED})", rf"^({queue}$|{events}$|{_SERVER_NAMED})"
    return shlex.join([*_command("set_permissions", settings), configure, write, read])


def _topic_permissions(settings: pika.connection.Parameters, topology: Topology, participant: str, event_types: Collection[str]) -> str:
    """The command that lets it publish as itself, and bind to the events it subscribes to, from whomever."""
    read = rf"^\*\.({'|'.join(map(re.escape, sorted(event_types)))})$" if event_types else "^$"
    return shlex.join([*_command("set_topic_permissions", settings), topology.events, rf"^{re.escape(participant)}\.", read])


def _command(name: str, settings: pika.connection.Parameters) -> list[str]:
    return ["rabbitmqctl", name, "-p", settings.virtual_host, settings.credentials.username]

"""What went wrong between us and the broker, in one line a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pika import exceptions

from orchestrator.errors import BusUnavailable, EscrowError, SettingsError

ACCESS_REFUSED = 403
NOT_FOUND = 404
PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A failure of a link, explained."""

    #: What happened, in the broker's words where it has some.
    problem: str
    fix: str
    #: AMQP reply code; None when the broker did not say any.
    code: int | None = None
    #: Somebody must change something: trying again soon is no use.
    is_setup: bool = False

    def __str__(self) -> str:
        return f"{self.problem.rstrip('.')}. Fix: {self.fix}"

    def as_error(self) -> EscrowError:
        """The error of the taxonomy: a mistake in the set-up, or a broker that is away."""
        return SettingsError(str(self)) if self.is_setup else BusUnavailable(str(self))


class Unreliable(Exception):
    """A session that is open and does not do its work; the text goes on from "The broker at …"."""


def explain(error: BaseException, where: str) -> Trouble:
    """Put a pika error, or an error of the socket below it, in words. `where` is the broker's address, without the password.

    >>> explain(ConnectionRefusedError(111, "Connection refused"), "127.0.0.1:5672").is_setup
    False
    """
    if isinstance(error, exceptions.ProbableAuthenticationError):
        return Trouble(
            problem=f"The broker at {where} refuses the user name or password",
            fix="correct them in ESCROW_AMQP_URL, or on the broker (rabbitmqctl add_user, change_password); "
            "guest may come in from the broker's own machine only.",
            code=ACCESS_REFUSED,
            is_setup=True,
        )
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        return Trouble(
            problem=f"The broker at {where} refuses the virtual host: {_last_words(error)}",
            fix="correct the path of ESCROW_AMQP_URL, or make it and let the user in: `escrow doctor` prints the commands.",
            code=530,
            is_setup=True,
        )
    if isinstance(error, Unreliable):
        return Trouble(problem=f"The broker at {where} {error}", fix=_LOOK)
    if isinstance(error, exceptions.ChannelClosedByBroker):
        return _refused(error.reply_code, error.reply_text)
    if isinstance(error, exceptions.ConnectionClosedByBroker):
        problem = f"The broker closed the connection: {error.reply_code} {error.reply_text}"
        return Trouble(problem=problem, fix=_WAIT, code=error.reply_code)
    if isinstance(error, exceptions.IncompatibleProtocolError):
        problem = f"What answers at {where} does not speak AMQP 0-9-1"
        return Trouble(problem=problem, fix="check the port of ESCROW_AMQP_URL.", is_setup=True)
    return Trouble(problem=f"The broker at {where} cannot be reached: {_last_words(error)}", fix=_WAIT)


_LOOK = "nothing when it passes, as after the loss of a node; else see `rabbitmqctl list_queues name leader online policy`."
_WAIT = "see that it runs and that the address is right."


def _refused(code: int, text: str) -> Trouble:
    fixes = {
        ACCESS_REFUSED: "give the user that permission: `escrow doctor` prints the command (rabbitmqctl set_permissions).",
        NOT_FOUND: "give the user permission to configure, so that Escrow declares it, or load the definitions of deploy/rabbitmq.",
        PRECONDITION_FAILED: "drain and delete it, so that Escrow declares it anew, or set another ESCROW_NAMESPACE.",
    }
    fix = fixes.get(code, "see the broker's log.")
    return Trouble(problem=f"The broker refused: {code} {text}", fix=fix, code=code, is_setup=code in fixes)


def _last_words(error: BaseException) -> str:
    """The innermost cause, on one line: pika wraps errors in errors, and what the broker says in the name of an error."""
    *_, innermost = _inward(error)
    text = str(innermost) or type(innermost).__name__
    said = re.search(r"\(\d+\) (['\"])(.*)\1$", text)
    return " ".join((said[2] if said else text).split())


def _inward(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        yield inner
        nested = getattr(inner, "exceptions", None) or [arg for arg in inner.args if isinstance(arg, BaseException)]
        inner = nested[-1] if nested else getattr(inner, "exception", None)

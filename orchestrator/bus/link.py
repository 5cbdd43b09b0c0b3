"""One connection to the broker that is kept up: opened, set up, lost, and opened again.

Everything here runs on the thread of the loop. A session is one connection with one channel:

    open() → connecting → channel → topology declared or verified → user.up(channel) … user.down() → wait → connecting …

Of a cluster it tries the nodes in turn.

The first session declares its part of the topology; later ones verify it passively, and one that finds a part missing makes the next
declare again. A user without permission to declare works with what others declared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pika
import structlog
from pika.adapters.select_connection import IOLoop

from orchestrator.bus.connection import Connection, addresses
from orchestrator.bus.topology import Binding, Part
from orchestrator.bus.trouble import ACCESS_REFUSED, NOT_FOUND, Trouble, Unreliable, explain

#: Full jitter: the wait before attempt k + 1 is jitter * min(RETRY_MAX_S, RETRY_FIRST_S * 2**k).
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 10.0
#: Between attempts when somebody must change permissions, arguments or settings first.
RETRY_SETUP_S = 10.0
#: A link that was up for so long begins its backoff anew.
STEADY_S = 10.0
#: The broker's time for each step until a new session works: a cluster that has just lost a node may leave a question unanswered.
SET_UP_LIMIT_S = 5.0
#: The broker's time to answer our closing.
CLOSE_LIMIT_S = 2.0

_log = structlog.get_logger(__name__)


class User(Protocol):
    """What lives on a link: the publisher or the consumer."""

    def up(self, channel: Any) -> None:
        """A new session: the topology is there, the channel is open."""

    def down(self) -> None:
        """The session that was up is gone."""


def retry_delay(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row; `jitter` in [0, 1).

    >>> [retry_delay(failures, 1.0) for failures in (0, 1, 2, 20)]
    [0.1, 0.2, 0.4, 10.0]
    """
    return jitter * min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(failures, 30))


class Link:
    """See the module. `nodes`: the settings of a connection to each, at least one; `jitter` gives numbers in [0, 1)."""

    def __init__(
        self,
        name: str,
        loop: IOLoop,
        nodes: Sequence[pika.connection.Parameters],
        parts: Sequence[Part],
        user: User,
        *,
        jitter: Callable[[], float],
        on_idle: Callable[[], None],
    ) -> None:
        self.name = name
        #: Why the link is not up; None once it is.
        self.trouble: Trouble | None = None
        self._loop = loop
        #: The nodes of the cluster, and the place of the one in use. Links begin with different ones, so that a cluster is used evenly.
        self._nodes = nodes
        self._place = int(jitter() * len(nodes))
        self._parts = list(parts)
        self._user = user
        self._jitter = jitter
        #: Called when a link that was closed on purpose has let its connection go.
        self._on_idle = on_idle
        self._is_wanted = False
        self._connection: Connection | None = None
        self._channel: Any = None
        self._is_up = False
        self._failures = 0
        self._retry_timer: Any = None
        self._steady_timer: Any = None
        self._set_up_timer: Any = None
        self._declares = True
        self._may_declare = True

    @property
    def connection(self) -> Connection | None:
        """The connection while the session is up."""
        return self._connection if self._is_up else None

    @property
    def is_idle(self) -> bool:
        """Closed on purpose, and the connection is gone."""
        return not self._is_wanted and self._connection is None

    def open(self) -> None:
        """Connect and stay connected. Idempotent."""
        self._is_wanted = True
        if self._connection is None and self._retry_timer is None:
            self._connect()

    def close(self) -> None:
        """Let the connection go, and stay away. Idempotent; `on_idle` is called when it is done, at the latest after CLOSE_LIMIT_S."""
        self._is_wanted = False
        self.trouble = None
        self._cancel(self._retry_timer)
        self._retry_timer = None
        if self._connection is None:
            self._on_idle()
        else:
            self._let_go()

    def fail(self, reason: Exception) -> None:
        """End the session because it is of no use any more, and start another."""
        if self._is_up:
            self._note(reason)
            self._let_go()

    def crash(self, error: Exception) -> None:
        """An exception came through the loop: nothing about the session can be trusted, so begin anew."""
        connection, self._connection = self._connection, None
        self._leave()
        self._note(error)
        if connection is not None:
            try:
                connection.abort()
            except Exception:  # noqa: BLE001 - it is in an unknown state; whatever it raises, we begin anew
                _log.exception("A broken connection could not be aborted.", action="bus.abort_failed", link=self.name)
        self._go_on()

    # --- one session, step by step -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._retry_timer = None
        self._connection = Connection(
            self._nodes[self._place],
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_closed,
            on_close_callback=self._on_closed,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Connection) -> None:
        if connection is self._connection and self._is_wanted:
            connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        if channel.connection is not self._connection or not self._is_wanted:
            return
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        self._set_up(channel, list(self._parts) if self._declares else [part for part in self._parts if not isinstance(part, Binding)])

    def _set_up(self, channel: Any, parts: list[Part]) -> None:
        """Declare or verify the parts, one at a time: each answer leads to the next."""
        if channel is not self._channel:
            return
        self._cancel(self._set_up_timer)
        self._set_up_timer = self._loop.call_later(SET_UP_LIMIT_S, self._give_up)
        if not parts:
            self._enter(channel)
            return
        part, *others = parts
        act = part.declare if self._declares or isinstance(part, Binding) else part.verify
        act(channel, callback=lambda _answer: self._set_up(channel, others))

    def _enter(self, channel: Any) -> None:
        self._declares = False
        self._is_up = True
        self._steady_timer = self._loop.call_later(STEADY_S, self._forget_failures)
        self._user.up(channel)

    def entered(self) -> None:
        """The user has what it needs: the link works."""
        self._cancel(self._set_up_timer)
        self._set_up_timer = None
        if self.trouble is not None:
            _log.info("The broker link is up again.", action="bus.link_up", link=self.name)
        self.trouble = None

    def _give_up(self) -> None:
        self._set_up_timer = None
        self._note(Unreliable(f"did not answer within {SET_UP_LIMIT_S:.0f} s"))
        self._let_go()

    def _forget_failures(self) -> None:
        self._steady_timer = None
        self._failures = 0

    def _on_channel_closed(self, channel: Any, reason: Exception) -> None:
        if channel is self._channel:
            self._note(reason)
            self._let_go()

    def _let_go(self) -> None:
        """Close the connection, politely, but not for ever."""
        self._leave()
        connection = self._connection
        if connection is None or connection.is_closing or connection.is_closed:
            return
        connection.close()
        self._loop.call_later(CLOSE_LIMIT_S, lambda: self._insist(connection))

    def _insist(self, connection: Connection) -> None:
        if connection is self._connection and connection.is_closing:
            connection.abort()

    def _leave(self) -> None:
        self._channel = None
        self._cancel(self._set_up_timer)
        self._set_up_timer = None
        self._cancel(self._steady_timer)
        self._steady_timer = None
        if self._is_up:
            self._is_up = False
            self._user.down()

    def _on_closed(self, connection: Connection, reason: Exception) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._leave()
        if not isinstance(reason, pika.exceptions.ConnectionClosedByClient | pika.exceptions.ConnectionOpenAborted):
            self._note(reason)
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_wanted:
            self._on_idle()
        elif self._retry_timer is None:
            self._retry_timer = self._loop.call_later(self._delay(), self._connect)

    def _delay(self) -> float:
        if self.trouble is None:  # let go on purpose, and wanted again
            return 0.0
        if self.trouble.is_setup:
            self._declares = self._may_declare = True
            return RETRY_SETUP_S
        self._place = (self._place + 1) % len(self._nodes)
        delay = retry_delay(self._failures, self._jitter())
        self._failures += 1
        # Another node may be up while one is down: a round over all of them comes before the first longer wait.
        return min(delay, RETRY_FIRST_S) if self._failures < len(self._nodes) else delay

    # --- what went wrong ---------------------------------------------------------------------------------------------

    def _note(self, reason: Exception) -> None:
        if not self._is_wanted:
            return
        trouble = self._consider(explain(reason, addresses([self._nodes[self._place]])))
        if self.trouble is None or str(trouble) != str(self.trouble):
            _log.warning(f"The broker link is down, and Escrow goes on trying: {trouble}", action="bus.link_down", link=self.name)
        self.trouble = trouble

    def _consider(self, trouble: Trouble) -> Trouble:
        """Choose between declaring and verifying for the next session; what that can mend is no matter of set-up."""
        if trouble.code == ACCESS_REFUSED and self._declares and self._channel is not None:
            self._declares = self._may_declare = False
        elif trouble.code == NOT_FOUND and not self._declares and self._may_declare:
            self._declares = True
        else:
            return trouble
        return Trouble(problem=trouble.problem, fix=trouble.fix, code=trouble.code, is_setup=False)

    def _cancel(self, timer: Any) -> None:
        if timer is not None:
            self._loop.remove_timeout(timer)

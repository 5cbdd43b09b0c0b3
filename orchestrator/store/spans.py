"""All orders in pieces of about equal work, and several processes to go through them at once."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa

from orchestrator.errors import InvariantViolated, TemporaryError
from orchestrator.store.dialect import reading
from orchestrator.store.engine import for_bulk, make_engine
from orchestrator.store.tables import journal

#: Journal entries of the smallest piece.
ENTRIES = 5_000
#: No piece is larger than this share of what is left, so that no process works on long after the others have ended.
_SHARE = 4
#: Pieces handed out for each process: enough that none waits for the next.
_AHEAD = 3
#: Objects made before the young ones are looked through.
_GC_THRESHOLD = 200_000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of order ids, bytewise: those after `after`, up to and with `until` (None: to the end)."""

    after: str = ""
    until: str | None = None


EVERYTHING = Span()


def sizes(total: int, largest: int, processes: int) -> Iterator[int]:
    """Journal entries of one piece after the other, for so many in all: large ones first, small ones when little is left.

    >>> list(islice(sizes(100_000, 25_000, 2), 5)), list(islice(sizes(9_000, 25_000, 1), 2))
    ([12500, 10937, 9570, 8374, 7327], [5000, 5000])
    """
    while True:
        size = max(ENTRIES, min(largest, total // (_SHARE * processes)))
        yield size
        total -= size


def spans(engine: sa.Engine, sizes: Iterable[int]) -> Iterator[Span]:
    """All order ids, whatever table knows them, cut where the journal has about so many entries since the last cut.

    `sizes` must not end before the journal does.
    """
    j = journal.c
    after = ""
    for size in sizes:
        cut = sa.select(j.order_id).where(j.order_id > after).order_by(j.order_id, j.seq).offset(size).limit(1)
        with reading(engine) as connection:
            until = connection.execute(cut).scalar_one_or_none()
        yield Span(after=after, until=until)
        if until is None:
            return
        after = until


def entry_count(engine: sa.Engine) -> int:
    """Journal entries of all orders."""
    with reading(engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(journal)).scalar_one()


def each(pieces: Iterable[Span], work: Callable[[sa.Engine, Span], Answer], url: str, processes: int) -> Iterator[Answer]:
    """What `work` answers for every piece, as it comes. `work` and its answers must be picklable where there are several processes.

    Raises what `work` raises, and TemporaryError when a process is killed; pieces not begun by then are left.
    """
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(url,))
    left = iter(pieces)
    try:
        running = {pool.submit(_work, work, span) for span in islice(left, processes * _AHEAD)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_work, work, span) for span in islice(left, len(done))}
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise TemporaryError(
            "One of the processes was killed, perhaps for want of memory. Fix: run it again when there is more; "
            "`escrow verify --parallel 1` needs the least."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the garbage collector rest while very much is gone through: what is made then is dropped at once, and has no cycles."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


#: Of this process, when it is one of several.
_engines: list[sa.Engine] = []


def _begin(url: str) -> None:
    # An interrupt from the keyboard reaches every process: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    _engines.append(for_bulk(make_engine(url, clock=_no_clock)))


def _work(work: Callable[[sa.Engine, Span], Answer], span: Span) -> Answer:
    return work(_engines[0], span)


def _no_clock() -> datetime:
    raise InvariantViolated("Going through the orders asked for the time.")

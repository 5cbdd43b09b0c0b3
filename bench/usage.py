"""What it costs: CPU and memory of processes (Linux, /proc), commits of a database (pg_stat_database)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import sqlalchemy as sa

from bench.site import Site

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024


class Usage(dict[str, float]):
    """CPU milliseconds per saga, by name of process."""

    @classmethod
    def between(cls, before: Mapping[str, float], after: Mapping[str, float], sagas: int) -> Usage:
        """The difference of two readings, per saga."""
        return cls({name: (after[name] - before.get(name, 0.0)) / sagas for name in after})


def commits(admin_url: str, database: str) -> int:
    """Transactions committed in a database so far. Backends report within 1 s, so let it rest before."""
    [(count,)] = _ask(admin_url, sa.text("SELECT xact_commit FROM pg_stat_database WHERE datname = :name").bindparams(name=database))
    return int(count)


def cpu_ms(site: Site) -> dict[str, float]:
    """CPU so far, user and system, by process.

    PostgreSQL: the backends of our databases and its background processes; RabbitMQ: the whole broker. Either is left out when it runs
    where we cannot look (a container, another host).
    """
    used = {name: cpu_of(process.pid) for name, process in site.processes.items()}
    used["load"] = cpu_of(os.getpid())
    for name, pids in (("postgresql", _postgres_pids(site)), ("rabbitmq", _pids_of("beam.smp"))):
        if pids:
            used[name] = sum(map(cpu_of, pids))
    return used


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of the largest of these processes, in MiB."""
    return max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB for pid in pids)


def by_kind(usage: Mapping[str, float]) -> dict[str, float]:
    """The workers as one."""
    kinds: Counter[str] = Counter()
    for name, value in usage.items():
        kinds[name.split()[0]] += value  # type: ignore[assignment]  # a Counter adds floats as well
    return dict(kinds)


def _postgres_pids(site: Site) -> list[int]:
    query = sa.text("SELECT pid FROM pg_stat_activity WHERE datname IS NULL OR datname = ANY(:names)").bindparams(names=site.databases)
    return [pid for (pid,) in _ask(site.admin_url, query) if _comm(pid).startswith("postgres")]


def _pids_of(comm: str) -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _comm(int(path.name)) == comm]


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_of(pid: int) -> float:
    """User and system time, in milliseconds; 0 when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


def _ask(admin_url: str, query: sa.TextClause) -> list[tuple[int, ...]]:
    engine = sa.create_engine(admin_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]

"""The metrics of one process, in Prometheus' form. Names are a contract with dashboards and alerts: see `Metrics`.

Levels (orders, outbox, parked, quarantine) are read from the database when they are scraped, so they are true whichever process is
asked; they are the same number from each, so aggregate them with `max`, not `sum`. Counters and histograms are this process's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.errors import EscrowError

#: Seconds. A deadline shall fire within 0.25 s; beyond 60 s only an outage explains it.
LATENESS_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

#: Of a participant (R8).
PARTICIPANT_STATES = ("healthy", "silent", "recovering")

#: Inputs in one transaction, up to the largest `ESCROW_BATCH_COUNT_MAX`.
BATCH_SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 1_000, 5_000)

#: Seconds of one transaction, from the first lock to the commit.
BATCH_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What the database says at this moment."""

    #: (definition, state, status) → orders.
    orders: Mapping[tuple[str, str, str], int]
    #: Age of the oldest unconfirmed message; 0 when there is none.
    outbox_age_s: float
    outbox_messages: int
    parked: int
    #: Quarantined messages that a human is still to decide about.
    quarantine_open: int
    #: Name → state, and commands kept back, of each participant.
    participants: Mapping[str, str]
    held: Mapping[str, int]


class Metrics:
    """Every metric, registered in `registry` (default: one of its own, so that several can live in one process)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.deadlines_fired = self._counter("deadlines_fired", "Deadlines that fired.")
        self.deadline_lateness_s = self._histogram(
            "deadline_lateness_seconds", "Seconds between a deadline's due time and its firing.", LATENESS_BUCKETS_S
        )
        #: kind: `do` or `undo`.
        self.commands = self._counter("commands", "Commands written to the outbox, every attempt counted.", "kind", "name")
        #: kind: `message`, `deadline`, `sent_late` or `act`; verdict: see `orchestrator.saga.decision`.
        self.inputs = self._counter("inputs", "Inputs decided.", "kind", "verdict")
        self.batch_size = self._histogram("batch_size", "Inputs handled in one transaction.", BATCH_SIZE_BUCKETS)
        self.batch_s = self._histogram("batch_seconds", "Seconds of one transaction.", BATCH_BUCKETS_S)
        self.quarantined = self._counter("quarantined", "Messages put into quarantine.", "reason")
        self.returned = self._counter("returned", "Commands that the broker returned because no queue takes them.")
        self.unprotected_s = self._counter(
            "unprotected_seconds", "Seconds in which messages were acked and calls answered that the recorder did not have."
        )
        #: name: what a human should look at, such as `silence` or `undo_silent`; all of them are in docs/operations.md.
        self.alerts = self._counter("alerts", "Things a human should look at.", "name")
        self.scrape_failures = self._counter("scrape_failures", "Scrapes that could not read the database.")

    def read_levels_from(self, read: Callable[[], Levels]) -> None:
        """Read the levels by `read` at every scrape. While it raises an EscrowError they are absent, and the failure is counted."""
        self.registry.register(_LevelsCollector(read, self.scrape_failures))

    def render(self) -> tuple[bytes, str]:
        """The exposition, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="escrow", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, namespace="escrow", registry=self.registry, buckets=buckets)


class _LevelsCollector(Collector):
    def __init__(self, read: Callable[[], Levels], failures: Counter) -> None:
        self._read = read
        self._failures = failures

    def describe(self) -> list[Metric]:
        """No metrics: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read once, and give each level."""
        try:
            levels = self._read()
        except EscrowError:
            self._failures.inc()
            return
        orders = GaugeMetricFamily("escrow_orders", "Orders by definition, state and status.", labels=("definition", "state", "status"))
        for labels, count in sorted(levels.orders.items()):
            orders.add_metric(labels, count)
        yield orders
        yield GaugeMetricFamily("escrow_outbox_age_seconds", "Age of the oldest unconfirmed message.", value=levels.outbox_age_s)
        yield GaugeMetricFamily("escrow_outbox_messages", "Messages not yet confirmed by the broker.", value=levels.outbox_messages)
        yield GaugeMetricFamily("escrow_parked", "Events that came too early and wait.", value=levels.parked)
        yield GaugeMetricFamily(
            "escrow_quarantine_open", "Quarantined messages not yet replayed or discarded.", value=levels.quarantine_open
        )
        states = GaugeMetricFamily("escrow_participant_state", "1 for the state that it is in.", labels=("participant", "state"))
        for name, state in sorted(levels.participants.items()):
            for one in PARTICIPANT_STATES:
                states.add_metric((name, one), float(one == state))
        yield states
        held = GaugeMetricFamily("escrow_participant_held", "Commands kept back for a participant.", labels=("participant",))
        for name, count in sorted(levels.held.items()):
            held.add_metric((name,), count)
        yield held

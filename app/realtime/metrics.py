"""What Prometheus reads. Names after its conventions; no label ever carries a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Metrics(Collector):
    """The metrics of one gateway, in a registry of its own, so that several gateways in one process keep apart.

    Attributes:
        published: publications to the broker; this and the next two are counted in the event loop alone.
        tried: commands of clients who have shown who they are: others can send what they like.
        broken: those of them that ended in an error of the broker, or one that nobody foresaw.
    """

    def __init__(self) -> None:
        """Register every metric."""
        self.published = 0
        self.tried = 0
        self.broken = 0
        self._counted: dict[str, tuple[str, Callable[[], float]]] = {}
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(self)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bulkhead_{name}", text, labels, registry=self.registry)

        self.connections = Gauge("bulkhead_connections", "Connections that are open.", registry=self.registry)
        self.queued = counter("queued_publications", "Publishes that wait, or waited, for the broker.")
        self.refused = counter("refused_publications", "Publishes that were refused.", "reason")
        self.failed = counter("failed_publications", "Publishes that ended in an error of the broker.")
        self.commands = counter("commands", "Commands of clients.", "method")
        self.errors = counter("errors", "Commands that were answered with an error.", "code")
        self.disconnects = counter("disconnects", "Connections that the server ended.", "code")
        self.emergency = Gauge(
            "bulkhead_emergency", "1 while a rule holds the gateway in emergency mode.", registry=self.registry
        )
        self.emergencies = counter("emergencies", "Emergencies that a rule declared.", "rule")
        self.audits = counter("isolation_audit_passes", "Audits of all managers.")
        self.audit_findings = Gauge(
            "bulkhead_isolation_audit_findings",
            "Objects that users share, as the last audit saw.",
            registry=self.registry,
        )
        self.audit_seconds = Gauge(
            "bulkhead_isolation_audit_seconds",
            "Time of the event loop that the last audit took.",
            registry=self.registry,
        )
        self.audit_age = Gauge(
            "bulkhead_isolation_audit_age_seconds",
            "Seconds since the last audit, or since the start if there was none.",
            registry=self.registry,
        )
        self.violations = counter("isolation_violations", "Doubts about isolation; each is an incident.", "net")

    def collect(self) -> Iterator[Metric]:
        """Called by the registry. What counts every event is a plain number: a counter would take a lock for each."""
        yield CounterMetricFamily(
            "bulkhead_publications", "Events and messages published to the broker.", value=self.published
        )
        for name, (text, value) in self._counted.items():
            yield CounterMetricFamily(f"bulkhead_{name}", text, value=value())

    def observe(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when Prometheus asks."""
        Gauge(f"bulkhead_{name}", text, registry=self.registry).set_function(value)

    def count(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a counter that is kept elsewhere and read when Prometheus asks."""
        self._counted[name] = text, value

    def violation_count(self) -> int:
        """Doubts about isolation since the start."""
        return int(_total(self.violations))

    def attempts(self) -> int:
        """Publishes, and commands that were `tried`, since the start; a publish of a client is both."""
        return int(self.published + _total(self.failed) + self.tried)

    def failures(self) -> int:
        """How many of the attempts ended in an error of the broker, or one that nobody foresaw."""
        return int(_total(self.failed) + self.broken)


def _total(counter: Counter) -> float:
    """The sum of a counter over its labels."""
    return sum(
        sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total")
    )

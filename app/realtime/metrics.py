"""What Prometheus reads. Names after its conventions; no label ever carries a user."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """The metrics of one gateway, in a registry of its own, so that several gateways in one process keep apart."""

    def __init__(self) -> None:
        """Register every metric."""
        self.registry = CollectorRegistry(auto_describe=True)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"bulkhead_{name}", text, labels, registry=self.registry)

        self.connections = Gauge("bulkhead_connections", "Connections that are open.", registry=self.registry)
        self.publications = counter("publications", "Events and messages published to the broker.")
        self.queued = counter("queued_publications", "Publishes that wait, or waited, for the broker.")
        self.refused = counter("refused_publications", "Publishes that were refused.", "reason")
        self.commands = counter("commands", "Commands of clients.", "method")
        self.errors = counter("errors", "Commands that were answered with an error.", "code")
        self.disconnects = counter("disconnects", "Connections that the server ended.", "code")
        self.violations = counter("isolation_violations", "Doubts about isolation; each is an incident.", "net")

    def observe(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when Prometheus asks."""
        Gauge(f"bulkhead_{name}", text, registry=self.registry).set_function(value)

    def violation_count(self) -> int:
        """Doubts about isolation since the start."""
        return int(
            sum(
                sample.value
                for metric in self.violations.collect()
                for sample in metric.samples
                if sample.name.endswith("_total")
            )
        )

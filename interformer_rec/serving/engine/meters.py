"""What a server counts, as Prometheus reads it. In: what requests did; out: the text of /metrics.

Workers that are processes of their own write to the files of PROMETHEUS_MULTIPROC_DIR, and any of them answers for all.
"""

import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
STAGES = ("read", "encode", "wait", "score", "write", "whole")
RECENT = 2_000  # requests of which the page shows percentiles


def _registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@dataclass
class Meters:
    """The meters of one worker."""

    registry: CollectorRegistry = field(default_factory=_registry)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # seconds of whole requests

    def __post_init__(self) -> None:
        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"interformer_{name}", text, labels, buckets=buckets, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(f"interformer_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = (), mode: Any = "livesum") -> Gauge:
            return Gauge(f"interformer_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)

        stages = histogram("stage_seconds", "seconds of a request by stage", ("stage",), SECONDS)
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self.requests = counter("requests", "requests answered, by route and status", ("route", "status"))
        self.errors = counter("errors", "requests refused or failed, by kind", ("kind",))
        self.candidates = counter("candidates", "candidates and rows scored", ())
        self.batch_requests = histogram("batch_requests", "requests of a batch", (), SIZES)
        self.batch_candidates = histogram("batch_candidates", "candidates of a batch", (), SIZES)
        self.in_flight = gauge("in_flight", "requests accepted and not answered")
        self.waiting = gauge("queue", "requests that wait for their batch")
        self.cache_hits = counter("cache_hits", "users whose state was in the cache", ())
        self.cache_misses = counter("cache_misses", "users whose state was not in the cache", ())
        self.cache_bytes = gauge("cache_bytes", "bytes of users' states that are kept")
        self.loads = counter("version_loads", "versions loaded while serving, by outcome", ("outcome",))
        self.version = gauge("version", "1 for the version that answers", ("version",), "liveall")
        self.deltas = gauge(
            "deltas", "deltas since the version, of the worker that has applied the fewest", mode="livemin"
        )
        self.ready = gauge("ready", "workers that are ready")

    def stage(self, name: str, seconds: float) -> None:
        """Seconds that one request spent in a stage."""
        self._stages[name].observe(seconds)
        if name == "whole":
            self.recent.append(seconds)

    def batch(self, requests: int, candidates: int) -> None:
        """One batch was scored."""
        self.batch_requests.observe(requests)
        self.batch_candidates.observe(candidates)

    def percentiles(self) -> dict[str, float]:
        """Milliseconds of the last requests of this worker."""
        if not self.recent:
            return {}
        found = np.percentile(np.fromiter(self.recent, float), [50, 90, 99]) * 1e3
        return {name: round(float(value), 3) for name, value in zip(("p50", "p90", "p99"), found, strict=True)}

    def text(self) -> bytes:
        """For Prometheus: of all workers."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)

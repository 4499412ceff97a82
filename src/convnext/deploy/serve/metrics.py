"""Counts and times in Prometheus' form."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_TIMES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of a server, of its own: two in one process do not share them.

    Args:
        waiting: gives the number of images that wait.
        workers: gives the number of workers that are ready.
    """

    def __init__(self, waiting: Callable[[], int], workers: Callable[[], int]) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("convnext_requests", "Requests answered.", ["route", "status"], registry=own)
        self.latency = Histogram(
            "convnext_request_seconds",
            "From a request's headers to its answer.",
            ["route"],
            registry=own,
            buckets=_TIMES,
        )
        self.images = Counter("convnext_images", "Images computed.", ["model", "kind"], registry=own)
        self.batches = Histogram(
            "convnext_batch_images", "Images of a batch.", ["model"], registry=own, buckets=_BATCHES
        )
        self.computing = Histogram(
            "convnext_batch_seconds", "Time of a worker for a batch.", ["model"], registry=own, buckets=_TIMES
        )
        self.restarts = Counter("convnext_worker_restarts", "Workers that were lost.", registry=own)
        for name, text, count in (
            ("convnext_images_waiting", "Images that wait for a worker.", waiting),
            ("convnext_workers_ready", "Workers that are ready.", workers),
        ):
            Gauge(name, text, registry=own).set_function(count)

    def computed(self, model: str, kind: str, images: int, seconds: float) -> None:
        """Count a batch."""
        self.images.labels(model, kind).inc(images)
        self.batches.labels(model).observe(images)
        self.computing.labels(model).observe(seconds)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

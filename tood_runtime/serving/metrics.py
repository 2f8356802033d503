"""What Prometheus reads about a server."""

from collections.abc import Callable

from .packages import import_package

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts requests, images and batches in a registry of its own.

    Args:
        queue_length: gives the number of images that wait.
    """

    def __init__(self, queue_length: Callable[[], int]) -> None:
        prometheus = import_package("prometheus_client")
        self._prometheus = prometheus
        self.registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self.requests = prometheus.Counter(
            "tood_requests",
            "HTTP requests by endpoint and status; 499 for clients that have gone",
            ("endpoint", "status"),
            registry=self.registry,
        )
        self.seconds = prometheus.Histogram(
            "tood_request_seconds",
            "Time from the request's headers to the end of the response",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = prometheus.Counter(
            "tood_images", "Images that went through the network", registry=self.registry
        )
        self.batch_size = prometheus.Histogram(
            "tood_batch_size",
            "Images per batch",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        waiting = prometheus.Gauge(
            "tood_queue_length", "Images that wait for the network", registry=self.registry
        )
        waiting.set_function(queue_length)
        self.active = prometheus.Gauge(
            "tood_active_requests", "Requests for detections in progress", registry=self.registry
        )

    def count_batch(self, size: int) -> None:
        """Count a batch of so many images."""
        self.images.inc(size)
        self.batch_size.observe(size)

    def count_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request and its response."""
        self.requests.labels(endpoint, str(status)).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """All values in the text format, and its media type."""
        text: bytes = self._prometheus.generate_latest(self.registry)
        return text, self._prometheus.CONTENT_TYPE_LATEST

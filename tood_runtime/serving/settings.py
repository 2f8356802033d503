"""The limits of a server, and the options of requests that have none."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

# Pillow refuses larger images itself.
_MOST_PIXELS = 170_000_000


@dataclass(frozen=True)
class ServingSettings:
    """How a server batches and what it refuses.

    Attributes:
        options: of requests that do not give them: keyword arguments of a detector's ``predict``,
            such as ``score_threshold``.
        batch_size: number of images that the network gets at once, at most.
        batch_wait: seconds that an image waits for others to share its batch.
        queue_size: number of requests that are received, decoded or waiting; more are refused with
            status 503.
        max_body_bytes: of one request, at most.
        max_total_bytes: of all requests together; more are refused with status 503.
        max_pixels: of one image, at most.
        decode_threads: number of images that are decoded or drawn at the same time.
        rate_limit: requests per second of each client; None for any number.
        body_timeout: seconds in which a client has to send its request.
        allow_urls: whether requests may name images by URL, at public addresses.
        url_timeout: seconds for fetching one.
        allowed_hosts: host names by which clients may call the server, without port; None for any.
            Keeps web pages from reaching it under a name of theirs (DNS rebinding).
        cors_origins: web pages of other origins that may use the server, such as
            "https://example.com", or "*" for all.

    Raises:
        ValueError: a limit that is not positive, or too many pixels.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 4
    batch_wait: float = 0.005
    queue_size: int = 256
    max_body_bytes: int = 20_000_000
    max_total_bytes: int = 500_000_000
    max_pixels: int = 50_000_000
    decode_threads: int = 2
    rate_limit: float | None = None
    body_timeout: float = 30.0
    allow_urls: bool = False
    url_timeout: float = 10.0
    allowed_hosts: tuple[str, ...] | None = None
    cors_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            # A batch may go at once.
            if numeric and (value < 0 or (value == 0 and item.name != "batch_wait")):
                raise ValueError(f"{item.name} must be positive, got {value}.")
        if self.max_pixels > _MOST_PIXELS:
            raise ValueError(f"max_pixels must be at most {_MOST_PIXELS}, got {self.max_pixels}.")

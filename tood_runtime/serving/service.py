"""Detection for many requests at a time: decoded in a few threads, and run in batches."""

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..detections import Detections
from ..image_detector import ImageDetector
from ..image_io import RGBImage
from ..prediction import OptionError, PredictionSettings, PreparedImage
from ..remote.images import (
    BlockedAddressError,
    RemoteImageError,
    RemoteImageTooLargeError,
    fetch_image_bytes,
)
from .batch_worker import BatchResult, BatchWorker
from .bodies import ByteBudget
from .errors import OverloadedError, RequestError
from .images import decode_upload, draw_image
from .metrics import Metrics
from .settings import ServingSettings

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Batches of resized images that may wait for the network.
_PREPARED_BATCHES = 4
_URL_THREADS = 4
_PROBE_SIZE = (480, 640, 3)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in an image, and how long it took.

    Attributes:
        found: the detections.
        milliseconds: by step.
        batch_size: number of images that went through the network together.
    """

    found: Detections
    milliseconds: dict[str, float]
    batch_size: int


class DetectionService:
    """A detector with its queue and its threads.

    Args:
        detector: the model.
        settings: the limits.

    Raises:
        OptionError: options that the model cannot have, or that a server cannot have.

    Attributes:
        lowest_threshold: the lowest score threshold that the model can have, of 0.05 or more.
        budget: of the bytes that requests hold.
        metrics: what is counted.
    """

    def __init__(self, detector: ImageDetector[Any], settings: ServingSettings) -> None:
        self.detector = detector
        self.settings = settings
        self.validate_options({})
        self.lowest_threshold = self._find_lowest_threshold()
        self.budget = ByteBudget(settings.max_total_bytes)
        self.metrics = Metrics(lambda: 0 if self._worker is None else len(self._worker))
        self._worker: BatchWorker | None = None
        self._probe: Future[BatchResult] | None = None
        self._has_run = False
        self._active = 0

    # ---- Start, health and end ------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, and let the network run once."""
        settings = self.settings
        self._worker = BatchWorker(
            self.detector,
            batch_size=settings.batch_size,
            batch_wait=settings.batch_wait,
            on_batch=self.metrics.count_batch,
        )
        self._decoders = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._fetchers = ThreadPoolExecutor(_URL_THREADS, "fetch")
        self._prepared = asyncio.Semaphore(_PREPARED_BATCHES * settings.batch_size)
        # Preparing may be slow at first too, and nobody can be answered meanwhile.
        threading.Thread(target=self._run_once, name="warm-up", daemon=True).start()

    def stop(self) -> None:
        """Finish what is accepted, and end the threads."""
        if self._worker is not None:
            self._worker.close()
            self._decoders.shutdown()
            self._fetchers.shutdown(cancel_futures=True)
            self._worker = None

    def state(self) -> tuple[bool, str]:
        """Whether requests will be answered, and one word or sentence for people."""
        if self._worker is None:
            return False, "stopped"
        if not self._worker.is_healthy:
            self._run_once()  # so that it gets healthy again where it can
            return False, "The model fails. The log says why."
        return (True, "ready") if self._has_run else (False, "warming up")

    def _run_once(self) -> None:
        """Let the network run on a blank image, unless such a run is under way."""
        if self._worker is None or (self._probe is not None and not self._probe.done()):
            return
        try:
            blank = self.detector.prepare(np.zeros(_PROBE_SIZE, np.uint8))
            self._probe = self._worker.submit(blank, self.validate_options({}))
            self._probe.add_done_callback(self._note_run)
        except Exception:
            logger.exception("The model fails")

    def _note_run(self, probe: "Future[BatchResult]") -> None:
        self._has_run = self._has_run or (not probe.cancelled() and probe.exception() is None)

    # ---- Options --------------------------------------------------------------------------------

    def validate_options(self, options: Mapping[str, Any]) -> PredictionSettings:
        """The settings of a request, whose options come before those of the server.

        Raises:
            OptionError: the model cannot have them, or a server cannot.
            ValueError: a value out of range.
        """
        settings = self.detector.validate_options(**{**self.settings.options, **options})
        if settings.has_views:
            raise OptionError(
                "The server looks at each image once, so there are no slices or flips."
            )
        return settings

    def _find_lowest_threshold(self) -> float:
        for hundredths in range(5, 101):
            with contextlib.suppress(ValueError):
                self.validate_options({"score_threshold": hundredths / 100})
                return hundredths / 100
        return 1.0

    # ---- Requests -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request in, until it is answered.

        Raises:
            OverloadedError: there are too many.
        """
        if self._active >= self.settings.queue_size:
            raise OverloadedError("The server is busy. Try again later.")
        self._active += 1
        self.metrics.active.set(self._active)
        try:
            yield
        finally:
            self._active -= 1
            self.metrics.active.set(self._active)

    async def fetch(self, url: str) -> bytes:
        """Fetch an image from a public address.

        Raises:
            RequestError: there is none, or not within the limits.
        """
        size, timeout = self.settings.max_body_bytes, self.settings.url_timeout
        fetch = functools.partial(fetch_image_bytes, url, max_bytes=size, timeout=timeout)
        try:
            return await self._in(self._fetchers, fetch)
        except BlockedAddressError as error:
            raise RequestError(403, str(error)) from error
        except RemoteImageTooLargeError as error:
            raise RequestError(413, str(error)) from error
        except RemoteImageError as error:
            raise RequestError(422, str(error)) from error

    async def detect(self, data: bytes, settings: PredictionSettings) -> Answer:
        """Detect objects in an image file.

        Raises:
            RequestError: it is none, or not within the limits.
        """
        if self._worker is None:
            raise OverloadedError("The server is about to stop.")
        start = time.monotonic()
        # Resized images are few, because encoded ones need less memory.
        async with self._prepared:
            decoding = time.monotonic()
            image = await self._in(self._decoders, functools.partial(self._prepare, data))
            decoded = time.monotonic()
            result = await asyncio.wrap_future(self._worker.submit(image, settings))
        seconds = {
            "queue": decoding - start + result.waited,
            "decode": decoded - decoding,
            "model": result.model_time,
        }
        milliseconds = {name: round(1000 * value, 2) for name, value in seconds.items()}
        found = self.detector.to_detections(result.found, image.original_size)
        return Answer(found, milliseconds, result.batch_size)

    async def draw(self, data: bytes, found: Detections, suffix: str) -> bytes:
        """Draw detections on their image.

        Args:
            data: the image file. It is decoded again, because pixels need more memory.
            found: the detections.
            suffix: of the file to return, such as ".png".
        """

        def draw() -> bytes:
            return draw_image(self._decode(data), found, suffix)

        return await self._in(self._decoders, draw)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, function)

    def _prepare(self, data: bytes) -> PreparedImage:
        return self.detector.prepare(self._decode(data))

    def _decode(self, data: bytes) -> RGBImage:
        return decode_upload(data, self.detector.apply_orientation, self.settings.max_pixels)

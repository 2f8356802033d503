"""Dynamic batching: images of requests that come together go through the network together."""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..image_detector import ImageDetector
from ..nms import Candidates
from ..prediction import PredictionSettings, PreparedImage

logger = logging.getLogger(__name__)


class BatchResult(NamedTuple):
    """What was found in one image.

    Attributes:
        found: in pixels of the original image, best first.
        waited: seconds in the queue.
        model_time: seconds of its batch in the network.
        batch_size: number of images in that batch.
    """

    found: Candidates
    waited: float
    model_time: float
    batch_size: int


@dataclass(eq=False)
class _Waiting:
    image: PreparedImage
    settings: PredictionSettings
    key: Hashable
    arrived: float = field(default_factory=time.monotonic)
    future: "Future[BatchResult]" = field(default_factory=Future)


class BatchWorker:
    """Runs a detector in one thread, in batches of what waits.

    A batch has images of one padded size whose options differ in the score threshold at most. So
    each image has the detections that it has alone: the network averages over padding, and the
    other options decide which detections compete for their places.

    Args:
        detector: the model.
        batch_size: number of images in a batch, at most.
        batch_wait: seconds that an image waits for others.
        on_batch: called after each batch with the number of its images.
    """

    def __init__(
        self,
        detector: ImageDetector[Any],
        *,
        batch_size: int,
        batch_wait: float,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._detector = detector
        self._batch_size = batch_size
        self._batch_wait = batch_wait
        self._on_batch = on_batch
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="detector", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """The number of images that wait."""
        return sum(not one.future.cancelled() for one in self._waiting)

    @property
    def is_healthy(self) -> bool:
        """Whether it still works. A GPU that has failed once may fail from then on."""
        return self._thread.is_alive() and self._failures < 3

    def submit(self, image: PreparedImage, settings: PredictionSettings) -> "Future[BatchResult]":
        """Let an image wait for its batch. It leaves the queue if its future is canceled.

        Raises:
            RuntimeError: the worker is closed.
        """
        waiting = _Waiting(image, settings, _key(image, settings))
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The worker is closed.")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._run(batch)

    def _next_batch(self) -> list[_Waiting]:
        """Wait for the next batch: that of the oldest image. Empty at the end."""
        with self._changed:
            while True:
                self._waiting = [one for one in self._waiting if not one.future.cancelled()]
                if not self._waiting:
                    if self._is_closed:
                        return []
                    self._changed.wait()
                    continue
                oldest = self._waiting[0]
                batch = [one for one in self._waiting if one.key == oldest.key][: self._batch_size]
                left = oldest.arrived + self._batch_wait - time.monotonic()
                if len(batch) < self._batch_size and left > 0 and not self._is_closed:
                    self._changed.wait(left)
                    continue
                self._waiting = [one for one in self._waiting if one not in batch]
                # From here on, a future cannot be canceled, and takes a result.
                batch = [one for one in batch if one.future.set_running_or_notify_cancel()]
                if batch:
                    return batch

    def _run(self, batch: list[_Waiting]) -> None:
        try:
            results = self._detect(batch)
            self._failures = 0
        except Exception as error:
            if len(batch) > 1:  # one bad image, or too little memory for all of them together
                logger.warning(
                    "A batch of %d images failed, so each goes alone: %s", len(batch), error
                )
                for one in batch:
                    self._run([one])
                return
            logger.exception("Detection failed")
            self._failures += 1
            batch[0].future.set_exception(error)
            return
        for one, result in zip(batch, results, strict=True):
            one.future.set_result(result)

    def _detect(self, batch: list[_Waiting]) -> list[BatchResult]:
        start = time.monotonic()
        lowest = min(one.settings.score_threshold for one in batch)
        settings = replace(batch[0].settings, score_threshold=lowest)
        found = self._detector.detect_prepared([one.image for one in batch], settings)
        seconds = time.monotonic() - start
        self._on_batch(len(batch))
        return [
            BatchResult(one.settings.select(one_found), start - one.arrived, seconds, len(batch))
            for one, one_found in zip(batch, found, strict=True)
        ]


def _key(image: PreparedImage, settings: PredictionSettings) -> Hashable:
    """Images of equal keys can share a batch."""
    # With hard NMS, what scores less has no influence on what scores more. Fused boxes are averages
    # over all above the threshold.
    shares_threshold = settings.nms in ("per-class", "class-agnostic")
    rest = replace(settings, score_threshold=0.0) if shares_threshold else settings
    return image.padded_size, rest

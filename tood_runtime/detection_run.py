"""What the detection programs do: read, detect, write, all at the same time."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from .batching import Worker, map_ahead
from .detections import Detections
from .image_detector import ImageDetector
from .image_io import ImageReadError
from .image_writing import ImageWriteError
from .outputs import Output, Result
from .pipeline import detect_each
from .prediction import SourceImage
from .sources import ImageInput, Input, VideoInput, make_image_ids
from .sources.videos import DEFAULT_RATE
from .tracking import Tracker

logger = logging.getLogger(__name__)

# Problems that are logged one by one; a broken video can have thousands.
_MOST_PROBLEMS = 50


@dataclass
class RunSummary:
    """What a run has done so far.

    Attributes:
        num_images: images and frames that were detected in.
        num_unreadable: images and frames that could not be read.
        counts: number of objects by class name.
        problems: one sentence for each of the first problems.
        num_problems: of all problems, with what could not be written.
        seconds: from the start to the last result.
    """

    num_images: int = 0
    num_unreadable: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0
    seconds: float = 0.0

    def add_problem(self, problem: Exception) -> None:
        """Note what could not be read or written."""
        self.num_problems += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(str(problem))

    def log(self, score_threshold: float) -> None:
        """Log the problems, what was found, and how fast.

        Args:
            score_threshold: that detections were found with.
        """
        for problem in self.problems:
            logger.warning("%s", problem)
        if self.num_problems > len(self.problems):
            logger.warning("... and %d more problems", self.num_problems - len(self.problems))
        num_objects = sum(self.counts.values())
        by_class = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        logger.info(
            "%d objects in %d images%s, %.1f images/s",
            num_objects,
            self.num_images,
            f" ({by_class})" if by_class else "",
            self.num_images / max(self.seconds, 1e-9),
        )
        if self.num_unreadable:
            total = self.num_images + self.num_unreadable
            logger.warning("%d of %d images skipped.", self.num_unreadable, total)
        if self.num_images and not num_objects:
            logger.warning(
                "Nothing scored above %g. Lower --score-threshold to see weaker detections.",
                score_threshold,
            )


@dataclass(frozen=True, eq=False)
class _Job:
    """An image or frame on its way through the detector."""

    index: int
    input: Input
    image: SourceImage | ImageReadError


class DetectionRun:
    """Detects objects in inputs, and passes the results to outputs.

    Images are read, and results are written, in threads of their own while the network works.

    Args:
        detector: the model.
        inputs: what to detect in.
        outputs: what is done with the results.
        track: whether the objects of videos are numbered.
        batch_size: see :meth:`ImageDetector.predict`.
        options: more of its options, such as ``score_threshold``.

    Attributes:
        summary: what has been done so far.
    """

    def __init__(
        self,
        detector: ImageDetector[Any],
        inputs: Sequence[Input],
        outputs: Sequence[Output],
        *,
        track: bool = False,
        batch_size: int | None = None,
        **options: Any,
    ) -> None:
        self.detector = detector
        self.inputs = inputs
        self.outputs = outputs
        self.track = track
        self.batch_size = batch_size or detector.fixed_batch_size or 1
        self.options = options
        self.summary = RunSummary()
        self._needs_pixels = any(output.needs_pixels for output in outputs)
        self._tracker: tuple[int, Tracker] | None = None
        has_videos = any(isinstance(item, VideoInput) for item in inputs)
        self._image_ids = None if has_videos else make_image_ids([item.path for item in inputs])

    def run(self, on_image: Callable[[], object] = lambda: None) -> None:
        """Detect objects in all inputs. Whatever ends this, the outputs are completed.

        Args:
            on_image: called after each image or frame, readable or not.

        Raises:
            OutputError: an output cannot be written.
        """
        start = time.perf_counter()
        with ExitStack() as stack:
            for output in self.outputs:
                output.open(self.detector)
                stack.callback(output.close)
            worker = stack.enter_context(Worker(self._write))
            for result in self._results(on_image):
                worker.put(result)
                for output in self.outputs:
                    if output.in_main_thread:
                        output.add(result)
                self.summary.seconds = time.perf_counter() - start
                on_image()

    def _results(self, on_image: Callable[[], object]) -> Iterator[Result]:
        def on_unreadable(_: Any, error: ImageReadError) -> None:
            self.summary.num_unreadable += 1
            self.summary.add_problem(error)
            on_image()

        found = detect_each(
            self.detector,
            ((job, job.image) for job in self._jobs()),
            on_unreadable,
            batch_size=self.batch_size,
            **self.options,
        )
        for job, detections in found:
            image = job.image
            assert isinstance(image, SourceImage)
            rate = None if image.frame is None else image.rate or DEFAULT_RATE
            if self.track and rate is not None:
                detections = self._tracked(detections, job.index, rate)
            number = self.summary.num_images
            image_id = number + 1 if self._image_ids is None else self._image_ids[job.index]
            self.summary.num_images += 1
            self.summary.counts.update(detections.class_names)
            pixels = image.pixels if self._needs_pixels else None
            yield Result(job.index, job.input, image_id, pixels, detections, rate)

    def _jobs(self) -> Iterator[_Job]:
        """Everything that is to be detected in; images are read in threads, and ahead."""

        def read(frame: tuple[int, Input, SourceImage | ImageReadError | None]) -> _Job:
            index, item, image = frame
            if image is None:
                assert isinstance(item, ImageInput)
                image = _read(item, self.detector.apply_orientation)
            return _Job(index, item, image)

        return map_ahead(read, self._frames(), ahead=self.batch_size)

    def _frames(self) -> Iterator[tuple[int, Input, SourceImage | ImageReadError | None]]:
        """Each image, which is not read yet, and each frame, which is, with its input."""
        for index, item in enumerate(self.inputs):
            if isinstance(item, VideoInput):
                for frame in item.frames():
                    yield index, item, frame
            else:
                yield index, item, None

    def _tracked(self, found: Detections, index: int, rate: Fraction) -> Detections:
        if self._tracker is None or self._tracker[0] != index:
            self._tracker = index, Tracker(self.options.get("score_threshold", 0.3), rate)
        return self._tracker[1].update(found)

    def _write(self, result: Result) -> None:
        for output in self.outputs:
            if not output.in_main_thread:
                try:
                    output.add(result)
                except ImageWriteError as error:
                    self.summary.add_problem(error)


def _read(item: ImageInput, apply_orientation: bool) -> SourceImage | ImageReadError:
    try:
        return SourceImage(item.read(apply_orientation), item.location)
    except ImageReadError as error:
        return error

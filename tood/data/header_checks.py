"""Checks of the image files before and while they are used, by their headers."""

import logging
import threading

from detectron2.config import CfgNode

from ..compat import compute_on_main_process
from ..errors import DataError
from .dataset import DetectionDataset, concatenate
from .findings import MAX_EXAMPLES
from .image_headers import HeaderReport, check_image_headers
from .registration import load_dataset

logger = logging.getLogger(__name__)

# Images per step of the check in the background; the end of the program waits for one step.
_STEP = 200


def check_test_headers(cfg: CfgNode) -> None:
    """Check the headers of all test images, in the main process; all processes call it together.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Raises:
        DataError: an evaluation would stop at a test image.
    """
    apply_exif = cfg.INPUT.APPLY_EXIF_ORIENTATION
    compute_on_main_process(lambda: _check_test_images(cfg.DATASETS.TEST, apply_exif))


def start_header_check(cfg: CfgNode) -> "BackgroundHeaderCheck":
    """Start to check the headers of the training images in the background.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
    """
    dataset = concatenate([load_dataset(name) for name in cfg.DATASETS.TRAIN])
    return BackgroundHeaderCheck(dataset, cfg.INPUT.APPLY_EXIF_ORIENTATION)


def _check_test_images(names: tuple[str, ...], apply_exif: bool) -> None:
    for name in names:
        report = check_image_headers(load_dataset(name), apply_exif=apply_exif)
        if report.errors:
            problems = " ".join(finding.format() for finding in report.errors)
            raise DataError(f"The test set {report.source} cannot be evaluated: {problems}")


class BackgroundHeaderCheck:
    """Checks the headers of images in a daemon thread and logs one warning about the bad ones.

    Args:
        dataset: whose images are checked.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.

    Attributes:
        report: what was found so far; None before the first step.
    """

    def __init__(self, dataset: DetectionDataset, apply_exif: bool = True) -> None:
        self.report: HeaderReport | None = None
        self._dataset = dataset
        self._apply_exif = apply_exif
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="header-check", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def stop(self) -> None:
        """End the check early; what was found until then is logged."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for start in range(0, len(self._dataset), _STEP):
                indices = range(start, min(start + _STEP, len(self._dataset)))
                report = check_image_headers(
                    self._dataset,
                    apply_exif=self._apply_exif,
                    num_threads=2,
                    indices=indices,
                    stop=self._stopped.is_set,
                )
                self.report = report if self.report is None else _join(self.report, report)
                if self._stopped.is_set():
                    break
        except RuntimeError:  # no threads are started while the interpreter shuts down
            return
        if self.report is not None and self.report.errors:
            logger.warning(
                "The training set has images that cannot be used (%d of %d were checked). %s",
                self.report.num_images,
                len(self._dataset),
                " ".join(finding.format() for finding in self.report.errors),
            )


def _join(first: HeaderReport, second: HeaderReport) -> HeaderReport:
    kinds = [*first.images, *(kind for kind in second.images if kind not in first.images)]
    return HeaderReport(
        first.source,
        first.num_images + second.num_images,
        {kind: first.images.get(kind, []) + second.images.get(kind, []) for kind in kinds},
        {
            kind: (first.examples.get(kind, []) + second.examples.get(kind, []))[:MAX_EXAMPLES]
            for kind in kinds
        },
    )

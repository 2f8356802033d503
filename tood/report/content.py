"""What a report is about: the detections of each test set, and what is known of the run."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.dataset import DetectionDataset
from .calibration import Calibration, OperatingPoint, best_points, calibrate
from .coco import COCONumbers, compute_coco, effective_limit
from .confusion import confusion_matrix
from .detections import DetectionRows
from .matching import Matches, match_detections
from .metrics import MetricsLog
from .tide import ErrorSummary, summarize_errors


class EvaluatedSet:
    """Detections of a test set, and everything that the report says about them.

    Each part is computed when it is first asked for.

    Args:
        name: of the set.
        dataset: its ground truth.
        rows: all detections.
        max_dets_per_image: ``TEST.DETECTIONS_PER_IMAGE``; negative for all.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.
    """

    def __init__(
        self,
        name: str,
        dataset: DetectionDataset,
        rows: DetectionRows,
        max_dets_per_image: int = 100,
        apply_exif: bool = True,
    ) -> None:
        self.name = name
        self.dataset = dataset.ignore_outside_boxes()
        self.apply_exif = apply_exif
        self.limit = effective_limit(max_dets_per_image, rows)
        self.num_detections = len(rows)
        self._all_rows = rows
        self.rows = rows.limited(self.limit)

    @functools.cached_property
    def coco(self) -> COCONumbers:
        """COCO's numbers."""
        return compute_coco(self.dataset, self._all_rows, self.limit)

    @functools.cached_property
    def matches(self) -> Matches:
        """What each detection and each GT box is at an IoU of 0.5."""
        return match_detections(self.dataset, self.rows)

    @functools.cached_property
    def errors(self) -> ErrorSummary:
        """TIDE's errors."""
        return summarize_errors(self.dataset, self.rows, self.matches)

    @functools.cached_property
    def calibration(self) -> Calibration:
        """The reliability diagram."""
        return calibrate(self.rows, self.matches)

    @functools.cached_property
    def best_points(self) -> tuple[OperatingPoint, list[OperatingPoint]]:
        """The score threshold with the best F1: of all classes together, and of each class."""
        return best_points(self.dataset, self.rows, self.matches)

    @functools.cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """The confusion matrix (K + 1, K + 1) at the best threshold."""
        threshold = self.best_points[0].threshold
        return confusion_matrix(self.dataset, self.rows, self.matches, threshold)

    @functools.cached_property
    def num_objects(self) -> npt.NDArray[np.int64]:
        """GT boxes of each class (K,), crowd regions aside."""
        return self.dataset.num_objects_by_class


@dataclass(frozen=True)
class RunFacts:
    """What the report says about the run; all of it may be unknown.

    Attributes:
        title: of the page.
        metrics: what ``metrics.json`` says.
        best_metric: ``TEST.BEST_METRIC``.
        results: all numbers of the evaluation by name, such as "bbox_TTA/AP".
        facts: more for the summary, by what they are, such as the weights.
        config: the text of the config.
        versions: of the programs, by name.
    """

    title: str = "Detections"
    metrics: MetricsLog | None = None
    best_metric: str = "bbox/AP"
    results: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All of a report.

    Attributes:
        sets: the test sets.
        run: what is known of the run.
        path: where the report is written to.
    """

    sets: list[EvaluatedSet]
    run: RunFacts
    path: Path

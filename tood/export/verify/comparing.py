"""Comparison of a file's outputs with the model's predictions, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from tood_runtime.model_info import ModelInfo

from .file_checks import Arrays
from .images import VerificationBatch
from .matching import Detected, Limits, differences, match_by_iou, match_within
from .near_ties import TieRange, explain, possible_outcomes
from .reference import Reference, detect_in_raw, settings_of, to_network_pixels

# If more detections of an image have no counterpart, rounding is not the reason.
MAX_EXPLAINED = 20


@dataclass
class BatchComparison:
    """How a file's outputs for a batch differ from the model's.

    Attributes:
        batch: what both got.
        detections: number of the model's; of raw output, of the pairs of point and class above
            the model's threshold.
        unmatched: detections of model and file that have no counterpart within the limits and are
            no near ties. Of raw output, points beyond the limits.
        near_ties: number of detections that one of the two has because of a near tie.
        tied_images: number of images that have any.
        max_box: largest difference of a coordinate in pixels of the network's input.
        max_score: largest difference of a score.
        confident: number of confident detections of model and file; see :func:`compare_loosely`.
        confident_matched: how many of them have a counterpart.
        problems: sentences about outputs that cannot be compared.
    """

    batch: VerificationBatch
    detections: int = 0
    unmatched: int = 0
    near_ties: int = 0
    tied_images: int = 0
    max_box: float = 0.0
    max_score: float = 0.0
    confident: int = 0
    confident_matched: int = 0
    problems: list[str] = field(default_factory=list)

    def update_differences(
        self, expected: Detected, found: Detected, pairs: Sequence[tuple[int, int]]
    ) -> tuple[float, float]:
        """Note the largest differences of pairs, and return them."""
        boxes, scores = differences(expected, found)
        rows, columns = np.array(pairs, int).reshape(-1, 2).T
        box = float(boxes[rows, columns].max(initial=0))
        score = float(scores[rows, columns].max(initial=0))
        self.max_box, self.max_score = max(self.max_box, box), max(self.max_score, score)
        return box, score

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "images": [
                {"name": image.name, "size": list(image.size),
                 "original_size": list(image.original_size)}
                for image in self.batch.images
            ],
            "padded_size": list(self.batch.padded_size),
            **{
                name: value for name, value in vars(self).items() if name not in ("batch",)
            },
        }  # fmt: skip


def read_detections(outputs: Arrays, batch: VerificationBatch) -> list[Detected]:
    """The detections of a file for each image, in pixels of the network's input."""
    return [
        to_network_pixels(
            Detected(*(outputs[name][i, :count] for name in ("boxes", "scores", "labels"))),
            image.size,
            image.original_size,
        )
        for i, (count, image) in enumerate(zip(outputs["num_dets"], batch.images, strict=True))
    ]


def compare_detections(
    outputs: Arrays,
    reference: Reference,
    batch: VerificationBatch,
    model: nn.Module,
    limits: Limits,
) -> BatchComparison:
    """Match detections one to one, by class, box and score.

    Args:
        outputs: of the file.
        reference: of the model.
        batch: what both got.
        model: for its thresholds.
        limits: largest differences of a match.
    """
    result = BatchComparison(batch)
    found_in_images = read_detections(outputs, batch)
    for index, (expected, found) in enumerate(
        zip(reference.detections, found_in_images, strict=True)
    ):
        result.detections += len(expected.scores)
        pairs = match_within(expected, found, limits)
        largest = result.update_differences(expected, found, pairs)
        lost = set(range(len(expected.scores))) - {i for i, _ in pairs}
        extra = set(range(len(found.scores))) - {j for _, j in pairs}
        if 0 < len(lost) + len(extra) <= MAX_EXPLAINED:
            outcome = possible_outcomes(
                reference.levels(index),
                batch.images[index].size,
                settings_of(model),
                TieRange.from_differences(*largest),
            )
            tied = explain(expected, found, pairs, outcome, limits)
            near_ties = max(len(tied[0]), len(tied[1]))
            result.near_ties += near_ties
            result.tied_images += near_ties > 0
            lost, extra = lost - set(tied[0]), extra - set(tied[1])
        result.unmatched += len(lost) + len(extra)
        _add_differences_of_rest(result, expected, found, sorted(lost), sorted(extra))
    return result


def _add_differences_of_rest(
    result: BatchComparison, expected: Detected, found: Detected, lost: list[int], extra: list[int]
) -> None:
    """Show how far off detections beyond the limits are, where they overlap their counterpart."""
    expected, found = expected.take(lost), found.take(extra)
    result.update_differences(expected, found, match_by_iou(expected, found))


def compare_raw(
    outputs: Arrays,
    reference: Reference,
    batch: VerificationBatch,
    model: nn.Module,
    limits: Limits,
) -> BatchComparison:
    """Compare boxes and scores of all points, those in the padding too, element by element.

    The T-head keeps a box as it was before its alignment if that inverts it: a near tie where the
    aligned box has almost no width or height.
    """
    boxes, scores = reference.raw()
    result = BatchComparison(batch)
    result.detections = int((scores > model.test_score_thresh).sum())
    box_differences = np.abs(boxes.astype(float) - outputs["boxes"]).max(-1)  # (N, R)
    score_differences = np.abs(scores.astype(float) - outputs["scores"]).max(-1)
    beyond = (box_differences > limits.box) | (score_differences > limits.score)
    flat = np.minimum(_shorter_side(boxes), _shorter_side(outputs["boxes"])) <= 2 * limits.box
    tied = beyond & flat & (score_differences <= limits.score)
    result.near_ties = int(tied.sum())
    result.tied_images = int(tied.any(1).sum())
    result.unmatched = int((beyond & ~tied).sum())
    result.max_box = float(box_differences[~tied].max(initial=0))
    result.max_score = float(score_differences.max(initial=0))
    return result


def _shorter_side(boxes: np.ndarray) -> np.ndarray:
    return np.abs(boxes[..., 2:] - boxes[..., :2]).min(-1)


def compare_loosely(
    outputs: Arrays,
    reference: Reference,
    batch: VerificationBatch,
    model: nn.Module,
    info: ModelInfo,
) -> tuple[BatchComparison, list[tuple[Detected, Detected]]]:
    """Compare a file with smaller numbers; :func:`count_confident` completes it.

    Returns:
        The comparison, and for each image the detections of model and file.
    """
    if info.output == "raw":
        sizes = [image.size for image in batch.images]
        dense = reference.dense
        expected = detect_in_raw(model, *reference.raw(), dense, sizes)
        found = detect_in_raw(model, outputs["boxes"], outputs["scores"], dense, sizes)
    else:
        expected, found = reference.detections, read_detections(outputs, batch)
    result = BatchComparison(batch, detections=sum(len(item.scores) for item in expected))
    return result, list(zip(expected, found, strict=True))


def count_confident(
    result: BatchComparison, images: Sequence[tuple[Detected, Detected]], threshold: float
) -> None:
    """Count the confident detections of model and file that have a counterpart.

    A counterpart has the same class, an IoU of at least 0.5, and any score, so that no detection is
    lost because its score rounds to the other side of the threshold.
    """
    for expected, found in images:
        pairs = match_by_iou(expected, found)
        sure = [
            (i, j) for i, j in pairs
            if max(expected.scores[i], found.scores[j]) >= threshold
        ]  # fmt: skip
        result.update_differences(expected, found, sure)
        result.confident += int((expected.scores >= threshold).sum())
        result.confident += int((found.scores >= threshold).sum())
        for i, j in pairs:
            result.confident_matched += int(expected.scores[i] >= threshold)
            result.confident_matched += int(found.scores[j] >= threshold)

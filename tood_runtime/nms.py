"""From a file's outputs to the detections of an image; NMS for files without it inside.

The same as ``tood.modeling.postprocessing`` in NumPy. Shapes: **R** points over all levels, **K**
classes, **D** candidates or detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .model_info import ModelFileError, ModelInfo
from .preprocessing import round_up

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Candidates(NamedTuple):
    """Candidates or detections of one image.

    Attributes:
        boxes: (D, 4) float32, the corners x1, y1, x2, y2.
        scores: (D,) float32.
        classes: (D,) int64.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> "Candidates":
        """The rows that an array of indices or a mask selects."""
        return Candidates(self.boxes[rows], self.scores[rows], self.classes[rows])


def detections_of_image(
    outputs: Mapping[str, npt.NDArray[Any]],
    index: int,
    info: ModelInfo,
    *,
    input_size: tuple[int, int],
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    score_threshold: float | None,
) -> Candidates:
    """The detections of one image of a batch, whether or not the file has NMS inside.

    Args:
        outputs: of the file, by name.
        index: of the image.
        info: of the model.
        input_size: see :func:`detect_in_raw_output`.
        image_size: likewise.
        original_size: likewise.
        score_threshold: detections score more than this; None for the model's own threshold, which
            a file with NMS inside has applied, before centerness where there is one.

    Returns:
        Detections in pixels of the original image, best first.

    Raises:
        ModelFileError: see :func:`detect_in_raw_output`.
    """
    if info.output == "raw":
        return detect_in_raw_output(
            outputs["boxes"][index],
            outputs["scores"][index],
            info,
            input_size=input_size,
            image_size=image_size,
            original_size=original_size,
            score_threshold=info.score_threshold if score_threshold is None else score_threshold,
        )
    count = int(outputs["num_dets"][index])
    found = Candidates(*(outputs[name][index, :count] for name in ("boxes", "scores", "labels")))
    if score_threshold is None:
        return found
    return found.take(found.scores > np.float32(score_threshold))


def detect_in_raw_output(
    boxes: FloatArray,
    scores: FloatArray,
    info: ModelInfo,
    *,
    input_size: tuple[int, int],
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    score_threshold: float,
) -> Candidates:
    """Select, clip, apply NMS and scale: what a file with NMS inside does itself.

    Heads with centerness multiply it into the raw scores, so the threshold applies to the product.
    This gives the model's detections above the threshold all the same: what scores less can neither
    suppress nor replace them.

    Args:
        boxes: (R, 4) float32 in pixels of the network's input.
        scores: (R, K) float32.
        info: of the model.
        input_size: height and width of the batch with padding.
        image_size: height and width of the image without padding.
        original_size: height and width that detections refer to.
        score_threshold: detections score more than this.

    Returns:
        Detections in pixels of the original image, best first.

    Raises:
        ModelFileError: the file does not have the points that its metadata promises.
    """
    parts = []
    start = 0
    for points in points_per_level(input_size, info):
        level = slice(start, start + points)
        parts.append(_select(boxes[level], scores[level], score_threshold, info.topk_candidates))
        start += points
    if start != len(boxes):
        raise ModelFileError(
            f"The file gives {len(boxes)} boxes for {input_size[1]}x{input_size[0]} pixels, but "
            f"its strides {info.level_strides} mean {start}. Export it again."
        )
    found = Candidates(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    found = _clip_and_drop(found, image_size)
    limit = info.max_detections if info.max_detections >= 0 else None
    found = found.take(nms(*found, info.nms_threshold, limit))
    factors = [new / old for new, old in zip(original_size, image_size, strict=True)]
    scaled = found.boxes * np.array([factors[1], factors[0]] * 2, np.float32)
    return _clip_and_drop(found._replace(boxes=scaled), original_size)


def points_per_level(input_size: tuple[int, int], info: ModelInfo) -> list[int]:
    """Number of points of each level, one per cell of its feature map.

    Args:
        input_size: height and width of the batch with padding. The network pads it to
            ``info.size_divisor``.
        info: of the model.
    """
    height, width = (round_up(side, info.size_divisor) for side in input_size)
    return [-(-height // stride) * -(-width // stride) for stride in info.level_strides]


def _select(boxes: FloatArray, scores: FloatArray, threshold: float, topk: int) -> Candidates:
    """The best ``topk`` (point, class) pairs of one level that score more than ``threshold``."""
    points, classes = np.nonzero(scores > np.float32(threshold))
    found = scores[points, classes]
    if len(found) > topk:
        best = np.argsort(-found, kind="stable")[:topk]
        points, classes, found = points[best], classes[best], found[best]
    return Candidates(boxes[points], found, classes.astype(np.int64))


def _clip_and_drop(found: Candidates, size: Sequence[int]) -> Candidates:
    """Clip boxes to an image (height, width), and drop those without area and NaN."""
    height, width = size
    boxes = np.clip(found.boxes, 0, np.array([width, height] * 2, np.float32))
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return found._replace(boxes=boxes).take(has_area)


def nms(
    boxes: FloatArray,
    scores: FloatArray,
    classes: IntArray,
    iou_threshold: float,
    limit: int | None = None,
) -> npt.NDArray[np.int64]:
    """Greedy NMS within each class, as ``torchvision.ops.batched_nms``.

    Args:
        boxes: (D, 4) float32 with positive areas.
        scores: (D,) float32.
        classes: (D,) int64.
        iou_threshold: boxes of one class with a larger IoU suppress each other.
        limit: maximum number of boxes that are kept; None for all.

    Returns:
        Indices of the boxes that are kept, best first.
    """
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    remaining = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(remaining) and (limit is None or len(kept) < limit):
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        corners = np.maximum(boxes[best, :2], boxes[remaining, :2])
        sides = np.minimum(boxes[best, 2:], boxes[remaining, 2:]) - corners
        overlap = sides.clip(min=0).prod(axis=1)
        iou = overlap / (areas[best] + areas[remaining] - overlap)
        # In float64, because float32 rounds the threshold.
        suppressed = (classes[remaining] == classes[best]) & (
            iou.astype(np.float64) > iou_threshold
        )
        remaining = remaining[~suppressed]
    return np.array(kept, np.int64)

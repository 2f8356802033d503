"""From the outputs of a network to the detections of an image.

The same as ``tood.modeling.postprocessing`` in NumPy. Shapes: **R** points over all levels, **K**
classes, **D** candidates or detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .model_info import ModelFileError, ModelInfo
from .nms import Candidates, FloatArray, concatenate
from .prediction import OptionError, PredictionSettings
from .preprocessing import round_up
from .suppression import suppress


def require_possible(settings: PredictionSettings, info: ModelInfo) -> None:
    """Check options against what a file has fixed inside.

    Raises:
        OptionError: the file has NMS inside, and the options ask for another, or for more
            detections.
    """
    if info.output == "raw":
        return
    if settings.nms_threshold not in (None, info.nms_threshold) or (
        # With several views, this is about joining them.
        settings.nms != "per-class" and not settings.has_views
    ):
        raise OptionError(
            f"The file has NMS inside, within each class, with an IoU of {info.nms_threshold:g}, "
            "so nms and nms_threshold cannot be chosen any more. Export the model with --raw."
        )
    limit = info.max_detections
    if not settings.has_views and limit >= 0 and (settings.max_detections or 0) > limit:
        raise OptionError(
            f"max_detections {settings.max_detections} is more than the {limit} that the file "
            "gives. Export the model with --raw, or with a larger TEST.DETECTIONS_PER_IMAGE."
        )


def detections_of_image(
    outputs: Mapping[str, npt.NDArray[Any]],
    index: int,
    info: ModelInfo,
    *,
    input_size: tuple[int, int],
    image_size: tuple[int, int],
    original_size: tuple[int, int],
    settings: PredictionSettings | None = None,
) -> Candidates:
    """The detections of one image of a batch, whether or not the file has NMS inside.

    Args:
        outputs: of the file, by name.
        index: of the image.
        info: of the model.
        input_size: see :func:`raw_candidates`.
        image_size: likewise.
        original_size: height and width that detections refer to.
        settings: which detections are kept; None for those of the model's own threshold and limits,
            which a file with NMS inside has applied, before centerness where there is one.

    Returns:
        Detections in pixels of the original image, best first.

    Raises:
        ModelFileError: the outputs are not those that the metadata promises.
    """
    _validate_outputs(outputs, index, info)
    if info.output == "raw":
        settings = settings or PredictionSettings(info.score_threshold)
        candidates = raw_candidates(
            outputs["boxes"][index],
            outputs["scores"][index],
            info,
            input_size=input_size,
            image_size=image_size,
            score_threshold=settings.score_threshold,
            class_ids=settings.class_ids,
        )
        return finalize(
            candidates,
            settings,
            nms_threshold=info.nms_threshold,
            max_detections=info.max_detections,
            image_size=image_size,
            original_size=original_size,
        )
    count = int(outputs["num_dets"][index])
    boxes, scores, labels = (outputs[name][index, :count] for name in ("boxes", "scores", "labels"))
    found = Candidates(boxes, scores, labels)
    return found if settings is None else settings.select(found)


def _validate_outputs(outputs: Mapping[str, npt.NDArray[Any]], index: int, info: ModelInfo) -> None:
    """Check the outputs for one image. Labels beyond the names are classes without a name.

    Raises:
        ModelFileError: one has another type or shape.
    """
    boxes, scores = outputs["boxes"], outputs["scores"]
    possible = boxes.ndim == 3 and boxes.shape[0] > index and boxes.shape[2] == 4
    possible = possible and boxes.dtype.kind == scores.dtype.kind == "f"
    if info.output == "raw":
        possible = possible and scores.ndim == 3 and scores.shape[:2] == boxes.shape[:2]
    else:
        labels, counts = outputs["labels"], outputs["num_dets"]
        possible = possible and scores.shape == labels.shape == boxes.shape[:2]
        possible = possible and counts.shape == boxes.shape[:1]
        possible = possible and labels.dtype.kind == counts.dtype.kind == "i"
        possible = possible and 0 <= int(counts[index]) <= labels.shape[1]
        possible = possible and bool((labels[index, : int(counts[index])] >= 0).all())
    if not possible:
        shapes = ", ".join(f"{name} {list(x.shape)} {x.dtype}" for name, x in outputs.items())
        raise ModelFileError(
            f"The file gives other outputs than its metadata promises: {shapes}. Export it again."
        )


def raw_candidates(
    boxes: FloatArray,
    scores: FloatArray,
    info: ModelInfo,
    *,
    input_size: tuple[int, int],
    image_size: tuple[int, int],
    score_threshold: float,
    class_ids: Sequence[int] | None = None,
) -> Candidates:
    """The best (point, class) pairs of each level: what a file with NMS inside selects itself.

    Heads with centerness multiply it into the raw scores, so the threshold applies to the product.
    This gives the model's detections above the threshold all the same: what scores less can neither
    suppress nor replace them.

    Args:
        boxes: (R, 4) float32 in pixels of the network's input.
        scores: (R, K) float32.
        info: of the model.
        input_size: height and width of the batch with padding.
        image_size: height and width of the image without padding.
        score_threshold: candidates score more than this.
        class_ids: those of these classes only; None for all.

    Returns:
        Candidates in pixels of the network's input.

    Raises:
        ModelFileError: the file does not have the points that its metadata promises.
    """
    columns = np.arange(scores.shape[1]) if class_ids is None else np.array(class_ids, np.int64)
    parts = []
    start = 0
    for points in points_per_level(input_size, info):
        level = slice(start, start + points)
        parts.append(
            _select(boxes[level], scores[level], columns, score_threshold, info.topk_candidates)
        )
        start += points
    if start != len(boxes):
        raise ModelFileError(
            f"The file gives {len(boxes)} boxes for {input_size[1]}x{input_size[0]} pixels, but "
            f"its strides {info.level_strides} mean {start}. Export it again."
        )
    return concatenate(parts)


def finalize(
    candidates: Candidates,
    settings: PredictionSettings,
    *,
    nms_threshold: float,
    max_detections: int,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
) -> Candidates:
    """Turn candidates of one image into detections: clip, drop empty boxes, NMS, scale.

    Args:
        candidates: in pixels of the network's input, in any order.
        settings: which detections are kept.
        nms_threshold: the model's, where the settings have none.
        max_detections: likewise; negative for all.
        image_size: height and width of the image that the network saw, without padding.
        original_size: height and width that detections refer to.

    Returns:
        Detections in pixels of the original image, best first.
    """
    found = suppress(
        [_clip_and_drop(candidates, image_size)],
        settings.nms,
        iou_threshold=settings.iou_threshold(nms_threshold),
        score_threshold=settings.score_threshold,
        limit=settings.limit(max_detections),
    )
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


def _select(
    boxes: FloatArray,
    scores: FloatArray,
    columns: npt.NDArray[np.int64],
    threshold: float,
    topk: int,
) -> Candidates:
    """The best ``topk`` pairs of a point and a class that score more than a threshold."""
    points, classes = np.nonzero(scores[:, columns] > np.float32(threshold))
    classes = columns[classes]
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

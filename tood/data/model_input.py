"""How a config brings images and boxes to the network: sizes after resizing, and anchor points."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone

from ..config.architecture import has_tood
from ..modeling.box_ops import INSIDE_MARGIN
from .dataset import DetectionDataset

# Assigners whose positives are points inside of the GT box by more than INSIDE_MARGIN.
_POINT_ASSIGNERS = ("ATSSAssigner", "TaskAlignedAssigner")
# Sizes that are checked of a range of sizes to train at.
_SIZES_OF_A_RANGE = 11

Sizes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PointGrid:
    """The anchor points of all levels: ``(i + offset) * stride`` in x and in y.

    Attributes:
        strides: of the levels, in pixels.
        anchor_sizes: side of the anchor of each level, in pixels.
        offset: ``MODEL.ANCHOR_GENERATOR.OFFSET``.
        size_divisor: images are padded to multiples of it.
        min_gt_size: ``MODEL.TOOD.ASSIGNERS.TAL.MIN_GT_SIZE``.
    """

    strides: tuple[int, ...]
    anchor_sizes: tuple[float, ...]
    offset: float = 0.0
    size_divisor: int = 1
    min_gt_size: float = 0.0


@dataclass(frozen=True)
class ModelInput:
    """What a config says about the input of the network.

    Attributes:
        train_sizes: shorter sides that training resizes to; of a range some, both ends included.
        max_train_size: limit of the longer side.
        test_size: shorter side in evaluation; 0 does not resize.
        max_test_size: limit of the longer side.
        flip: ``INPUT.RANDOM_FLIP``: "horizontal", "vertical" or "none".
        grid: the anchor points, if positives have to contain one; else None.
        detections_per_image: ``TEST.DETECTIONS_PER_IMAGE``.
        apply_exif: ``INPUT.APPLY_EXIF_ORIENTATION``.
    """

    train_sizes: tuple[int, ...] = (800,)
    max_train_size: int = 1333
    test_size: int = 800
    max_test_size: int = 1333
    flip: str = "horizontal"
    grid: PointGrid | None = None
    detections_per_image: int = 100
    apply_exif: bool = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ModelInput":
        """Read a config; builds its backbone, whose strides no key has."""
        sizes = cfg.INPUT.MIN_SIZE_TRAIN
        sizes = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
            sizes = np.linspace(min(sizes), max(sizes), _SIZES_OF_A_RANGE).round()
        return cls(
            train_sizes=tuple(sorted({int(size) for size in sizes})),
            max_train_size=cfg.INPUT.MAX_SIZE_TRAIN,
            test_size=cfg.INPUT.MIN_SIZE_TEST,
            max_test_size=cfg.INPUT.MAX_SIZE_TEST,
            flip=cfg.INPUT.RANDOM_FLIP,
            grid=_point_grid(cfg),
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            apply_exif=cfg.INPUT.APPLY_EXIF_ORIENTATION,
        )


def _point_grid(cfg: CfgNode) -> PointGrid | None:
    if not has_tood(cfg):
        return None
    node = cfg.MODEL.TOOD
    tal = node.ASSIGNERS.TAL
    if node.ALIGNED.ASSIGNER not in _POINT_ASSIGNERS:
        return None
    aligned = node.ALIGNED.ASSIGNER == "TaskAlignedAssigner"
    if aligned and tal.MIN_POSITIVES:
        return None  # every object gets positives
    backbone = build_backbone(cfg)
    shapes = backbone.output_shape()
    strides = tuple(int(shapes[name].stride) for name in node.IN_FEATURES)
    sizes = [float(level[0]) for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES]
    return PointGrid(
        strides=strides,
        anchor_sizes=tuple(sizes * len(strides) if len(sizes) == 1 else sizes),
        offset=float(cfg.MODEL.ANCHOR_GENERATOR.OFFSET),
        size_divisor=int(backbone.size_divisibility),
        min_gt_size=float(tal.MIN_GT_SIZE) if aligned else 0.0,
    )


def resized_sizes(
    heights: npt.ArrayLike, widths: npt.ArrayLike, min_size: int, max_size: int
) -> tuple[Sizes, Sizes]:
    """Return heights and widths (N,) after `tood.data.transforms.ResizeShortestEdge`.

    Args:
        heights: (N,) pixels.
        widths: (N,) pixels.
        min_size: of the shorter side; 0 does not resize.
        max_size: limit of the longer side.
    """
    heights, widths = np.asarray(heights, np.int64), np.asarray(widths, np.int64)
    if min_size == 0:
        return heights, widths
    # In detectron2's order of operations, for equal rounding.
    scale = min_size * 1.0 / np.minimum(heights, widths)
    new_heights = np.where(heights < widths, min_size, scale * heights)
    new_widths = np.where(heights < widths, scale * widths, min_size)
    longer = np.maximum(new_heights, new_widths)
    scale = np.where(longer > max_size, max_size * 1.0 / longer, 1.0)
    return (
        np.maximum(1, (new_heights * scale + 0.5).astype(np.int64)),
        np.maximum(1, (new_widths * scale + 0.5).astype(np.int64)),
    )


def resized_boxes(
    dataset: DetectionDataset, heights: Sizes, widths: Sizes, flip: str = "none"
) -> npt.NDArray[np.float32]:
    """Return the boxes (M, 4) as (x1, y1, x2, y2) in resized images, clipped to them.

    Args:
        dataset: with N images and M boxes.
        heights: (N,) of the resized images.
        widths: (N,) of the resized images.
        flip: "horizontal", "vertical" or "none".
    """
    index = dataset.image_index
    # float32 first, as in detectron2.
    boxes = dataset.boxes.astype(np.float32)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).astype(np.float64)
    corners[:, 0::2] *= (widths * 1.0 / dataset.widths)[index, None]
    corners[:, 1::2] *= (heights * 1.0 / dataset.heights)[index, None]
    if flip == "horizontal":
        corners[:, 0::2] = widths[index, None] - corners[:, 2::-2]
    elif flip == "vertical":
        corners[:, 1::2] = heights[index, None] - corners[:, 3::-2]
    limits = np.stack([widths, heights, widths, heights], 1)[index]
    return np.minimum(corners.clip(min=0), limits).astype(np.float32)


def contains_point(
    boxes: npt.NDArray[np.float32],
    heights: npt.NDArray[np.int64],
    widths: npt.NDArray[np.int64],
    grid: PointGrid,
) -> npt.NDArray[np.bool_]:
    """Say which boxes an anchor point lies inside of, by more than 0.01 px to each side.

    Only such a point can become a positive, in ATSS and in task alignment learning. In float32,
    like the assigners.

    Args:
        boxes: (M, 4) of :func:`resized_boxes`.
        heights: (M,) of the image of each box, resized.
        widths: (M,) likewise.
        grid: the points.

    Returns:
        (M,) bool.
    """
    if grid.min_gt_size:
        half = np.maximum(boxes[:, 2:] - boxes[:, :2], np.float32(grid.min_gt_size)) / 2
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        boxes = np.concatenate([centers - half, centers + half], 1)
    found = np.zeros(len(boxes), bool)
    for stride in grid.strides:
        inside = [
            _has_coordinate(boxes[:, axis], boxes[:, axis + 2], sides, stride, grid)
            for axis, sides in ((0, widths), (1, heights))
        ]
        found |= inside[0] & inside[1]
    return found


def _has_coordinate(
    low: npt.NDArray[np.float32],
    high: npt.NDArray[np.float32],
    sides: npt.NDArray[np.int64],
    stride: int,
    grid: PointGrid,
) -> npt.NDArray[np.bool_]:
    """Whether one of a level's coordinates lies between ``low`` and ``high`` (M,)."""
    padded = -(-sides // grid.size_divisor) * grid.size_divisor
    last = -(-padded // stride) - 1
    nearest = np.floor(low.astype(np.float64) / stride - grid.offset).astype(np.int64)
    margin = np.float32(INSIDE_MARGIN)
    found = np.zeros(len(low), bool)
    # The first one inside is one of these; rounding decides which.
    for step in range(4):
        index = np.clip(nearest - 1 + step, 0, last)
        coordinate = ((index + grid.offset) * stride).astype(np.float32)
        found |= (coordinate - low > margin) & (high - coordinate > margin)
    return found

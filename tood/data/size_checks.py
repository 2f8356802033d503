"""Checks of images and boxes at the sizes at which a model sees them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .box_checks import describe_box, find_boxes, find_images
from .dataset import DetectionDataset
from .findings import Finding, FindingKind
from .model_input import ModelInput, contains_point, resized_boxes, resized_sizes

# Areas, in pixels, that divide small from medium and medium from large objects (COCO).
AREA_LIMITS = (32**2, 96**2)
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# Limits of the histogram's bins, in pixels: 2, 2.8, 4, ..., 1448.
HISTOGRAM_LIMITS = tuple(float(2 ** (k / 2)) for k in range(2, 22))

NO_POINT = FindingKind(
    "no-anchor-point",
    "warning",
    "objects that contain no anchor point at any size to train at, so they never get a positive",
    "Train at a larger INPUT.MIN_SIZE_TRAIN, or set MODEL.TOOD.ASSIGNERS.TAL.MIN_POSITIVES or "
    "MIN_GT_SIZE.",
)
THIN_BOXES = FindingKind(
    "thin-boxes",
    "warning",
    "boxes with a side below 1 pixel at the largest size",
    "Train at a larger INPUT.MIN_SIZE_TRAIN, or cut the images into tiles.",
)
MANY_OBJECTS = FindingKind(
    "many-objects",
    "warning",
    "images with more objects than TEST.DETECTIONS_PER_IMAGE",
    "Those beyond it cannot be found. Set TEST.DETECTIONS_PER_IMAGE to more than the largest "
    "number.",
)


@dataclass(frozen=True)
class SizeSummary:
    """Sizes of the objects of a dataset at one input size; crowds are left out.

    Attributes:
        name: of the input size, such as "test, 800 px".
        num_objects: how many objects.
        small: how many have an area below 32^2 pixels of the input.
        medium: how many have an area below 96^2.
        large: the others.
        percentiles: square roots of areas in pixels, at :data:`PERCENTILES`.
        histogram: how many objects have a square root of the area between two of
            :data:`HISTOGRAM_LIMITS`; the first bin is below the first limit, the last above the
            last.
        per_level: stride -> how many have a size nearest to the anchors of this level.
        without_point: how many contain no anchor point; None where it does not matter.
        without_point_flipped: how many contain none, in the image and in the flipped image.
    """

    name: str
    num_objects: int
    small: int
    medium: int
    large: int
    percentiles: tuple[float, ...]
    histogram: tuple[int, ...]
    per_level: dict[int, int]
    without_point: int | None
    without_point_flipped: int | None


def summarize_sizes(
    dataset: DetectionDataset, model_input: ModelInput, is_train: bool
) -> list[SizeSummary]:
    """Summarize object sizes at the smallest and largest size to train at, or at the test size."""
    if not is_train:
        sizes = {f"{model_input.test_size} px": (model_input.test_size, model_input.max_test_size)}
    else:
        sizes = {
            f"{size} px": (size, model_input.max_train_size)
            for size in (model_input.train_sizes[0], model_input.train_sizes[-1])
        }
    return [
        _summarize(dataset, model_input, name, limits, is_train) for name, limits in sizes.items()
    ]


def _summarize(
    dataset: DetectionDataset,
    model_input: ModelInput,
    name: str,
    limits: tuple[int, int],
    is_train: bool,
) -> SizeSummary:
    heights, widths = resized_sizes(dataset.heights, dataset.widths, *limits)
    objects = dataset.is_object
    boxes = resized_boxes(dataset, heights, widths)[objects]
    areas = np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=1)
    small, medium = ((areas < limit).sum() for limit in AREA_LIMITS)
    sides = np.sqrt(areas)
    percentiles = np.percentile(sides, PERCENTILES) if len(sides) else []
    bins = [0.0, *HISTOGRAM_LIMITS, np.inf]
    grid = model_input.grid
    per_level: dict[int, int] = {}
    without = flipped = None
    if grid is not None:
        distances = np.abs(np.log(np.maximum(sides, 1e-3))[:, None] - np.log(grid.anchor_sizes))
        counts = np.bincount(distances.argmin(1), minlength=len(grid.strides))
        per_level = dict(zip(grid.strides, counts.tolist(), strict=True))
        flips = _flips(model_input) if is_train else ["none"]
        reached = [
            points_in_objects(dataset, model_input, heights, widths, flip)[objects]
            for flip in flips
        ]
        without = int((~reached[0]).sum())
        flipped = int((~np.logical_or.reduce(reached)).sum())
    return SizeSummary(
        name=name,
        num_objects=len(areas),
        small=int(small),
        medium=int(medium - small),
        large=int(len(areas) - medium),
        percentiles=tuple(float(value) for value in percentiles),
        histogram=tuple(np.histogram(sides, bins)[0].tolist()),
        per_level=per_level,
        without_point=without,
        without_point_flipped=flipped,
    )


def _flips(model_input: ModelInput) -> list[str]:
    return ["none"] + ([] if model_input.flip == "none" else [model_input.flip])


def points_in_objects(
    dataset: DetectionDataset,
    model_input: ModelInput,
    heights: npt.NDArray[np.int64],
    widths: npt.NDArray[np.int64],
    flip: str = "none",
) -> npt.NDArray[np.bool_]:
    """(M,) which boxes contain an anchor point in images resized to ``heights`` and ``widths``."""
    if model_input.grid is None:
        return np.ones(dataset.num_boxes, bool)
    index = dataset.image_index
    boxes = resized_boxes(dataset, heights, widths, flip)
    return contains_point(boxes, heights[index], widths[index], model_input.grid)


def check_sizes(
    dataset: DetectionDataset, model_input: ModelInput, is_train: bool
) -> Iterable[Finding]:
    """Return what is too thin, too small or too much for a model."""
    limits = [(model_input.test_size, model_input.max_test_size)]
    if is_train:
        limits = [(size, model_input.max_train_size) for size in model_input.train_sizes]
    sizes = [resized_sizes(dataset.heights, dataset.widths, *limit) for limit in limits]
    objects = dataset.is_object
    boxes = resized_boxes(dataset, *sizes[-1])
    thin = objects & ((boxes[:, 2:] - boxes[:, :2]) < 1).any(1)
    yield from find_boxes(THIN_BOXES, dataset, np.flatnonzero(thin))
    if is_train:
        without = _unreached(dataset, model_input, sizes, np.flatnonzero(objects & ~thin))

        def describe(row: int) -> str:
            width, height = boxes[row, 2:] - boxes[row, :2]
            return f"{describe_box(dataset, row)} ({width:.1f}x{height:.1f} after resizing)"

        yield from find_boxes(NO_POINT, dataset, without, describe)
    most = model_input.detections_per_image
    if most >= 0:
        counted = np.zeros(dataset.num_boxes + 1, np.int64)
        counted[1:] = np.cumsum(~dataset.ignore_outside_boxes().is_crowd)
        counts = np.diff(counted[dataset.offsets])
        yield from find_images(
            MANY_OBJECTS, dataset, counts > most, lambda index: f" ({counts[index]})"
        )


def _unreached(
    dataset: DetectionDataset,
    model_input: ModelInput,
    sizes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Rows of the boxes that contain no anchor point at any of the sizes, flipped or not."""
    for heights, widths in sizes:
        for flip in _flips(model_input):
            # Most contain one at the first size, so only the others are looked at again.
            keep = np.zeros(dataset.num_boxes, bool)
            keep[rows] = True
            part = dataset.select_boxes(keep)
            rows = rows[~points_in_objects(part, model_input, heights, widths, flip)]
    return rows

"""What hypothesis draws: boxes, scenes for assigners, and numbers for losses.

Everything that decides between cases (sizes, ground truths, thresholds) is drawn and shrinks. Bulk
numbers, such as the predictions of all points, come from a drawn seed, which is much faster.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from tests.helpers import STRIDES, square_anchors
from tood.modeling.structures import AssignerInput

# Coordinates are multiples of this (pixels) where a test asks for exact results: float32 holds
# their sums, differences and products without rounding.
GRID = 1 / 8

seeds = st.integers(0, 2**31 - 1)


def fewer_examples(divisor: int) -> settings:
    """Settings of a test whose examples take so many times longer than others."""
    return settings(max_examples=max(settings().max_examples // divisor, 3))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Float32 from [low, high)."""
    return torch.rand(shape, generator=generator(seed)) * (high - low) + low


def floats(low: float, high: float, **options: bool) -> st.SearchStrategy[float]:
    """Float32 in [low, high], both of which are rounded to it."""
    low, high = float(np.float32(low)), float(np.float32(high))
    return st.floats(low, high, width=32, **options)


def tensors(
    shape: tuple[int, ...] | st.SearchStrategy, elements: st.SearchStrategy[float]
) -> st.SearchStrategy[Tensor]:
    """Float32 tensors, each element drawn."""
    return arrays.arrays(np.float32, shape, elements=elements).map(torch.from_numpy)


def any_boxes(count: int, reach: float) -> st.SearchStrategy[Tensor]:
    """(count, 4) boxes with coordinates up to ``reach``, also empty and inverted ones."""
    return tensors((count, 4), floats(-reach, reach))


@st.composite
def grid_boxes(draw, min_count=0, max_count=5, low=-32, high=160, smallest=1 / 8, largest=128):
    """(M, 4) boxes on the grid, with sides of at least ``smallest`` pixels."""

    def on_grid(start: float, end: float) -> st.SearchStrategy[float]:
        return st.integers(round(start / GRID), round(end / GRID)).map(lambda x: x * GRID)

    corner, side = on_grid(low, high), on_grid(smallest, largest)
    rows = draw(
        st.lists(st.tuples(corner, corner, side, side), min_size=min_count, max_size=max_count)
    )
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


@dataclass(frozen=True)
class Scene:
    """One image for an assigner: its points with predictions, and its ground truth."""

    inputs: AssignerInput
    gt_boxes: Tensor
    gt_classes: Tensor

    def select_gt(self, idxs: Tensor) -> "Scene":
        return replace(self, gt_boxes=self.gt_boxes[idxs], gt_classes=self.gt_classes[idxs])

    def add_gt(self, boxes: Tensor, classes: Tensor) -> "Scene":
        return replace(
            self,
            gt_boxes=torch.cat([self.gt_boxes, boxes]),
            gt_classes=torch.cat([self.gt_classes, classes]),
        )

    def select_points(self, order: Tensor) -> "Scene":
        """Another order of the points; levels must stay together."""
        x = self.inputs
        inputs = AssignerInput(
            *(v[order] for v in (x.scores, x.boxes, x.anchors, x.centers, x.strides)),
            x.num_anchors_per_level,
        )
        return replace(self, inputs=inputs)

    def scale(self, factor: float) -> "Scene":
        """All lengths times a factor."""
        x = self.inputs
        inputs = replace(
            x,
            boxes=x.boxes * factor,
            anchors=x.anchors * factor,
            centers=x.centers * factor,
            strides=x.strides * factor,
        )
        return replace(self, inputs=inputs, gt_boxes=self.gt_boxes * factor)


NUM_CLASSES = 3
# Of the finest map. A level has half of the one before, at least one cell.
FINEST_SHAPES = [(8, 8), (12, 16), (16, 9), (5, 1), (1, 1)]


def image_boxes(seed: int, count: int, height: float, width: float) -> Tensor:
    """(count, 4) boxes on the grid around an image, with sides from 2 to 128 pixels."""
    g = generator(seed)
    size = torch.tensor([width, height])
    centers = (torch.rand(count, 2, generator=g) * 1.2 - 0.1) * size
    half = 2 ** (torch.rand(count, 2, generator=g) * 6)
    boxes = torch.cat([centers - half, centers + half], dim=1)
    return (boxes / GRID).round() * GRID


@st.composite
def scenes(draw, min_gts=0, max_gts=8, *, distinct=False):
    """Five levels of points with random predictions, and ground truths on the grid.

    Args:
        draw: of hypothesis.
        min_gts: number of ground truths.
        max_gts: likewise.
        distinct: move ground truths off the grid by less than 1/16 pixel, all by different amounts,
            so that neither IoUs nor areas nor distances tie.
    """
    rows, columns = draw(st.sampled_from(FINEST_SHAPES))
    shapes = [(max(rows >> i, 1), max(columns >> i, 1)) for i in range(5)]
    half_cell, seed = draw(st.booleans()), draw(seeds)
    levels = [
        level + half_cell * stride / 2
        for level, stride in zip(square_anchors(shapes), STRIDES, strict=True)
    ]
    inputs = AssignerInput.from_anchors(levels, STRIDES)
    scores, boxes = predictions(seed, inputs.centers, inputs.strides)
    # Most ground truths are like those of images, some are drawn to be difficult.
    difficult = draw(grid_boxes(0, min(max_gts, 2)))
    least = max(min_gts - len(difficult), 0)
    count = draw(st.integers(least, max(max_gts - len(difficult), least)))
    gt_boxes = torch.cat([image_boxes(seed, count, rows * 8, columns * 8), difficult])
    gt_classes = torch.randint(NUM_CLASSES, (len(gt_boxes),), generator=generator(seed))
    if distinct:
        gt_boxes = gt_boxes + uniform(seed + 1, len(gt_boxes), 4, high=GRID / 2)
    return Scene(replace(inputs, scores=scores, boxes=boxes), gt_boxes, gt_classes)


def predictions(seed: int, points: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (R, K) and boxes (R, 4) around the points, some of them inverted."""
    g = generator(seed)
    scores = torch.rand(len(points), NUM_CLASSES, generator=g)
    reach = strides[:, None] * (torch.rand(len(points), 4, generator=g) * 6 - 0.5)
    return scores, torch.cat([points - reach[:, :2], points + reach[:, 2:]], dim=1)

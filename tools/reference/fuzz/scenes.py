"""Random scenes for :mod:`tools.reference.fuzz`: levels, images and objects, each from a seed."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tood.modeling.box_ops import box_area
from tood.modeling.structures import AssignerInput, GroundTruth
from tools import STRIDES, level_shapes

# The backbone's divisor of sizes: an image ends at its own size rounded up to it.
SIZE_DIVISOR = 32
# How the boxes of a scene are drawn, and how often. "grid" gives ties, which real annotations with
# integer coordinates have too.
BOX_KINDS = {
    "plain": 10, "integer": 2, "grid": 2, "duplicates": 2, "tiny": 1, "huge": 1, "outside": 1,
    "degenerate": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A batch without its images.

    Attributes:
        strides: of the levels, in pixels, finest first.
        image_sizes: (height, width) of each image.
        num_classes: K.
        ground_truth: of each image.
        box_kinds: how the boxes of each image were drawn.
    """

    strides: list[int]
    image_sizes: list[tuple[int, int]]
    num_classes: int
    ground_truth: list[GroundTruth]
    box_kinds: list[str]

    @property
    def level_shapes(self) -> list[tuple[int, int]]:
        """(Hi, Wi) of each level of the padded batch."""
        height, width = (max(sides) for sides in zip(*self.padded_sizes, strict=True))
        return level_shapes(height, width, self.strides)

    @property
    def padded_sizes(self) -> list[tuple[int, int]]:
        """Each image's own size, rounded up to the divisor."""
        return [(_round_up(height), _round_up(width)) for height, width in self.image_sizes]

    @property
    def has_ties(self) -> bool:
        """Whether equal distances and IoUs are likely."""
        return bool({"integer", "grid", "duplicates"} & set(self.box_kinds))

    def anchors(self) -> list[Tensor]:
        """Per level anchors (Hi * Wi, 4); see :func:`square_anchors`."""
        return square_anchors(self.level_shapes, self.strides)

    def points_inside(self, height: int, width: int) -> AssignerInput:
        """The points whose cells start in the top-left ``height`` x ``width`` pixels."""
        levels = []
        for level, stride in zip(self.anchors(), self.strides, strict=True):
            corners = level[:, :2] + 4 * stride
            levels.append(level[(corners < torch.tensor([width, height])).all(1)])
        return AssignerInput.from_anchors(levels, self.strides)

    def without(self, dropped: Sequence[Collection[int]]) -> "Scene":
        """The same without some objects of each image, by their indices."""
        kept = []
        for gt, indices in zip(self.ground_truth, dropped, strict=True):
            rows = [i for i in range(len(gt.boxes)) if i not in indices]
            kept.append(GroundTruth(gt.boxes[rows], gt.classes[rows], gt.areas[rows]))
        return replace(self, ground_truth=kept)

    def describe(self) -> dict[str, object]:
        """What a stored case says about it."""
        counts = [len(gt.boxes) for gt in self.ground_truth]
        return {
            "strides": self.strides, "image_sizes": self.image_sizes, "classes": self.num_classes,
            "objects": counts, "boxes": self.box_kinds,
        }  # fmt: skip


def square_anchors(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int] = STRIDES
) -> list[Tensor]:
    """Anchors (Hi * Wi, 4) of 8 strides, centered on the cells' top left corners.

    Args:
        shapes: (Hi, Wi) of each level.
        strides: of each level, in pixels.
    """
    levels = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = torch.stack([x, y], dim=-1).reshape(-1, 2) * float(stride)
        levels.append(torch.cat([centers - 4 * stride, centers + 4 * stride], dim=1))
    return levels


def random_scene(
    generator: torch.Generator, max_images: int, max_objects: int, max_side: int
) -> Scene:
    """Draw a scene.

    Args:
        generator: decides everything.
        max_images: in the batch.
        max_objects: in an image; one image in ten has none, and few have close to the maximum.
        max_side: of an image, in pixels.
    """
    num_levels = _integer(generator, 1, 6)
    first = _integer(generator, 2, 4)
    exponents = [first + i for i in range(num_levels)]
    if num_levels > 2 and _integer(generator, 0, 4) == 0:
        del exponents[_integer(generator, 1, num_levels - 2)]  # a level is left out
    num_classes = int(_log_uniform(generator, 1, 1203.99))
    sizes, truth, kinds = [], [], []
    for _ in range(_integer(generator, 1, max_images)):
        size = (_integer(generator, 16, max_side), _integer(generator, 16, max_side))
        count = 0
        if _integer(generator, 0, 9):
            count = int(_log_uniform(generator, 1, max_objects + 0.99))
        kind = _choose_kind(generator)
        boxes = _draw_boxes(generator, kind, count, size)
        classes = torch.randint(num_classes, (count,), generator=generator)
        sizes.append(size)
        truth.append(GroundTruth(boxes, classes, box_area(boxes)))
        kinds.append(kind)
    return Scene([2**exponent for exponent in exponents], sizes, num_classes, truth, kinds)


def _draw_boxes(generator: torch.Generator, kind: str, count: int, size: tuple[int, int]) -> Tensor:
    """Boxes (count, 4) of a kind of :data:`BOX_KINDS`, in an image of a size."""
    height, width = size
    limits = torch.tensor([width, height], dtype=torch.get_default_dtype())
    low, high = {"tiny": (0.02, 2.0), "huge": (200.0, 2000.0)}.get(kind, (2.0, 1.2 * max(size)))
    uniform = torch.rand(count, 4, generator=generator)
    sides = low * (high / low) ** uniform[:, :2]
    centers = uniform[:, 2:] * limits
    boxes = torch.cat([centers - sides / 2, centers + sides / 2], dim=1)
    if kind == "plain":  # as a data loader delivers them
        boxes = torch.minimum(boxes.clamp(min=0), limits.repeat(2))
    elif kind == "integer":
        boxes = boxes.round()
    elif kind == "grid":
        boxes = (boxes / 16).round() * 16
    elif kind == "duplicates" and count:
        boxes = boxes[torch.randint(-(-count // 3), (count,), generator=generator)]
    elif kind == "outside":
        boxes = boxes + 3 * limits.repeat(2)
    elif kind == "degenerate":
        flat = torch.rand(count, generator=generator) < 0.5
        boxes[flat, 2] = boxes[flat, 0]
    return boxes


def _choose_kind(generator: torch.Generator) -> str:
    weights = torch.tensor([float(weight) for weight in BOX_KINDS.values()])
    return list(BOX_KINDS)[int(torch.multinomial(weights, 1, generator=generator))]


def _integer(generator: torch.Generator, low: int, high: int) -> int:
    """A random integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low * math.exp(float(torch.rand((), generator=generator)) * math.log(high / low))


def _round_up(side: int) -> int:
    return -(-side // SIZE_DIVISOR) * SIZE_DIVISOR

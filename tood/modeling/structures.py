"""The records that the parts of a dense detector exchange.

All hold tensors only. Boxes are (x1, y1, x2, y2) and points (x, y), in **pixels** of the network's
input unless said otherwise.

Shapes: **N** images, **L** levels, **Hi, Wi** the map of level i, **R** points over all levels,
**M** ground truths of one image, **K** classes, **D** detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .box_ops import box_centers

# Values of Assignment.matched_idxs besides GT indices: background, and ignored (in no loss).
UNMATCHED, IGNORED = -1, -2
# In DenseTargets.gt_classes: the point takes part in no loss. Background is K.
IGNORED_CLASS = -1


@dataclass(frozen=True)
class AnchorGrid:
    """One anchor per cell of a batch's feature maps, level by level, row by row.

    Attributes:
        anchors: (R, 4).
        centers: (R, 2) of the anchors; the *points* of the paper.
        strides: (R, 1), of each point's level.
        level_shapes: (Hi, Wi) of each level.
        level_strides: stride of each level.
    """

    anchors: Tensor
    centers: Tensor
    strides: Tensor
    level_shapes: list[tuple[int, int]]
    level_strides: list[int]

    @classmethod
    def from_levels(
        cls, anchors: list[Tensor], shapes: list[tuple[int, int]], strides: list[int]
    ) -> "AnchorGrid":
        """Join the anchors (Hi * Wi, 4) of all levels.

        Args:
            anchors: per level, row by row.
            shapes: (Hi, Wi) of each level.
            strides: of each level, in pixels.
        """
        joined = torch.cat(anchors)
        per_point = [
            torch.full_like(level[:, :1], stride)
            for level, stride in zip(anchors, strides, strict=True)
        ]
        return cls(joined, box_centers(joined), torch.cat(per_point), shapes, strides)

    def indices_inside(self, height: int, width: int) -> tuple[Tensor, list[int]]:
        """Indices of the points whose cells start in the top-left ``height`` x ``width`` pixels.

        Computed from sizes alone, so it never synchronizes with the device.

        Returns:
            (R',) sorted int64 indices, and how many of them each level has.
        """
        idxs, counts, start = [], [], 0
        for (rows, columns), stride in zip(self.level_shapes, self.level_strides, strict=True):
            rows_inside = min(-(-height // stride), rows)
            columns_inside = min(-(-width // stride), columns)
            row = torch.arange(rows_inside, device=self.anchors.device)[:, None] * columns
            column = torch.arange(columns_inside, device=self.anchors.device)
            idxs.append((start + row + column).flatten())
            counts.append(rows_inside * columns_inside)
            start += rows * columns
        return torch.cat(idxs), counts


class FlatPredictions(NamedTuple):
    """A head's predictions for a batch, over all levels.

    Attributes:
        scores: (N, R, K) probabilities.
        boxes: (N, R, 4).
        centerness: (N, R, 1) probabilities, from heads that predict it.
    """

    scores: Tensor
    boxes: Tensor
    centerness: Tensor | None = None

    @property
    def ranking_scores(self) -> Tensor:
        """(N, R, K) what detections are ranked by: scores, times centerness where there is one."""
        return self.scores if self.centerness is None else self.scores * self.centerness


class DensePredictions(NamedTuple):
    """A head's predictions for a batch, level by level, in float32.

    Attributes:
        scores: per level (N, K, Hi, Wi), probabilities.
        boxes: per level (N, 4, Hi, Wi).
        centerness: per level (N, 1, Hi, Wi), probabilities, from heads that predict it: detections
            are ranked by the score times this.
    """

    scores: list[Tensor]
    boxes: list[Tensor]
    centerness: list[Tensor] | None = None

    def flatten(self) -> FlatPredictions:
        """Join the levels."""
        return FlatPredictions(
            *(None if levels is None else flatten_levels(levels).float() for levels in self)
        )

    def for_image(self, index: int) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """The predictions for image ``index`` of the batch.

        Returns:
            Per level scores (Hi * Wi, K), boxes (Hi * Wi, 4), and centerness (Hi * Wi, 1) or None.
            All are views.
        """

        def rows(levels: list[Tensor]) -> list[Tensor]:
            return [level[index].flatten(1).t() for level in levels]

        centerness = None if self.centerness is None else rows(self.centerness)
        return rows(self.scores), rows(self.boxes), centerness


def flatten_levels(levels: list[Tensor]) -> Tensor:
    """Join maps (N, A, Hi, Wi) of all levels into one (N, R, A)."""
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)


class ImagePredictions(NamedTuple):
    """Predictions of all points for one image, before NMS.

    Attributes:
        scores: (R, K) probabilities, multiplied by centerness where the head predicts it.
        boxes: (R, 4).
    """

    scores: Tensor
    boxes: Tensor


class ImageDetections(NamedTuple):
    """Candidates or final detections of one image, best first.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        classes: (D,) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


@dataclass(frozen=True)
class GroundTruth:
    """The objects of one image.

    Attributes:
        boxes: (M, 4).
        classes: (M,) int64 in [0, K).
        areas: (M,) in pixels of the *original* image; only statistics read it.
    """

    boxes: Tensor
    classes: Tensor
    areas: Tensor


@dataclass(frozen=True)
class AssignerInput:
    """The points of one image, with everything that an assigner may read.

    Attributes:
        scores: (R, K) predicted probabilities.
        boxes: (R, 4) predicted boxes.
        anchors: (R, 4).
        centers: (R, 2) of the anchors.
        strides: (R,) of each point's level.
        num_anchors_per_level: how many of the R points each level has, in order.
    """

    scores: Tensor
    boxes: Tensor
    anchors: Tensor
    centers: Tensor
    strides: Tensor
    num_anchors_per_level: list[int]

    @classmethod
    def from_anchors(cls, anchors: list[Tensor], strides: Sequence[float]) -> "AssignerInput":
        """The input of rules that read no predictions: ATSS, FCOS, FoveaBox, maximum IoU.

        Args:
            anchors: per level (Ri, 4).
            strides: of each level.
        """
        joined = torch.cat(anchors)
        per_point = [
            level.new_full((len(level),), s) for level, s in zip(anchors, strides, strict=True)
        ]
        return cls(
            scores=joined.new_zeros(len(joined), 0),
            boxes=joined,
            anchors=joined,
            centers=box_centers(joined),
            strides=torch.cat(per_point),
            num_anchors_per_level=[len(level) for level in anchors],
        )


@dataclass(frozen=True)
class Assignment:
    """Which ground truth each point of one image has to predict.

    Attributes:
        matched_idxs: (R,) int64, the index of the ground truth; -1 for background, -2 for points
            that take part in no loss.
        alignment_metrics: (R,) float32, the paper's t (eq. 9) of the point and its ground truth, 0
            for background; None from assigners that do not read predictions.
        norm_alignment_metrics: (R,) float32 in [0, 1], the normalized t-hat (section 3.2.2), 0 for
            background; None likewise.
    """

    matched_idxs: Tensor
    alignment_metrics: Tensor | None = None
    norm_alignment_metrics: Tensor | None = None


@dataclass(frozen=True)
class DenseTargets:
    """What the points of a batch have to predict.

    Attributes:
        gt_classes: (N, R) int64: a class in [0, K), K for background, -1 for points that take part
            in no loss, the padding of the batch among them.
        gt_boxes: (N, R, 4); zeros where there is none.
        centers: (R, 2) the points.
        strides: (R, 1) of each point's level.
        norm_alignment_metrics: (N, R) t-hat, 0 for background; None where the assigner has none.
    """

    gt_classes: Tensor
    gt_boxes: Tensor
    centers: Tensor
    strides: Tensor
    norm_alignment_metrics: Tensor | None = None


class LossSum(NamedTuple):
    """A loss summed over a batch, and what it is divided by; both scalars."""

    total: Tensor
    normalizer: Tensor

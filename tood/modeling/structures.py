"""Every record that the parts of the model exchange."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .box_ops import box_centers


@dataclass(frozen=True)
class AnchorGrid:
    """The points of a batch's feature maps, level after level, row by row.

    Attributes:
        anchors: (R, 4) pixels.
        centers: (R, 2) pixels, of the anchors.
        strides: (R, 1) pixels, of each point's level.
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
        """Join the levels' anchors (Hi * Wi, 4)."""
        per_point = [
            level.new_full((len(level), 1), stride)
            for level, stride in zip(anchors, strides, strict=True)
        ]
        joined = torch.cat(anchors)
        return cls(joined, box_centers(joined), torch.cat(per_point), shapes, strides)

    def indices_inside(self, height: int, width: int) -> tuple[Tensor, list[int]]:
        """The points whose cells begin inside a part of the batch.

        Args:
            height: of the part, from the top left corner, in pixels.
            width: likewise.

        Returns:
            (R',) int64 indices in order, and how many of them each level has. Made from sizes
            alone, so nothing waits for the device.
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


def flatten_levels(levels: list[Tensor]) -> Tensor:
    """Maps (N, A, Hi, Wi) of all levels as one (N, R, A)."""
    return torch.cat([level.flatten(2) for level in levels], dim=2).transpose(1, 2)


class FlatPredictions(NamedTuple):
    """A head's predictions for a batch, over all levels.

    Attributes:
        scores: (N, R, K) probabilities.
        boxes: (N, R, 4) in strides of the point's level.
        centerness: (N, R, 1) probabilities, from heads that predict it.
    """

    scores: Tensor
    boxes: Tensor
    centerness: Tensor | None = None


@dataclass(frozen=True)
class DenseTargets:
    """What the points of a batch are to predict.

    Attributes:
        gt_classes: (N, R) int64: a class in [0, K), K for background, -1 for ignored points,
            among them the cells of a batch's padding.
        gt_boxes: (N, R, 4) the boxes to predict, in strides of the point's level; 0 where
            there is none.
        points: (R, 2) the points, in strides of their level.
        norm_alignment_metrics: (N, R) t-hat, 0 for background; None where the assigner has none.
    """

    gt_classes: Tensor
    gt_boxes: Tensor
    points: Tensor
    norm_alignment_metrics: Tensor | None = None


class LossSum(NamedTuple):
    """A loss summed over a batch, and what it is to be divided by (both scalars)."""

    total: Tensor
    normalizer: Tensor


class ImageDetections(NamedTuple):
    """Boxes (D, 4), scores (D,) and classes (D,) int64 of one image, best first."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class DensePredictions(NamedTuple):
    """Predictions of a one-stage head, level by level, in float32.

    Attributes:
        pred_scores: per level (N, K, Hi, Wi), probabilities.
        pred_boxes: per level (N, 4, Hi, Wi), x1, y1, x2, y2 in strides of the level.
        pred_centerness: per level (N, 1, Hi, Wi), probabilities, from heads that have such a
            branch: detections are ranked by the score times this.
    """

    pred_scores: list[Tensor]
    pred_boxes: list[Tensor]
    pred_centerness: list[Tensor] | None = None

    def for_image(
        self, index: int, strides: list[int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """The predictions for one image, boxes in pixels.

        Args:
            index: of the image in the batch.
            strides: of the levels.

        Returns:
            Per level scores (Hi * Wi, K), boxes (Hi * Wi, 4), and centerness (Hi * Wi, 1) or None.
        """

        def flat(levels: list[Tensor]) -> list[Tensor]:
            return [level[index].flatten(1).t() for level in levels]

        boxes = zip(flat(self.pred_boxes), strides, strict=True)
        return (
            flat(self.pred_scores),
            [level * stride for level, stride in boxes],
            None if self.pred_centerness is None else flat(self.pred_centerness),
        )


# In matched_idxs: no ground truth claims the point.
UNMATCHED = -1
# In gt_classes: the point takes part in no loss.
IGNORED = -1


@dataclass(frozen=True)
class Assignment:
    """Which ground truth each point of one image is to predict.

    Attributes:
        matched_idxs: (R,) int64, the index of the ground truth, -1 for background.
        gt_classes: (R,) int64, the class to predict: K for background, -1 for points that are to
            take part in no loss, which some rules have between positives and background.
        alignment_metrics: (R,) float32, the paper's t (eq. 9) of the point for its ground truth,
            0 for background; None from assigners that do not look at predictions.
        norm_alignment_metrics: (R,) float32 in [0, 1], the normalized t-hat (section 3.2.2), 0 for
            background; None likewise.
    """

    matched_idxs: Tensor
    gt_classes: Tensor
    alignment_metrics: Tensor | None = None
    norm_alignment_metrics: Tensor | None = None


@dataclass(frozen=True)
class AssignerInput:
    """The points of one image with all that an assigner may ask for.

    Attributes:
        pred_scores: (R, K) probabilities.
        pred_boxes: (R, 4) pixels.
        anchors: (R, 4) pixels.
        points: (R, 2) pixels, the centers of the anchors.
        strides: (R,) pixels, of each point's level.
        num_anchors_per_level: how many of the R points each level has, in order.
    """

    pred_scores: Tensor
    pred_boxes: Tensor
    anchors: Tensor
    points: Tensor
    strides: Tensor
    num_anchors_per_level: list[int]


class ImagePredictions(NamedTuple):
    """Predictions of all R points of all levels for one image.

    Attributes:
        scores: (R, K) probabilities, times centerness from heads that predict it.
        boxes: (R, 4) pixels of the network's input.
    """

    scores: Tensor
    boxes: Tensor

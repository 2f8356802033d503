"""Post-processing with outputs of a fixed size: the same detections as the model's own.

``tood.modeling.postprocessing`` selects the candidates above the threshold, however many there
are. A file needs sizes that do not depend on values, and works on a batch at once, so this one
marks what is no candidate with a score of -1.

Shapes: **N** images, **Ri** points of level i, **K** classes, **C** candidates, **D** detections.
Boxes are in pixels of the network's input unless said otherwise.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modeling.structures import flatten_levels
from .nms import NMSForm, nms_mask

NOTHING = -1.0


class BatchDetections(NamedTuple):
    """Candidates or detections of a batch.

    Attributes:
        boxes: (N, D, 4).
        scores: (N, D); -1 where there is none.
        classes: (N, D) int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def take(self, idxs: Tensor) -> "BatchDetections":
        """The rows ``idxs`` (N, D')."""
        boxes = self.boxes.gather(1, idxs[..., None].expand(-1, -1, 4))
        return BatchDetections(boxes, self.scores.gather(1, idxs), self.classes.gather(1, idxs))

    def where(self, valid: Tensor) -> "BatchDetections":
        """Without the rows where ``valid`` (N, D) is false; they keep their places."""
        return self._replace(scores=torch.where(valid, self.scores, NOTHING))


def select_candidates(
    scores: Tensor,
    boxes: Tensor,
    centerness: Tensor | None,
    score_thresh: float,
    topk: int,
) -> BatchDetections:
    """Select the best (point, class) pairs of one level; see ``modeling.postprocessing``.

    The best ``topk`` pairs belong to the ``topk`` points with the best pairs, so pairs are ranked
    among those alone.

    Args:
        scores: (N, K, Hi, Wi) probabilities.
        boxes: (N, 4, Hi, Wi).
        centerness: (N, 1, Hi, Wi) probabilities, from heads that predict it.
        score_thresh: pairs must score more than this, before centerness.
        topk: number of pairs.

    Returns:
        ``topk`` candidates, best first.
    """
    ranked = scores if centerness is None else scores * centerness
    ranked = torch.where(scores > score_thresh, ranked, NOTHING)
    num_classes = ranked.shape[1]
    # Levels have fewer points than topk, or more, so their rows are padded.
    ranked = _pad_points(flatten_levels([ranked]), topk, NOTHING)  # (N, P, K)
    boxes = _pad_points(flatten_levels([boxes]), topk, 0.0)
    points = ranked.amax(2).topk(topk, dim=1).indices
    ranked = ranked.gather(1, points[..., None].expand(-1, -1, num_classes))
    found, pairs = ranked.flatten(1).topk(topk, dim=1)
    rows = points.gather(1, pairs.div(num_classes, rounding_mode="floor"))
    boxes = boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    return BatchDetections(boxes, found, pairs.remainder(num_classes))


def _pad_points(values: Tensor, count: int, value: float) -> Tensor:
    """Append ``count`` points to (N, R, A)."""
    return F.pad(values, (0, 0, 0, count), value=value)


def finalize(
    levels: list[BatchDetections],
    image_sizes: Tensor,
    original_sizes: Tensor,
    *,
    nms_thresh: float,
    max_detections: int,
    num_classes: int,
    nms_form: NMSForm,
) -> BatchDetections:
    """Turn candidates into detections, and scale them to the original images.

    Clip, drop empty boxes, NMS, keep the best; then what detectron2's ``detector_postprocess``
    does: scale in x and y, clip, drop empty boxes.

    Args:
        levels: candidates of each level.
        image_sizes: (N, 2) height and width of the images without padding.
        original_sizes: (N, 2) height and width that detections refer to.
        nms_thresh: boxes of one class with a larger IoU suppress each other.
        max_detections: D; negative for one per candidate.
        num_classes: K.
        nms_form: see :data:`~tood.export.nms.NMSForm`.

    Returns:
        Detections in pixels of the original images, best first.
    """
    found = BatchDetections(*(torch.cat(values, dim=1) for values in zip(*levels, strict=True)))
    found = _clip_and_drop(found, image_sizes)
    keep = nms_mask(found.boxes, found.scores, found.classes, nms_thresh, num_classes, nms_form)
    found = _best(found.where(keep), max_detections)
    scale = _as_xyxy(original_sizes.float() / image_sizes.float())
    found = _clip_and_drop(found._replace(boxes=found.boxes * scale), original_sizes)
    return _best(found, max_detections)


def _as_xyxy(sizes: Tensor) -> Tensor:
    """(N, 1, 4) factors or limits of (x1, y1, x2, y2) from heights and widths (N, 2)."""
    return sizes.flip(1).repeat(1, 2)[:, None]


def _clip_and_drop(found: BatchDetections, sizes: Tensor) -> BatchDetections:
    boxes = found.boxes.clamp(min=0).minimum(_as_xyxy(sizes).to(found.boxes.dtype))
    # Drops NaN boxes too: comparisons with NaN are false.
    has_area = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return found._replace(boxes=boxes).where(has_area)


def _best(found: BatchDetections, count: int) -> BatchDetections:
    """The ``count`` best, best first; all of them if it is negative."""
    total = found.scores.shape[1]
    return found.take(found.scores.topk(total if count < 0 else min(count, total), dim=1).indices)

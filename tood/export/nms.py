"""NMS over a batch with outputs of a fixed size, in the two forms that files can hold.

Shapes: **N** images, **C** candidates per image.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

# "portable" consists of PyTorch's and torchvision's operators. "onnx" becomes
# ONNX's NonMaxSuppression, which knows images and classes itself.
NMSForm = Literal["portable", "onnx"]


def nms_mask(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    iou_threshold: float,
    num_classes: int,
    form: NMSForm,
) -> Tensor:
    """Mark the candidates that NMS keeps, class by class.

    Args:
        boxes: (N, C, 4) in pixels.
        scores: (N, C); 0 or less for no candidate.
        classes: (N, C) int64.
        iou_threshold: boxes of one class with a larger IoU suppress each other.
        num_classes: number of classes.
        form: see :data:`NMSForm`.

    Returns:
        (N, C) bool, False where there is no candidate.
    """
    if form == "onnx":
        kept = _NMSMaskForONNX.apply(boxes, scores, classes, iou_threshold, num_classes)
    else:
        kept = _portable_nms_mask(boxes, scores, classes, iou_threshold)
    return kept & (scores > 0)


def _portable_nms_mask(
    boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float
) -> Tensor:
    """One call of torchvision's NMS for all images and classes, which are moved apart.

    In float64, where moving boxes apart costs no precision.
    """
    valid = scores > 0
    # All rows without a candidate get the same box: the first suppresses the others, so that they
    # take no time.
    boxes = torch.where(valid[..., None], boxes, boxes.new_tensor([0.0, 0.0, 1.0, 1.0])).double()
    group = torch.where(valid, classes + 1, 0)
    image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
    group = group + image * (classes.amax() + 2)
    apart = (boxes + (group * (boxes.amax() + 1))[..., None]).flatten(0, 1)
    # torch.export writes into its program that at least two boxes are kept. An empty one, which
    # overlaps no other, makes that true for an image without candidates.
    apart = F.pad(apart, (0, 0, 0, 1), value=-2.0)
    keep = nms(apart, F.pad(scores.flatten().double(), (0, 1)), iou_threshold)
    mask = torch.zeros(apart.shape[0], dtype=torch.bool, device=apart.device)
    mask = mask.scatter(0, keep, torch.ones_like(keep, dtype=torch.bool))
    return mask[:-1].view_as(scores)


class _NMSMaskForONNX(torch.autograd.Function):
    """One operator in a trace for ONNX, where NonMaxSuppression knows images and classes itself."""

    @staticmethod
    def forward(
        ctx: Any,
        boxes: Tensor,
        scores: Tensor,
        classes: Tensor,
        iou_threshold: float,
        num_classes: int,
    ) -> Tensor:
        """The mask, while the model is traced."""
        return _portable_nms_mask(boxes, scores, classes, iou_threshold)

    @staticmethod
    def symbolic(
        g: Any, boxes: Any, scores: Any, classes: Any, iou_threshold: float, num_classes: int
    ) -> Any:
        """NonMaxSuppression takes scores (N, K, C); its rows (image, class, candidate) are kept."""

        def constant(value: Any, dtype: torch.dtype = torch.int64) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        zero = constant(0.0, torch.float32)
        index = constant([list(range(num_classes))])  # (1, K)
        index = g.op("Unsqueeze", index, constant([2]))
        of_class = g.op("Equal", g.op("Unsqueeze", classes, constant([1])), index)
        by_class = g.op("Where", of_class, g.op("Unsqueeze", scores, constant([1])), zero)
        rows = g.op(
            "NonMaxSuppression",
            boxes,
            by_class,
            constant([2**31 - 1]),
            constant([iou_threshold], torch.float32),
            constant([0.0], torch.float32),
        )
        image_and_candidate = g.op("Gather", rows, constant([0, 2]), axis_i=1)
        count = g.op("Slice", g.op("Shape", rows), constant([0]), constant([1]))
        none = g.op("ConstantOfShape", g.op("Shape", scores), value_t=torch.tensor([0.0]))
        ones = g.op("ConstantOfShape", count, value_t=torch.tensor([1.0]))
        kept = g.op("ScatterND", none, image_and_candidate, ones)
        kept = g.op("Greater", kept, zero)
        kept.setType(scores.type().with_dtype(torch.bool))
        return kept

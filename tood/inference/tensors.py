"""Between images, tensors and detections."""

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor

from tood_runtime.image_io import RGBImage
from tood_runtime.nms import Candidates

from ..modeling.structures import ImageDetections


def image_to_tensor(pixels: RGBImage) -> Tensor:
    """Convert (H, W, C) uint8 to (C, H, W) float32, 0 to 255."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), dtype=np.float32, order="C"))


def tensor_to_image(image: Tensor) -> RGBImage:
    """Convert (3, H, W) uint8 to (H, W, 3).

    Raises:
        ValueError: another shape.
        TypeError: another dtype.
    """
    expected = "Expected a tensor as torchvision has images: (3, height, width), uint8"
    if image.dim() != 3 or image.shape[0] != 3:
        hint = ""
        if image.dim() == 3 and image.shape[2] == 3:
            hint = " Move the channels to the front: image.permute(2, 0, 1)."
        elif image.dim() == 4:
            hint = " Pass a batch to predict, as it is and not in a list."
        raise ValueError(f"{expected}; got the shape {tuple(image.shape)}.{hint}")
    if image.dtype != torch.uint8:
        hint = " Scale 0..1 to 0..255: (image * 255).round().byte()."
        hint = hint if image.dtype.is_floating_point else ""
        raise TypeError(f"{expected}; got {str(image.dtype).removeprefix('torch.')}.{hint}")
    return image.detach().permute(1, 2, 0).cpu().numpy()


def instances_to_candidates(instances: Instances) -> Candidates:
    """Convert detectron2's detections of one image."""
    boxes, scores, classes = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
    return to_candidates(ImageDetections(boxes, scores, classes))


def to_candidates(found: ImageDetections) -> Candidates:
    """Convert detections or candidates of one image."""
    return Candidates(
        found.boxes.float().cpu().numpy(),
        found.scores.float().cpu().numpy(),
        found.classes.cpu().numpy().astype(np.int64),
    )

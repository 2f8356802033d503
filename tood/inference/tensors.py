"""Between images, tensors and detections."""

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor

from tood_runtime.image_io import RGBImage
from tood_runtime.masks import Masks
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
        raise ValueError(f"{expected}; got the shape {tuple(image.shape)}.{_shape_hint(image)}")
    if image.dtype != torch.uint8:
        dtype = str(image.dtype).removeprefix("torch.")
        raise TypeError(f"{expected}; got {dtype}.{_dtype_hint(image)}")
    if not _has_values(image):
        kind = "meta" if image.is_meta else str(image.layout).removeprefix("torch.")
        raise TypeError(f"{expected}; got a {kind} tensor. Pass a dense tensor with values.")
    return image.permute(1, 2, 0).cpu().numpy()


def _has_values(image: Tensor) -> bool:
    return image.layout == torch.strided and not image.is_meta


def _shape_hint(image: Tensor) -> str:
    """How to get three channels in front."""
    if image.dim() == 4:
        return " Pass a batch to predict, as it is and not in a list."
    if image.dim() == 2 or (image.dim() == 3 and image.shape[0] == 1):
        return " Repeat a gray image for the three channels: image.expand(3, -1, -1)."
    if image.dim() != 3:
        return ""
    if image.shape[2] == 3:
        return " Move the channels to the front: image.permute(2, 0, 1)."
    stack = "for a stack of gray images, pass images[:, None].expand(-1, 3, -1, -1) to predict"
    if image.shape[0] == 4:
        return f" With alpha as the fourth channel: image[:3]; {stack}."
    return f" It has {image.shape[0]} channels; {stack}."


def _dtype_hint(image: Tensor) -> str:
    """How to get 8 bits, by the range that the values seem to have."""
    if image.dtype == torch.bool:
        return " Scale it to 0..255: image.byte() * 255."
    if not _has_values(image) or not image.numel() or image.is_complex() or image.is_quantized:
        return ""
    highest = float(image.detach().max())
    if image.is_floating_point():
        if highest <= 1:
            return " Scale 0..1 to 0..255: (image * 255).round().byte()."
        return " Convert values of 0..255: image.round().clamp(0, 255).byte()."
    if highest <= 255:
        return " Convert values of 0..255: image.clamp(0, 255).byte()."
    return " Of 16 bits, keep the high byte: (image.int() >> 8).byte()."


def instances_to_candidates(instances: Instances) -> Candidates:
    """Convert detectron2's detections of one image, with their masks if they have any.

    Raises:
        ValueError: masks of another size than the image's.
    """
    boxes, scores, classes = instances.pred_boxes.tensor, instances.scores, instances.pred_classes
    found = to_candidates(ImageDetections(boxes, scores, classes))
    if not instances.has("pred_masks"):
        return found
    masks = instances.pred_masks
    masks = getattr(masks, "tensor", masks)
    # One by one, so that no more than one is on the CPU as an array. Without any, they are uint8.
    arrays = (mask.bool().cpu().numpy() for mask in masks)
    return found._replace(masks=Masks.from_arrays(arrays, instances.image_size))


def to_candidates(found: ImageDetections) -> Candidates:
    """Convert detections or candidates of one image."""
    return Candidates(
        found.boxes.float().cpu().numpy(),
        found.scores.float().cpu().numpy(),
        found.classes.cpu().numpy().astype(np.int64),
    )

"""From detectron2's Instances to the ground truth that the dense detector learns from."""

import logging

import torch
from detectron2.structures import Instances
from detectron2.utils.logger import log_first_n

from ..errors import DataError
from .box_ops import box_area, is_usable_box
from .structures import GroundTruth


def to_ground_truth(
    instances: Instances,
    device: torch.device,
    num_classes: int,
    *,
    source: str = "An image",
    original_height: int | None = None,
) -> GroundTruth:
    """The ground truth of one image on a device, without boxes that nothing can be learned from.

    Boxes on a GPU stay, because their number would have to be read; no point is assigned to them.
    For the same reason a wrong class on a GPU is an assertion of the device, which comes late and
    without this message.

    Args:
        instances: with gt_boxes (M, 4) in pixels and gt_classes (M,).
        device: where the ground truth is needed.
        num_classes: K.
        source: the image, for messages.
        original_height: of the image before it was resized, for the areas of the boxes; None if it
            was not.

    Raises:
        DataError: a class is outside of [0, K).
    """
    # Whatever the loader's types: small ones would overflow in areas and indices.
    boxes, classes = instances.gt_boxes.tensor.float(), instances.gt_classes.long()
    exist = ((classes >= 0) & (classes < num_classes)).all()
    if classes.device.type != "cpu":
        torch._assert_async(exist, f"ground truth of a class above {num_classes - 1}")
    elif not exist:
        raise DataError(
            f"{source} has ground truth of classes {classes.unique().tolist()}, but the model has "
            f"classes 0 to {num_classes - 1}. Set MODEL.TOOD.NUM_CLASSES to that of the dataset."
        )
    if boxes.device.type == "cpu":
        usable = is_usable_box(boxes)
        if not usable.all():
            log_first_n(
                logging.WARNING,
                f"{source} has {int((~usable).sum())} GT boxes that are empty, not finite or "
                "beyond any image. They are left out of training.",
                n=10,
                name="tood",
            )
            boxes, classes = boxes[usable], classes[usable]
    boxes, classes = boxes.to(device), classes.to(device)
    height = instances.image_size[0]
    scale = 1.0 if original_height is None else original_height / max(height, 1)
    return GroundTruth(boxes, classes, box_area(boxes) * scale**2)

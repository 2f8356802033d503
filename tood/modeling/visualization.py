"""Drawings of training images for TensorBoard (``VIS_PERIOD``), as detectron2's RetinaNet has them.

Draws with Pillow: detectron2's Visualizer draws random numbers for its colors, which would change
the training.
"""

from collections.abc import Sequence

import numpy as np
from detectron2.data.detection_utils import convert_image_to_rgb
from torch import Tensor

from tood_runtime.detections import Detections
from tood_runtime.drawing import draw_detections
from tood_runtime.image_io import RGBImage

from .structures import GroundTruth, ImageDetections

MAX_DRAWN = 20
IMAGE_NAME = f"Top: GT boxes; Bottom: {MAX_DRAWN} Highest Scoring Detections"


def draw_training_image(
    image: Tensor,
    input_format: str,
    ground_truth: GroundTruth,
    detections: ImageDetections,
    class_names: Sequence[str],
) -> RGBImage:
    """Draw an image twice: with its GT boxes, and below with its detections.

    Args:
        image: (C, H, W) in ``input_format``, 0 to 255.
        input_format: a value of ``INPUT.FORMAT``.
        ground_truth: of the image; its boxes are labeled with a score of 100 %.
        detections: of the image, best first; the first 20 are drawn.
        class_names: by class index; others are called by their number.

    Returns:
        (3, 2 * H, W) uint8 RGB, as detectron2's ``EventStorage.put_image`` takes it.
    """
    rgb = to_rgb(image, input_format)
    scores = ground_truth.boxes.new_ones(len(ground_truth.boxes))
    truth = ImageDetections(ground_truth.boxes, scores, ground_truth.classes)
    best = ImageDetections(*(values[:MAX_DRAWN] for values in detections))
    drawings = [
        np.asarray(draw_detections(rgb, _to_detections(found, rgb, class_names), scale=1.0))
        for found in (truth, best)
    ]
    return np.concatenate(drawings).transpose(2, 0, 1).copy()


def to_rgb(image: Tensor, input_format: str) -> RGBImage:
    """An input of the model as an (H, W, 3) uint8 RGB array.

    Args:
        image: (C, H, W) in ``input_format``, 0 to 255; one channel is gray in every format.
        input_format: a value of ``INPUT.FORMAT``.
    """
    pixels = image.detach().cpu().float().permute(1, 2, 0).numpy()
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    elif input_format == "BGR":
        pixels = pixels[:, :, ::-1]
    elif input_format != "RGB":
        pixels = convert_image_to_rgb(pixels, input_format)
    # Channels beyond color, of loaders of the user's own, are not drawn.
    return np.ascontiguousarray(pixels[:, :, :3].clip(0, 255).round().astype(np.uint8))


def _to_detections(found: ImageDetections, rgb: RGBImage, class_names: Sequence[str]) -> Detections:
    class_ids = found.classes.cpu().numpy()
    return Detections(
        xyxy=found.boxes.detach().float().cpu().numpy(),
        confidence=found.scores.detach().float().cpu().numpy(),
        class_id=class_ids,
        class_names=[
            class_names[i] if i < len(class_names) else f"class {i}" for i in class_ids.tolist()
        ],
        image_size=(rgb.shape[0], rgb.shape[1]),
    )

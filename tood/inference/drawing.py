"""Drawing detections."""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer

# Longer side in pixels from which on labels fit beside the objects.
MIN_DISPLAY_SIDE = 480


def display_scale(image: np.ndarray) -> float:
    """Scale to draw an image (H, W, 3) at: labels could not be read in small ones otherwise."""
    return max(1.0, MIN_DISPLAY_SIDE / max(image.shape[:2]))


def draw_detections(
    image: np.ndarray, instances: Instances, names: Sequence[str], scale: float = 1.0
) -> np.ndarray:
    """Draw boxes with class names and scores.

    Args:
        image: (H, W, 3) uint8 BGR.
        instances: detections on the CPU.
        names: of the classes.
        scale: size of the result over that of ``image``.

    Returns:
        A new picture, BGR.
    """
    visualizer = Visualizer(np.ascontiguousarray(image[:, :, ::-1]), metadata=None, scale=scale)
    classes = instances.pred_classes.tolist()
    scores = instances.scores.tolist()
    output = visualizer.overlay_instances(
        boxes=instances.pred_boxes.tensor.numpy(),
        labels=[f"{names[c]} {score:.0%}" for c, score in zip(classes, scores, strict=True)],
        assigned_colors=[_color(c) for c in classes],
    )
    return np.ascontiguousarray(output.get_image()[:, :, ::-1])


def _color(index: int) -> tuple[float, float, float]:
    """An RGB color of a class, 0 to 1; neighbors differ."""
    hue = int(index * 67 % 180)
    # Not as bright as can be: detectron2 lightens it for the labels, and matplotlib before 3.11
    # refuses what rounding then leaves above 1.
    blue, green, red = cv2.cvtColor(np.uint8([[[hue, 200, 230]]]), cv2.COLOR_HSV2BGR)[0, 0] / 255
    return float(red), float(green), float(blue)

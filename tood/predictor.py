"""Detection on single pictures, for people: a predictor, and COCO-format results."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer

from .checkpoint import TOODCheckpointer
from .data.coco import read_coco_json, registered_categories, sorted_categories

# Longer side in pixels from which on labels fit beside the objects.
READABLE_SIDE = 480


def categories(cfg: CfgNode) -> tuple[list[str], list[int]]:
    """Names of the classes, and their ids in COCO-format files, by class index.

    From the config, where training has noted them; else from its test set, a named JSON or
    a registered one; else the names are numbers, and the ids begin at 1.
    """
    node = cfg.MODEL.TOOD
    names, ids = list(node.CLASS_NAMES), list(node.CATEGORY_IDS)
    if not names and Path(cfg.DATASETS.TEST_JSON).is_file():
        names, ids = sorted_categories(read_coco_json(cfg.DATASETS.TEST_JSON))
    elif not names and cfg.DATASETS.TEST:
        names, ids = registered_categories(cfg.DATASETS.TEST[0])
    if len(names) != node.NUM_CLASSES:
        names = [f"class {i}" for i in range(node.NUM_CLASSES)]
    if len(ids) != node.NUM_CLASSES:
        ids = list(range(1, node.NUM_CLASSES + 1))
    return names, ids


class Predictor:
    """Detects objects in one picture.

    What detectron2's ``DefaultPredictor`` does, with weights read by :class:`TOODCheckpointer`.

    Args:
        cfg: with ``MODEL.WEIGHTS`` of a trained detector.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        TOODCheckpointer(self.model, complete=True).load(cfg.MODEL.WEIGHTS)
        self.resize = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """Detect.

        Args:
            image: (H, W, 3) uint8, BGR as OpenCV reads it.

        Returns:
            Instances on the CPU with pred_boxes (pixels of ``image``), scores and pred_classes,
            best first.
        """
        height, width = image.shape[:2]
        if self.cfg.INPUT.FORMAT == "RGB":
            image = image[:, :, ::-1]
        image = self.resize.get_transform(image).apply_image(image)
        tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
        outputs = self.model([{"image": tensor, "height": height, "width": width}])
        return outputs[0]["instances"].to("cpu")


def readable_scale(image: np.ndarray) -> float:
    """Scale to draw an image (H, W, 3) at: labels could not be read in small ones otherwise."""
    return max(1.0, READABLE_SIDE / max(image.shape[:2]))


def draw(
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
    """An RGB colour of a class, 0 to 1; neighbours differ."""
    hue = int(index * 67 % 180)
    # Not as bright as can be: detectron2 lightens it for the labels, and matplotlib before 3.11
    # refuses what rounding then leaves above 1.
    blue, green, red = cv2.cvtColor(np.uint8([[[hue, 200, 230]]]), cv2.COLOR_HSV2BGR)[0, 0] / 255
    return float(red), float(green), float(blue)


def to_coco_results(
    instances: Instances, image_id: int | str, ids: Sequence[int]
) -> list[dict[str, object]]:
    """Detections of one image in COCO's result format.

    Args:
        instances: detections on the CPU.
        image_id: what the results call the image.
        ids: category id of each class index.
    """
    boxes = instances.pred_boxes.tensor.clone()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image_id": image_id,
            "category_id": ids[category],
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        for box, score, category in zip(
            boxes.tolist(), instances.scores.tolist(), instances.pred_classes.tolist(), strict=True
        )
    ]

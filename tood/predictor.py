"""Detection on single pictures, for people: a predictor, and COCO-format results."""

from collections.abc import Sequence

import cv2
import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer

from .checkpoint import TOODCheckpointer


def class_names(cfg: CfgNode) -> list[str]:
    """Names of the classes: from the config, else from its test set, else their numbers."""
    node = cfg.MODEL.TOOD
    names = list(node.CLASS_NAMES)
    if not names and cfg.DATASETS.TEST:
        names = MetadataCatalog.get(cfg.DATASETS.TEST[0]).get("thing_classes") or []
    return (
        list(names)
        if len(names) == node.NUM_CLASSES
        else [f"class {i}" for i in range(node.NUM_CLASSES)]
    )


def category_ids(cfg: CfgNode) -> list[int]:
    """Ids of the classes in COCO-format files: as above, else their numbers from 1 on."""
    node = cfg.MODEL.TOOD
    ids = list(node.CATEGORY_IDS)
    if not ids and cfg.DATASETS.TEST:
        to_index = MetadataCatalog.get(cfg.DATASETS.TEST[0]).get(
            "thing_dataset_id_to_contiguous_id"
        )
        ids = sorted(to_index, key=to_index.get) if to_index else []
    return ids if len(ids) == node.NUM_CLASSES else list(range(1, node.NUM_CLASSES + 1))


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


def draw(image: np.ndarray, instances: Instances, names: Sequence[str]) -> np.ndarray:
    """Draw boxes with class names and scores.

    Args:
        image: (H, W, 3) uint8 BGR.
        instances: detections on the CPU.
        names: of the classes.

    Returns:
        A new picture, BGR.
    """
    visualizer = Visualizer(
        np.ascontiguousarray(image[:, :, ::-1]),
        metadata=None,
    )
    boxes = instances.pred_boxes.tensor.numpy()
    classes = instances.pred_classes.tolist()
    labels = [
        f"{names[c]} {score:.0%}"
        for c, score in zip(classes, instances.scores.tolist(), strict=True)
    ]
    output = visualizer.overlay_instances(
        boxes=boxes, labels=labels, assigned_colors=[_color(c) for c in classes]
    )
    return np.ascontiguousarray(output.get_image()[:, :, ::-1])


def _color(index: int) -> tuple[float, float, float]:
    """An RGB colour of a class, 0 to 1; neighbours differ."""
    hue = int(index * 67 % 180)
    blue, green, red = cv2.cvtColor(np.uint8([[[hue, 200, 255]]]), cv2.COLOR_HSV2BGR)[0, 0] / 255
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

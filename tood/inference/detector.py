"""Detection on single pictures, for people: a predictor, and COCO-format results."""

from collections.abc import Sequence

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances

from ..checkpoint import TOODCheckpointer


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
        TOODCheckpointer(self.model, strict=True).load(cfg.MODEL.WEIGHTS)
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

"""Boxes of a known IoU, and the options of other detectors."""

import torch
from torch import Tensor

PARALLEL_HEAD = ["MODEL.TOOD.HEAD.NAME", "ParallelHead"]
PARALLEL_HEAD += ["MODEL.TOOD.PARALLEL_HEAD.CENTERNESS", "True"]
for phase in ("WARMUP", "ALIGNED"):
    PARALLEL_HEAD += [f"MODEL.TOOD.{phase}.CRITERION", "CenternessFocalCriterion"]
RETINANET = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", "5"]
RETINANET += ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.5, 1.0, 2.0]]"]


def make_boxes(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def box_with_iou(percent: float) -> list[float]:
    """A box whose IoU with :data:`GT_BOX` is ``percent`` / 100."""
    return [0, 0, percent, 10]


GT_BOX = make_boxes([0, 0, 100, 10])

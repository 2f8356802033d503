"""A head with golden weights, and the losses of its golden batch."""

import numpy as np
import torch

from tests.helpers import STRIDES, golden, make_ground_truth, square_anchors, tensor
from tood.checkpoint.key_mapping import to_tood_keys
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.criteria import CenternessFocalCriterion, TaskAlignedCriterion
from tood.modeling.heads import TOODHead
from tood.modeling.structures import AnchorGrid, DensePredictions, DenseTargets
from tood.modeling.targets import compute_targets

HEADS = {
    "head_free_dcn0_c80.npz": {"num_classes": 80, "num_dcn": 0, "anchor_type": "anchor_free"},
    "head_based_dcn2_c1.npz": {"num_classes": 1, "num_dcn": 2, "anchor_type": "anchor_based"},
}
LEVELS = ["P3", "P4", "P5", "P6", "P7"]


class GoldenHead:
    """A head with golden weights, its golden inputs, and the anchors that belong to them."""

    def __init__(self, file: str) -> None:
        self.data = golden(file)
        self.num_classes = HEADS[file]["num_classes"]
        self.head = TOODHead(in_channels=64, channels=64, strides=STRIDES, **HEADS[file])
        weights = {
            "bbox_head." + key.removeprefix("state_dict/"): tensor(value)
            for key, value in self.data.items()
            if key.startswith("state_dict/")
        }
        converted, _ = to_tood_keys(weights, "mmdet")
        self.head.load_state_dict({k.removeprefix("head."): v for k, v in converted.items()})
        self.features = [tensor(self.data[f"feat/{level}"]) for level in LEVELS]
        self.anchors = square_anchors([tuple(x.shape[-2:]) for x in self.features])

    def grid(self) -> AnchorGrid:
        """The anchors of all levels."""
        shapes = [tuple(x.shape[-2:]) for x in self.features]
        return AnchorGrid.from_levels(self.anchors, shapes, STRIDES)


def compute_losses(
    golden_head: GoldenHead, phase: str, variant: str, output: DensePredictions
) -> tuple[DenseTargets, torch.Tensor, torch.Tensor]:
    """Targets, loss_cls and loss_box_reg (weighted by 2) of a golden variant."""
    data = golden_head.data
    gts = [make_ground_truth(data[f"gt/img{i}/bboxes"], data[f"gt/img{i}/labels"]) for i in (0, 1)]
    nothing = make_ground_truth(np.zeros((0, 4)), np.zeros(0, np.int64))
    if variant == "low":
        gts = [make_ground_truth(data["gt/low/bboxes"], data["gt/low/labels"]), nothing]
    elif variant == "empty":
        gts = [nothing, nothing]
    elif variant == "empty1":
        gts[1] = nothing
    # Image 1 of the variant "pad" ends at 128x160, also when rounded up to 32.
    sizes = [(160, 200), (120, 150) if variant == "pad" else (160, 200)]
    criterion, assigner = {
        "atss": (CenternessFocalCriterion(), ATSSAssigner()),
        "tal": (TaskAlignedCriterion(), TaskAlignedAssigner()),
    }[phase]
    flat = output.flatten()
    targets, _ = compute_targets(assigner, flat, golden_head.grid(), sizes, 32, gts)
    sums = criterion(flat, targets)
    cls, box_reg = sums["loss_cls"], sums["loss_box_reg"]
    loss_cls = cls.total / cls.normalizer.clamp(min=1)
    loss_box = 2 * box_reg.total / box_reg.normalizer.clamp(min=1)
    return targets, loss_cls, loss_box

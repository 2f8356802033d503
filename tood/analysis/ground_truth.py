"""The GT boxes that alignment is measured against."""

import torch
from torch import Tensor

from ..data.dataset import DetectionDataset


def read_ground_truth(dataset: DetectionDataset, index: int) -> tuple[Tensor, Tensor]:
    """Return the GT boxes of an image, without crowd regions.

    Args:
        dataset: in normalized form, as `tood.data.registration.load_dataset` returns it.
        index: of the image in the dataset.

    Returns:
        Boxes (M, 4), x1, y1, x2, y2 in pixels of the image, and class indices (M,) int64.
    """
    rows = slice(dataset.offsets[index], dataset.offsets[index + 1])
    objects = ~dataset.is_crowd[rows]
    boxes = torch.from_numpy(dataset.boxes[rows][objects]).float().reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes, torch.from_numpy(dataset.class_ids[rows][objects]).long()

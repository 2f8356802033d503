"""Files of proposals, as detectron2 reads them (``DATASETS.PROPOSAL_FILES_TRAIN``)."""

import pickle
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode


def dump_proposals(predictions: Sequence[dict[str, Any]]) -> bytes:
    """Return the contents of ``box_proposals.pkl``.

    Args:
        predictions: for each image its "image_id" in the dataset and its "proposals": Instances
            with proposal_boxes (P, 4) and objectness_logits (P,) on the CPU.
    """
    found = [x["proposals"] for x in predictions]
    return pickle.dumps(
        {
            "boxes": [x.proposal_boxes.tensor.numpy() for x in found],
            "objectness_logits": [x.objectness_logits.numpy() for x in found],
            "ids": [x["image_id"] for x in predictions],
            "bbox_mode": BoxMode.XYXY_ABS.value,
        }
    )

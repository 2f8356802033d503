"""Small valid inputs of each kind, in a few variants; the mutations start from them."""

from collections.abc import Callable

from ..files import Case
from .checkpoints import checkpoint_cases
from .configs import config_cases
from .datasets import coco_cases, openimages_cases, voc_cases, yolo_cases
from .exported import exported_cases
from .images import image_cases

#: The builders by kind. What they build is the same in each run.
BUILDERS: dict[str, Callable[[], list[Case]]] = {
    "coco": coco_cases,
    "yolo": yolo_cases,
    "voc": voc_cases,
    "openimages": openimages_cases,
    "config": config_cases,
    "checkpoint": checkpoint_cases,
    "exported": exported_cases,
    "image": image_cases,
}

"""TOOD: task-aligned one-stage object detection, as a detectron2 extension.

Importing this registers the meta-architecture ``TOOD``, its heads, assigners and backbone.
"""

from .version import __version__

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ModuleNotFoundError(
        "tood needs detectron2, which is on no package index. In a checkout of this project: "
        "python tools/install_detectron2.py (or make setup). By hand: pip install "
        "--no-build-isolation git+https://github.com/facebookresearch/detectron2.git",
        name="detectron2",
    ) from None

from .config import add_tood_config
from .modeling import DENSE_HEAD_REGISTRY, TOOD, TOODHead
from .modeling.assigners import ASSIGNER_REGISTRY, ATSSAssigner, TaskAlignedAssigner
from .modeling.losses import CRITERION_REGISTRY

__all__ = [
    "ASSIGNER_REGISTRY",
    "CRITERION_REGISTRY",
    "DENSE_HEAD_REGISTRY",
    "TOOD",
    "ATSSAssigner",
    "TOODHead",
    "TaskAlignedAssigner",
    "__version__",
    "add_tood_config",
]

"""TOOD: task-aligned one-stage object detection, as a detectron2 extension.

Importing this registers the meta-architecture ``TOOD``, its heads, assigners and backbone.
"""

from . import environment
from .version import __version__

# Imported first: reports missing dependencies.
environment.check_dependencies()

from .config import add_tood_config, load_config  # noqa: E402
from .inference import Detections, Detector  # noqa: E402
from .modeling import DENSE_HEAD_REGISTRY, TOOD, ParallelHead, TOODHead  # noqa: E402
from .modeling.assigners import ASSIGNER_REGISTRY, ATSSAssigner, TaskAlignedAssigner  # noqa: E402
from .modeling.criteria import CRITERION_REGISTRY  # noqa: E402

__all__ = [
    "ASSIGNER_REGISTRY",
    "CRITERION_REGISTRY",
    "DENSE_HEAD_REGISTRY",
    "TOOD",
    "ATSSAssigner",
    "Detections",
    "Detector",
    "ParallelHead",
    "TOODHead",
    "TaskAlignedAssigner",
    "__version__",
    "add_tood_config",
    "load_config",
]

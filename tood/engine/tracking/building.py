"""Builds the trackers that a config names."""

import platform
from pathlib import Path

from detectron2.config import CfgNode

from ...checkpoint.info import current_versions
from ...compat import compute_on_main_process
from ...config.merging import all_values
from .base import RunDescription, Tracker
from .hook import TrackingHook
from .mlflow_tracker import MlflowTracker, import_mlflow
from .record import SentRecord
from .secrets import hide_in_value
from .sender import Sender
from .wandb_tracker import WandbTracker, import_wandb

# By their names in TRACKING.TRACKERS.
TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}
_IMPORTS = {"wandb": import_wandb, "mlflow": import_mlflow}

# Folder of the records, in OUTPUT_DIR.
RECORD_FOLDER = "trackers"


def require_trackers(cfg: CfgNode) -> None:
    """Import the packages of the trackers in the main process; all processes call it together.

    Raises:
        ConfigError: one is missing; the message says how to install it.
    """
    if cfg.TRACKING.TRACKERS:
        compute_on_main_process(lambda: [_IMPORTS[name]() for name in cfg.TRACKING.TRACKERS][:0])


def build_tracking_hook(cfg: CfgNode, run_id: str | None) -> TrackingHook | None:
    """Build the hook for the main process; None if the config names no tracker.

    Args:
        cfg: the config of the training, as it is used.
        run_id: of the training.
    """
    if not cfg.TRACKING.TRACKERS:
        return None
    description = describe_run(cfg)
    folder = Path(cfg.OUTPUT_DIR)

    def build(name: str, resumed: bool) -> Sender:
        record = SentRecord(folder / RECORD_FOLDER / f"{name}.json", run_id, resumed=resumed)
        return Sender(TRACKERS[name](description), record)

    builders = [
        lambda resumed, name=name: build(name, resumed)
        for name in dict.fromkeys(cfg.TRACKING.TRACKERS)
    ]
    return TrackingHook(builders, folder / "metrics.json")


def describe_run(cfg: CfgNode) -> RunDescription:
    """What the trackers are told about a training."""
    node = cfg.TRACKING
    return RunDescription(
        folder=Path(cfg.OUTPUT_DIR),
        project=node.PROJECT,
        name=node.RUN_NAME or Path(cfg.OUTPUT_DIR).resolve().name,
        tags=tuple(node.TAGS),
        config={key: hide_in_value(value) for key, value in all_values(cfg).items()},
        versions={**current_versions(), "python": platform.python_version()},
    )

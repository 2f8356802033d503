"""Weights & Biases (https://wandb.ai)."""

import logging
import os
import uuid
from collections.abc import Mapping
from typing import Any

from tood_runtime.missing_packages import import_optional

from ...errors import ConfigError
from .base import FAILED, KILLED, RunDescription, Tracker
from .secrets import safe_message
from .sender import CLOSE_SECONDS

logger = logging.getLogger(__name__)

# Seconds until a run is started offline instead.
_START_SECONDS = 30.0
# The x axis of all charts.
_AXIS = "iteration"


class WandbTracker(Tracker):
    """A run of Weights & Biases. Environment variables choose the account, server and mode.

    W&B keeps what it cannot upload in ``OUTPUT_DIR/wandb`` and tries again, so only the start of a
    run may fail. It then is an offline run, which ``wandb sync`` uploads.

    Args:
        description: of the training.
    """

    label = "W&B"

    def __init__(self, description: RunDescription) -> None:
        super().__init__(description)
        self._wandb = import_wandb()
        self._run: Any = None

    def start(self, run_id: str | None) -> str:
        """Start or continue a run; see `Tracker.start`.

        Raises:
            ConfigError: nobody is logged in, or a setting of W&B is wrong.
        """
        wandb, mode = self._wandb, None
        new_id = run_id or uuid.uuid4().hex[:12]
        try:
            try:
                run = self._init(new_id, mode)
            except (wandb.errors.UsageError, wandb.errors.AuthenticationError):
                raise
            except Exception as error:
                logger.warning(
                    "W&B cannot be reached: %s. The run is logged offline.",
                    safe_message(error)[:300],
                )
                run = self._init(new_id, "offline")
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise ConfigError(
                f"W&B cannot be used: {safe_message(error)} Run `wandb "
                "login`, set WANDB_API_KEY, or set WANDB_MODE=offline to upload the run later."
            ) from error
        self._run = run
        self.is_buffered = bool(run.offline)  # its process writes blocks of 32 KiB
        self.known_iteration = int(run.step) - 1 if run.resumed else None
        run.define_metric("*", step_metric=_AXIS)
        run.config.update(
            {**_nested(self.description.config), "versions": dict(self.description.versions)},
            allow_val_change=True,
        )
        if run.offline:
            folder = os.path.dirname(run.dir)
            logger.info("W&B is offline. To upload the run: wandb sync %s", folder)
        elif run.url:
            logger.info("W&B run: %s", run.url)
        return str(run.id)

    def _init(self, run_id: str, mode: str | None) -> Any:
        described = self.description
        options: dict[str, Any] = {"silent": True, "init_timeout": _START_SECONDS}
        if "WANDB_CONSOLE" not in os.environ:
            options["console"] = "off"  # log.txt has it
        if "finish_timeout" in getattr(self._wandb.Settings, "model_fields", {}):
            options["finish_timeout"] = CLOSE_SECONDS  # otherwise it waits for the network forever
        return self._wandb.init(
            project=described.project,
            name=described.name,
            tags=list(described.tags),
            id=run_id,
            resume="allow",
            dir=str(described.folder),
            mode=mode,
            settings=self._wandb.Settings(**options),
        )

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Log an iteration, which is W&B's step too; only late results come at a later step."""
        step = max(iteration, self._run.step)  # W&B drops what comes at an earlier one
        self._run.log({**metrics, _AXIS: iteration}, step=step, commit=True)

    def finish(self, status: str) -> None:
        """End the run; see `Tracker.finish`."""
        if status == KILLED:
            self._run.mark_preempting()
        self._run.finish(exit_code=1 if status in (FAILED, KILLED) else 0)


def import_wandb() -> Any:
    """Import the package.

    Raises:
        ConfigError: it is missing; a folder of the name, which W&B creates, is none.
    """
    what, install = 'The tracker "wandb" in TRACKING.TRACKERS', '"tood-detectron2[wandb]"'
    module = import_optional("wandb", what, install, ConfigError)
    if getattr(module, "init", None) is None:
        raise ConfigError(
            f"{what} needs the package wandb, which is not installed. Install it: pip install "
            f"{install}"
        )
    return module


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of keys as W&B shows them: {"A.B": 1} becomes {"A": {"B": 1}}."""
    nested: dict[str, Any] = {}
    for key, value in config.items():
        *parents, name = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return nested

"""MLflow (https://mlflow.org)."""

import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from tood_runtime.missing_packages import import_optional

from ...errors import ConfigError
from .base import FAILED, FINISHED, KILLED, RejectedError, RunDescription, Tracker
from .secrets import hide_secrets, safe_message

logger = logging.getLogger(__name__)

_STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", KILLED: "KILLED"}
# MLflow's limits of a request, and of the length of names and values.
_MAX_METRICS, _MAX_PARAMS, _MAX_NAME, _MAX_VALUE = 1000, 100, 250, 6000
_INVALID = re.compile(r"[^\w\-. :/]", re.ASCII)

Item = TypeVar("Item")


class MlflowTracker(Tracker):
    """A run of MLflow. ``MLFLOW_TRACKING_URI`` names the server or store.

    Args:
        description: of the training.

    Raises:
        ConfigError: the package is missing.
    """

    label = "MLflow"

    def __init__(self, description: RunDescription) -> None:
        super().__init__(description)
        self._mlflow = import_mlflow()
        self._client: Any = None
        self._run_id = ""
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.is_local = not uri.startswith(("http:", "https:", "databricks"))

    def start(self, run_id: str | None) -> str:
        """Start or continue a run; see `Tracker.start`.

        Raises:
            ConfigError: a store of this machine cannot be used.
        """
        try:
            self._client = self._client or self._mlflow.MlflowClient()
            known = self._find_run(run_id)
            run = self._create_run() if known is None else known
            self._run_id = str(run.info.run_id)
            self._log_params(dict(run.data.params))
            self._client.update_run(self._run_id, status="RUNNING")
        except self._mlflow.MlflowException as error:
            if not self.is_local:
                raise
            raise ConfigError(
                f"MLflow cannot be used: {safe_message(error)} Set MLFLOW_TRACKING_URI to a server "
                "or a store."
            ) from error
        logger.info(
            "MLflow run: %s of experiment %s, in %s",
            *(self._run_id, self.description.project),
            hide_secrets(str(self._mlflow.get_tracking_uri())),
        )
        return self._run_id

    def _find_run(self, run_id: str | None) -> Any:
        """The run to be continued; None if it was deleted since."""
        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = None
        if run is None or run.info.lifecycle_stage == "deleted":
            logger.warning("MLflow does not have the run %s any more: a new one starts.", run_id)
            return None
        return run

    def _create_run(self) -> Any:
        described = self.description
        experiment = self._client.get_experiment_by_name(described.project)
        experiment_id = (
            self._client.create_experiment(described.project)
            if experiment is None
            else experiment.experiment_id
        )
        tags = dict.fromkeys(described.tags, "true")
        return self._client.create_run(experiment_id, run_name=described.name, tags=tags)

    def _log_params(self, known: Mapping[str, str]) -> None:
        """Log the config and the versions; values that have changed become tags.

        MLflow keeps the first value of a parameter.
        """
        described = self.description
        values = {**described.config, **{f"versions.{k}": v for k, v in described.versions.items()}}
        params, tags = [], []
        for name, value in values.items():
            text = str(value)[:_MAX_VALUE] or "''"
            if name not in known:
                params.append(self._mlflow.entities.Param(name, text))
            elif known[name] != text:
                tags.append(self._mlflow.entities.RunTag(f"changed.{name}", text[:5000]))
        for part in _parts(params, _MAX_PARAMS):
            self._client.log_batch(self._run_id, params=part)
        for part in _parts(tags, _MAX_PARAMS):
            self._client.log_batch(self._run_id, tags=part)

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Log an iteration; see `Tracker.log`."""
        now = int(time.time() * 1000)
        entries = [
            self._mlflow.entities.Metric(metric_name(name), value, now, iteration)
            for name, value in metrics.items()
        ]
        try:
            for part in _parts(entries, _MAX_METRICS):
                self._client.log_batch(self._run_id, metrics=part)
        except self._mlflow.MlflowException as error:
            if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                raise RejectedError(str(error)) from error
            raise

    def finish(self, status: str) -> None:
        """End the run; see `Tracker.finish`."""
        self._client.set_terminated(self._run_id, _STATUS[status])


def import_mlflow() -> Any:
    """Import the package.

    Raises:
        ConfigError: it is missing.
    """
    what, install = 'The tracker "mlflow" in TRACKING.TRACKERS', '"tood-detectron2[mlflow]"'
    module = import_optional("mlflow", what, install, ConfigError)
    import_optional("mlflow.entities", what, install, ConfigError)
    return module


def metric_name(name: str) -> str:
    """The name of a metric in MLflow, which takes no other characters than ASCII's in names.

    Others, of class names, become their number: "bbox/AP-café" is "bbox/AP-caf_xe9_".
    """
    name = _INVALID.sub(lambda match: f"_x{ord(match[0]):x}_", name)
    if posixpath.normpath(name) != name or name.startswith(("/", "..")):
        name = name.replace("/", "_x2f_").replace("..", "_x2e__x2e_")
    return name[:_MAX_NAME]


def _parts(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part

"""The report about a training run or an evaluation, from the files in its folder."""

import logging
import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict

from ..checkpoint.info import current_versions
from ..data.formats.json_file import printable
from ..data.registration import load_dataset
from ..environment import version_of
from ..errors import DataError
from ..evaluation.building import COCO_TYPES, result_folder
from .content import EvaluatedSet, Report, RunFacts
from .detections import read_detections
from .metrics import read_metrics

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"
RESULT_FILE = "coco_instances_results.json"
METRICS_FILE = "metrics.json"

# Results in files and in memory are of the same numbers.
_TOLERANCE = 1e-6


def build_run_report(
    cfg: CfgNode,
    metrics_folder: str | os.PathLike[str] | None = None,
    results: Mapping[str, Any] | None = None,
    max_bytes: int | None = None,
) -> Report:
    """Build the report about the last evaluation in ``OUTPUT_DIR``.

    Args:
        cfg: of the run, after `tood.data.setup_datasets`.
        metrics_folder: where the training's ``metrics.json`` is; None for no curves.
        results: of the evaluation, as ``DefaultTrainer.test`` returns them. Files that say
            something else are those of an earlier one.
        max_bytes: of a file of results; None for no limit.

    Raises:
        DataError: there are no results of COCO's metric, or they are of another evaluation.
    """
    sets = []
    for name in cfg.DATASETS.TEST:
        kind = MetadataCatalog.get(name).get("evaluator_type") or ""
        dataset = load_dataset(name)
        if kind not in COCO_TYPES or not dataset.annotated:
            reason = f"evaluated as {kind}" if dataset.annotated else "without annotations"
            logger.info("The report leaves out %s, which is %s.", name, reason)
            continue
        path = os.path.join(result_folder(cfg, name), RESULT_FILE)
        rows = read_detections(path, dataset, max_bytes)
        evaluated = EvaluatedSet(
            name,
            dataset,
            rows,
            cfg.TEST.DETECTIONS_PER_IMAGE,
            bool(cfg.INPUT.APPLY_EXIF_ORIENTATION),
        )
        if results is not None:
            _compare(evaluated, results if len(cfg.DATASETS.TEST) == 1 else results.get(name, {}))
        sets.append(evaluated)
    if not sets:
        raise DataError("there is no test set with annotations that is evaluated as COCO is.")
    metrics = None
    if metrics_folder is not None and Path(metrics_folder, METRICS_FILE).is_file():
        metrics = read_metrics(Path(metrics_folder, METRICS_FILE))
    if results is not None:
        numbers = flatten_results_dict(results)
    else:
        numbers = {} if metrics is None else metrics.last_values()
    run = RunFacts(
        title=f"Report of {_folder_name(cfg.OUTPUT_DIR)}",
        metrics=metrics,
        best_metric=cfg.TEST.BEST_METRIC or "bbox/AP",
        results={name: float(value) for name, value in numbers.items()},
        facts=run_facts(cfg),
        config=cfg.dump(),
        versions=program_versions(),
    )
    return Report(sets, run, Path(cfg.OUTPUT_DIR, REPORT_FILE))


def _compare(evaluated: EvaluatedSet, results: Mapping[str, Any]) -> None:
    """Check that the file has the detections of this evaluation; writing it may have failed."""
    expected = float(results.get("bbox", {}).get("AP", math.nan))
    found = evaluated.coco.overall["AP"]
    both_nothing = math.isnan(expected) and math.isnan(found)
    if not both_nothing and not abs(expected - found) <= _TOLERANCE:
        raise DataError(
            f"the AP of {RESULT_FILE} is {found:.4f}, but this evaluation's is {expected:.4f}: the "
            "file is of another one."
        )


def run_facts(cfg: CfgNode) -> dict[str, str]:
    """What the summary says about a run in addition to AP."""
    facts = {"Model": cfg.MODEL.META_ARCHITECTURE}
    if cfg.MODEL.WEIGHTS:
        facts["Weights (MODEL.WEIGHTS)"] = printable(cfg.MODEL.WEIGHTS, 300)
    facts["Output folder"] = printable(os.path.abspath(cfg.OUTPUT_DIR), 300)
    return {**facts, **when_written()}


def when_written() -> dict[str, str]:
    """The time, for the summary."""
    return {"Written": time.strftime("%Y-%m-%d %H:%M %z")}


def program_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("faster-coco-eval", "pycocotools", "numpy", "matplotlib")
    return {
        **current_versions(),
        "python": platform.python_version(),
        **{package: version_of(package) for package in packages},
    }


def _folder_name(path: str) -> str:
    """The last parts of a path that tell it from other runs."""
    parts = Path(os.path.abspath(path)).parts[-2:]
    return printable("/".join(parts), 80)

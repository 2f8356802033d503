"""Writes the report after a training or an evaluation; it can fail without consequences."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

logger = logging.getLogger(__name__)

# Results above this take more than half a minute and 5 GB to evaluate once more: about 1.7 million
# detections.
MAX_BYTES = 256 << 20


def write_run_report(
    cfg: CfgNode,
    results: Mapping[str, Any] | None,
    metrics_folder: str | None = None,
) -> Path | None:
    """Write ``report.html`` about the last evaluation, if ``TEST.REPORT`` is on.

    Only the main process writes. What goes wrong is one line of the log: the results are in their
    files already, and ``tood report`` makes the report again.

    Args:
        cfg: of the run, after `tood.data.setup_datasets`.
        results: of the evaluation; without any, there is nothing to report.
        metrics_folder: where the training's ``metrics.json`` is; None for no curves.

    Returns:
        The path of the report; None if there is none.
    """
    if not (cfg.TEST.REPORT and cfg.DATASETS.TEST and results and comm.is_main_process()):
        return None
    start = time.perf_counter()
    try:
        # matplotlib takes a second to import, and most of a training's processes do not need it.
        from ..report.page import write_report
        from ..report.run import build_run_report

        report = build_run_report(cfg, metrics_folder, results, MAX_BYTES)
        write_report(report)
    except Exception as error:
        logger.warning("There is no report: %s", " ".join(str(error).split()) or repr(error))
        return None
    logger.info("The report is in %s (%.1f s).", report.path, time.perf_counter() - start)
    return report.path

"""``TEST.EXPECTED_RESULTS``: whether an evaluation found what the config expects."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict

from ..compat import compute_on_main_process
from ..errors import ResultError

logger = logging.getLogger(__name__)


def verify_expected_results(cfg: CfgNode, results: Mapping[str, Any] | None) -> None:
    """Compare the results of an evaluation with ``TEST.EXPECTED_RESULTS``.

    All processes call this together, after everything was written: detectron2's own function exits.

    Args:
        cfg: the config.
        results: of the evaluation, by task; read in the main process. None if there was none, as in
            a finished run that is resumed: a warning says that nothing was compared.

    Raises:
        ResultError: a result is missing, not finite, or further from the expected one than its
            tolerance; in every process.
    """
    if cfg.TEST.EXPECTED_RESULTS:
        compute_on_main_process(lambda: _verify(cfg, results))


def _verify(cfg: CfgNode, results: Mapping[str, Any] | None) -> None:
    if results is None:
        logger.warning("Nothing was evaluated, so TEST.EXPECTED_RESULTS were not verified.")
        return
    found = flatten_results_dict(results)
    misses = []
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        name = f"{task}/{metric}"
        if name not in found:
            names = ", ".join(key for key in found if "-" not in key)  # without those of each class
            misses.append(f"there is no {name}. Available: {names}")
            continue
        actual = float(found[name])
        text = f"{name} is {actual:.4g}, expected {expected:g} ± {tolerance:g}"
        if math.isfinite(actual) and abs(actual - expected) <= tolerance:
            logger.info("TEST.EXPECTED_RESULTS: %s.", text)
        else:
            misses.append(text)
    if misses:
        raise ResultError(
            f"The results are not those of TEST.EXPECTED_RESULTS: {'; '.join(misses)}. The run's "
            "files are complete. Find the cause, or change the expectation."
        )

"""COCO evaluation in seconds instead of minutes."""

import functools
import logging
from typing import Any

from detectron2.evaluation import COCOEvaluator

from ..compat import replaced_cocoeval

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:  # no wheel for this platform
    COCOeval_faster = None

logger = logging.getLogger(__name__)


class FastCOCOEvaluator(COCOEvaluator):
    """Drop-in replacement for detectron2's ``COCOEvaluator``, with the same arguments and results.

    Matching and accumulation run in the C++ of faster-coco-eval, or in pycocotools where that is
    not installed. detectron2's own C++ is never used, so this evaluator also works where
    ``COCOEvaluator("my_dataset")`` fails because its compiled operators are missing.

    Args:
        *args: see ``COCOEvaluator``.
        **kwargs: see ``COCOEvaluator``. ``use_fast_impl``, which selects its C++, is ignored.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "use_fast_impl": False})

    def _eval_predictions(self, *args: Any, **kwargs: Any) -> None:
        """Evaluate the collected predictions; see ``COCOEvaluator``."""
        if COCOeval_faster is None:
            logger.info("Evaluating with pycocotools. For speed: pip install faster-coco-eval")
            super()._eval_predictions(*args, **kwargs)
            return
        with replaced_cocoeval(functools.partial(COCOeval_faster, print_function=print)):
            super()._eval_predictions(*args, **kwargs)

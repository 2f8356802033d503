"""COCO evaluation in seconds instead of minutes."""

import functools
import logging

from detectron2.evaluation import COCOEvaluator, coco_evaluation

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:  # no wheel for this machine
    COCOeval_faster = None


logger = logging.getLogger(__name__)


class FastCOCOEvaluator(COCOEvaluator):
    """detectron2's ``COCOEvaluator``, with matching and accumulation by faster-coco-eval's C++.

    The same arguments, and the same numbers as pycocotools, which is taken where faster-coco-eval
    is not installed.
    """

    def _eval_predictions(self, *args: object, **kwargs: object) -> None:
        """Evaluate what was collected; see detectron2."""
        self._use_fast_impl = False  # detectron2's own C++, which may be missing
        pycocotools_class = coco_evaluation.COCOeval
        if COCOeval_faster is None:
            logger.info("Evaluating by pycocotools; pip install faster-coco-eval is much faster.")
        else:  # where detectron2 looks for it; it offers no other way in
            coco_evaluation.COCOeval = functools.partial(COCOeval_faster, print_function=print)
        try:
            super()._eval_predictions(*args, **kwargs)
        finally:
            coco_evaluation.COCOeval = pycocotools_class

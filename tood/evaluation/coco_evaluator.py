"""COCO evaluation in seconds instead of minutes, against the data that the model is trained on."""

import functools
import io
import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..checkpoint.saving import make_folder, write_bytes, write_text
from ..data.dataset import DetectionDataset, FileId
from ..data.formats.json_file import printable
from ..data.mask_checks import require_masks
from ..data.registration import load_dataset, validate_ground_truth
from ..errors import CheckpointError, ConfigError, DataError
from .coco_metrics import STANDARD_LIMITS, format_summary, make_coco, run_coco_evaluation
from .keypoint_tasks import (
    dataset_sigmas,
    validate_predicted_keypoints,
    warn_about_crowded_keypoints,
    with_copied_keypoints,
)
from .proposal_files import dump_proposals

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:  # no wheel for this platform
    COCOeval_faster = None

logger = logging.getLogger(__name__)

# The results of a model by image, as COCOEvaluator collects them.
Predictions = list[dict[str, Any]]


class FastCOCOEvaluator(COCOEvaluator):
    """Replacement for detectron2's ``COCOEvaluator``, with the same results but for four things.

    Boxes outside of their image are ignored, because detections are clipped to it; objects of any
    size count, not only those up to 1e5 x 1e5 pixels; and the files are written after the
    evaluation, so a full disk costs no AP. With ``MODEL.MASK_ON``, objects whose mask is invalid
    are not part of the dataset, with a warning that counts them: box AP is then without them too.

    The ground truth is the normalized dataset (`tood.data.registration.load_dataset`), so training
    and evaluation have the same boxes, and no JSON file is read or written for it. Matching and
    accumulation run in the C++ of faster-coco-eval, or in pycocotools where that is not installed.

    The results are written to ``coco_instances_results.json`` with the ids that images and
    categories have in the dataset's file.

    Args:
        dataset_name: of a registered dataset.
        tasks: some of "bbox", "segm" and "keypoints"; by default what the model predicts. "segm"
            needs a dataset that was read with ``MODEL.MASK_ON``, "keypoints" one that was read with
            ``MODEL.KEYPOINT_ON``.
        distributed: collect the results of all processes.
        output_dir: folder for the results; None writes none. A file that cannot be written is an
            error in the log, unless there is no ground truth and so no AP.
        use_fast_impl: ignored; ``COCOEvaluator`` selects detectron2's own C++ with it.
        kpt_oks_sigmas: one for each keypoint (``TEST.KEYPOINT_OKS_SIGMAS``); none for COCO's 17.
        max_dets_per_image: how many detections per image and class count; at least 100, COCO's
            number. A negative number means all. Up to 100, COCO's 20 count for keypoints.

    Raises:
        ConfigError: the numbers of sigmas and of keypoints differ.
        DataError: the dataset has no ground truth to evaluate against.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | os.PathLike | None = None,
        *,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        max_dets_per_image: int | None = None,
    ) -> None:
        self._logger = logger
        self._distributed = distributed
        # COCOEvaluator would write into its _output_dir before it evaluates.
        self._output_dir: str | None = None
        self._folder = None if output_dir is None else os.fspath(output_dir)
        self._tasks = tasks
        self._cpu_device = "cpu"
        self._metadata = MetadataCatalog.get(dataset_name)
        dataset = load_dataset(dataset_name)
        validate_ground_truth(dataset)
        self._dataset = _ignore_outside_boxes(dataset)
        self._do_evaluation = self._dataset.annotated
        self._positions = {image_id: i for i, image_id in enumerate(self._dataset.image_ids)}
        self._max_dets = STANDARD_LIMITS[-1] if max_dets_per_image is None else max_dets_per_image
        self._kpt_oks_sigmas = list(kpt_oks_sigmas)
        if dataset.keypoints is not None and "keypoints" in (tasks or ("keypoints",)):
            self._kpt_oks_sigmas = dataset_sigmas(dataset, kpt_oks_sigmas)
            warn_about_crowded_keypoints(self._dataset, self._max_dets)
        _warn_about_crowded_images(self._dataset, self._max_dets)

    @functools.cached_property
    def _coco_api(self) -> COCO:
        """The ground truth with ids 1..N; only the process that evaluates builds it."""
        return make_coco(self._dataset.to_coco())

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Add a batch.

        Args:
            inputs: the model's inputs.
            outputs: the model's outputs for them.

        Raises:
            DataError: an image is not in the dataset.
        """
        for x in inputs:
            if x.get("image_id") not in self._positions:
                raise DataError(
                    f"The image {x.get('image_id')!r} is not in {self._dataset.source}. Evaluate "
                    "the dataset that the evaluator was built for."
                )
        super().process(inputs, [with_copied_keypoints(output) for output in outputs])

    def _eval_predictions(
        self, predictions: Predictions, img_ids: Sequence[FileId] | None = None
    ) -> None:
        """Evaluate the collected predictions and write them; see ``COCOEvaluator``."""
        results = list(itertools.chain(*(x["instances"] for x in _one_per_image(predictions))))
        results = self._known_classes(results)
        try:
            if self._do_evaluation:
                self._evaluate_results(results, img_ids)
            else:
                source = self._dataset.source
                logger.info("%s has no annotations, so only results are written.", source)
        finally:
            if self._folder is not None:
                self._write_files(self._folder, predictions, results)

    def _evaluate_results(
        self, results: list[dict[str, Any]], img_ids: Sequence[FileId] | None
    ) -> None:
        results = [
            {
                **result,
                "image_id": self._positions[result["image_id"]] + 1,
                "category_id": result["category_id"] + 1,
            }
            for result in results
        ]
        positions = None if img_ids is None else [self._positions[x] + 1 for x in img_ids]
        for task in sorted(self._tasks or self._tasks_of(results)):
            evaluated = self._evaluate_task(task, results, positions)
            self._results[task] = self._derive_coco_results(
                evaluated, task, class_names=self._dataset.class_names
            )

    def _tasks_of(self, results: list[dict[str, Any]]) -> set[str]:
        """What a model predicts; without predictions, what its dataset was read for."""
        tasks = set(self._tasks_from_predictions(results))
        if not results and self._dataset.segmentations is not None:
            tasks.add("segm")
        return tasks

    def _evaluate_task(
        self, task: str, results: list[dict[str, Any]], image_ids: Sequence[int] | None
    ) -> Any | None:
        if task == "keypoints":
            sigmas = dataset_sigmas(self._dataset, self._kpt_oks_sigmas)
            validate_predicted_keypoints(results, len(sigmas))
        if task == "segm" and self._dataset.segmentations is None:
            raise ConfigError(
                f"No masks of {self._dataset.source} were read. If it has masks, set MODEL.MASK_ON "
                'True; else evaluate boxes only with tasks=("bbox",).'
            )
        if task == "segm":
            require_masks(self._dataset)
        if not results:
            return None  # pycocotools cannot load them; all metrics are NaN
        implementation = COCOeval
        if COCOeval_faster is None:
            logger.info("Evaluating with pycocotools. For speed: pip install faster-coco-eval")
        elif task == "bbox":
            implementation = functools.partial(COCOeval_faster, print_function=logger.debug)
        limit = self._max_dets
        if limit < 0:
            # All of them, also of fewer keypoints than the limit of boxes.
            least = STANDARD_LIMITS[-1] + 1 if task == "keypoints" else 0
            limit = max(least, _largest_count(results))
        evaluated = run_coco_evaluation(
            *(self._coco_api, results, task, limit, image_ids, implementation),
            oks_sigmas=self._kpt_oks_sigmas,
        )
        logger.info("Results for %s:\n%s", task, format_summary(evaluated))
        return evaluated

    def _eval_box_proposals(self, predictions: Predictions) -> None:
        """Evaluate proposals, which ``COCOEvaluator`` matches by the ids of the ground truth."""
        predictions = _one_per_image(predictions)
        try:
            super()._eval_box_proposals(
                [{**x, "image_id": self._positions[x["image_id"]] + 1} for x in predictions]
            )
        finally:
            if self._folder is not None:
                self._write_proposals(self._folder, predictions)

    def _write_proposals(self, folder: str, predictions: Predictions) -> None:
        try:
            make_folder(folder)
            write_bytes(os.path.join(folder, "box_proposals.pkl"), dump_proposals(predictions))
        except CheckpointError as error:
            if not self._do_evaluation:
                raise
            logger.error("%s", error)

    def _known_classes(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out classes beyond the dataset's, if it does not say how many it has."""
        num_classes = len(self._dataset.class_names)
        known = [result for result in results if result["category_id"] < num_classes]
        if len(known) < len(results) and self._metadata.get("thing_classes"):
            largest = max(result["category_id"] for result in results)
            raise ConfigError(
                f"The model predicts class {largest}, but {self._dataset.source} has {num_classes} "
                "classes. Evaluate on a dataset with the model's classes."
            )
        return known

    def _write_files(
        self, folder: str, predictions: Predictions, results: list[dict[str, Any]]
    ) -> None:
        """Write ``instances_predictions.pth``, as ``COCOEvaluator`` does, and the results."""
        path = os.path.join(folder, "coco_instances_results.json")
        ids = self._dataset.category_ids
        try:
            make_folder(folder)
            buffer = io.BytesIO()
            torch.save(predictions, buffer)
            write_bytes(os.path.join(folder, "instances_predictions.pth"), buffer.getvalue())
            logger.info("Saving results to %s", path)
            entries = [{**x, "category_id": ids[x["category_id"]]} for x in results]
            write_text(path, json.dumps(entries))
        except CheckpointError as error:
            if not self._do_evaluation:
                raise
            logger.error("%s", error)


def _ignore_outside_boxes(dataset: DetectionDataset) -> DetectionDataset:
    """Ignore boxes outside of their image, which training skips, with a warning."""
    outside = dataset.is_outside & ~dataset.is_crowd
    rows = np.flatnonzero(outside)
    if not len(rows):
        return dataset
    logger.warning(
        "Evaluation ignores boxes outside of their image: %d, for example %s in %s.",
        len(rows),
        dataset.boxes[rows[0]].tolist(),
        printable(dataset.file_names[dataset.image_index[rows[0]]]),
    )
    return dataset.ignore_outside_boxes()


def _one_per_image(predictions: Predictions) -> Predictions:
    """Leave out images that a sampler repeated so that each process has the same number."""
    return list({x["image_id"]: x for x in predictions}.values())


def _largest_count(results: list[dict[str, Any]]) -> int:
    return max(Counter(result["image_id"] for result in results).values())


def _warn_about_crowded_images(dataset: DetectionDataset, limit: int) -> None:
    """Warn where an image has more objects than detections are evaluated."""
    if limit < 0 or not dataset.num_boxes:
        return
    counts = np.bincount(dataset.image_index[~dataset.is_crowd], minlength=len(dataset))
    crowded = np.flatnonzero(counts > limit)
    if len(crowded):
        worst = int(counts.argmax())
        logger.warning(
            "%d images of %s have more objects than the %d detections per image that count, for "
            "example %s with %d. The others count as missed. Raise TEST.DETECTIONS_PER_IMAGE, or "
            "set it to -1 for all detections.",
            len(crowded),
            dataset.source,
            limit,
            printable(dataset.file_names[worst]),
            counts[worst],
        )

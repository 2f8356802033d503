"""What one evaluation consists of: the plain pass, with losses, and test-time augmentation."""

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA
from torch import nn

from ..data import build_test_loader
from ..data.batches import Batch
from ..data.mapper import DetectionMapper
from ..data.views import TestViews, with_views
from ..evaluation import add_loss_evaluator, result_folder
from ..modeling.dense_detector import find_dense_core
from .averaging import WeightAverage, put_into_model

logger = logging.getLogger(__name__)

# What detectron2 appends to the names of results with test-time augmentation: bbox_TTA/AP.
_SUFFIX = "_TTA"

Results = dict[str, Any]


def evaluate(trainer: type[DefaultTrainer], cfg: CfgNode, model: nn.Module) -> Results:
    """Evaluate a model, and once more with test-time augmentation if ``TEST.AUG`` asks for it.

    Args:
        trainer: the class, whose ``test`` and ``test_with_TTA`` evaluate.
        cfg: the config.
        model: the model.
    """
    results: Results = trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        merge_results(results, trainer.test_with_TTA(cfg, model))
    return results


def evaluate_average(
    trainer: type[DefaultTrainer], cfg: CfgNode, model: nn.Module, average: WeightAverage | None
) -> Results:
    """Evaluate the average of a model's weights if there is one, and the weights if asked for."""
    with put_into_model(average):
        results = evaluate(trainer, cfg, model)
    if average is not None and cfg.SOLVER.EMA.EVAL_RAW:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "raw")
        for name, value in evaluate(trainer, cfg, model).items():
            results[f"raw_{name}"] = value
    return results


def merge_results(results: Results, others: Results) -> None:
    """Add results to others, also within the groups of several test sets."""
    for name, value in others.items():
        if name in results:
            results[name].update(value)
        else:
            results[name] = value


def loss_evaluators(
    trainer: type[DefaultTrainer], cfg: CfgNode, model: nn.Module
) -> list[DatasetEvaluator] | None:
    """The evaluators that also compute losses; None for the usual ones."""
    if not cfg.TEST.LOSS:
        return None
    return [
        add_loss_evaluator(trainer.build_evaluator(cfg, name), name, model)
        for name in cfg.DATASETS.TEST
    ]


def evaluate_views(
    trainer: type[DefaultTrainer], cfg: CfgNode, model: nn.Module, our_loader: Any
) -> Results:
    """Evaluate a model with test-time augmentation, without losses.

    Args:
        trainer: the class, whose ``test`` evaluates.
        cfg: the config.
        model: a `TOOD`, or a GeneralizedRCNN, for which detectron2 has its own augmentation.
        our_loader: the method ``build_test_loader`` of `Trainer`. Where the class has its own,
            views are made of the images that it gives, as detectron2 makes them. These are resized
            already.

    Returns:
        The results of ``test``, with tasks such as "bbox_TTA".
    """
    node = cfg.TEST.AUG
    logger.info(
        "Evaluating with test-time augmentation: sizes %s%s.",
        ", ".join(map(str, node.MIN_SIZES)),
        ", each mirrored too" if node.FLIP else "",
    )
    evaluators = [
        trainer.build_evaluator(cfg, name, result_folder(cfg, name, f"inference{_SUFFIX}"))
        for name in cfg.DATASETS.TEST
    ]
    if hasattr(find_dense_core(model), "image_candidates"):
        is_ours = trainer.build_test_loader.__func__ is our_loader.__func__
        trainer = _with_views(trainer, is_ours)
    else:
        model = GeneralizedRCNNWithTTA(cfg, model).train(model.training)
    results: Results = trainer.test(cfg, model, evaluators)
    if len(cfg.DATASETS.TEST) == 1:
        return _renamed(results)
    return {dataset: _renamed(tasks) for dataset, tasks in results.items()}


def _renamed(results: Results) -> Results:
    return {f"{task}{_SUFFIX}": value for task, value in results.items()}


def _with_views(trainer: type[DefaultTrainer], is_ours: bool) -> type[DefaultTrainer]:
    """The trainer with a test loader whose images have their views."""

    class ViewTrainer(trainer):  # type: ignore[valid-type, misc]
        @classmethod
        def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Batch]:
            views = TestViews.from_config(cfg)
            if is_ours:  # from the images as they are stored
                mapper = DetectionMapper(cfg, is_train=False, views=views)
                return build_test_loader(cfg, dataset_name, mapper)
            return _ViewLoader(super().build_test_loader(cfg, dataset_name), views)

    return ViewTrainer


class _ViewLoader:
    """Adds their views to the images of another test loader."""

    def __init__(self, loader: Any, views: TestViews) -> None:
        self._loader, self._views = loader, views

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield [with_views(x, self._views) for x in batch]

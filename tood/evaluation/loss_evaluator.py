"""Computes the losses of training on a test set, while it is evaluated."""

import logging
from collections import defaultdict
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch import Tensor, nn

from ..analysis.recorder import PredictionRecorder
from ..data.registration import load_dataset
from ..errors import ConfigError
from ..modeling.dense_detector import find_dense_core
from ..modeling.structures import LossSum

logger = logging.getLogger(__name__)

# The results are validation/total_loss, validation/loss_cls, ...
RESULT_GROUP = "validation"


def is_validation_loss(metric: str) -> bool:
    """Whether a metric, by its name in ``metrics.json``, is a loss: lower is better.

    Also one of the weights that are evaluated next to their average ("raw_validation/...").
    """
    groups = [group.removeprefix("raw_") for group in metric.split("/")[:-1]]
    return RESULT_GROUP in groups


class LossEvaluator(DatasetEvaluator):
    """Computes the losses of the model's current phase from the predictions of an evaluation.

    Runs in the same pass as a ``COCOEvaluator`` (combine them with ``DatasetEvaluators``), on any
    number of processes. The model stays in eval mode, and neither gradients nor assignment
    statistics are touched.

    Each loss is summed over the test set and divided by the sum of its normalizers, as if the test
    set were a single batch of training. It does not depend on how images are divided into batches
    and processes, and images without ground truth count with their background. A batch of
    differently sized images is padded, which changes a little, as in training.

    Args:
        model: a `TOOD`, also inside DistributedDataParallel. Its inputs need "instances"; see
            `tood.data.build_test_loader`.

    Raises:
        ConfigError: the model is of another kind.
    """

    def __init__(self, model: nn.Module) -> None:
        core: Any = find_dense_core(model)
        if not hasattr(core, "prepare_ground_truth"):
            kind = type(getattr(model, "module", model)).__name__
            raise ConfigError(
                f"TEST.LOSS is True, but the losses of {kind} cannot be computed while it is "
                "evaluated. Set it to False, or use MODEL.META_ARCHITECTURE TOOD."
            )
        self._model = core
        self._recorder = PredictionRecorder(model)
        self._sums: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Start over, and start to record the model's predictions."""
        self._sums = {}
        self._recorder.start()

    @torch.no_grad()
    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Add a batch, which the model has just run on.

        Args:
            inputs: the model's inputs.
            outputs: not read.

        Raises:
            ConfigError: the model was called with test-time augmentation.
        """
        self._recorder.require_single_view(inputs)
        model = self._model
        sums, _ = model.phases[model.phase].loss_sums(
            self._recorder.grid,
            self._recorder.predictions,
            model.prepare_ground_truth(inputs),
            [(int(x["image"].shape[-2]), int(x["image"].shape[-1])) for x in inputs],
            model.backbone.size_divisibility,
        )
        for name, loss in sums.items():
            pair = torch.stack([loss.total, loss.normalizer]).double()
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Stop recording and combine all processes.

        Returns:
            ``{"validation": {"total_loss": ..., "loss_cls": ..., ...}}``, weighted as in training,
            on the main process, else None. Empty if there were no images.
        """
        self._recorder.stop()
        totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        parts = comm.gather({name: pair.tolist() for name, pair in self._sums.items()})
        if not comm.is_main_process():
            return None
        for part in parts:
            for name, (total, normalizer) in part.items():
                totals[name][0] += total
                totals[name][1] += normalizer
        sums = {
            name: LossSum(torch.tensor(total), torch.tensor(normalizer))
            for name, (total, normalizer) in totals.items()
        }
        normalizers = {name: loss.normalizer.clamp(min=1) for name, loss in sums.items()}
        losses = {
            name: float(loss)
            for name, loss in self._model.normalize_losses(sums, normalizers).items()
        }
        if not losses:
            return {}
        return {RESULT_GROUP: {"total_loss": sum(losses.values()), **losses}}


def add_loss_evaluator(
    evaluator: DatasetEvaluator, dataset_name: str, model: nn.Module
) -> DatasetEvaluator:
    """Add a `LossEvaluator` to the evaluator of a dataset, where there are losses.

    Args:
        evaluator: of the dataset.
        dataset_name: of the dataset.
        model: the model that is evaluated.

    Returns:
        Both; the evaluator alone, with a warning, for an exported model or a dataset without
        annotations.
    """
    if find_dense_core(model) is None:
        logger.warning("TEST.LOSS is ignored: an exported model has no losses.")
    elif not load_dataset(dataset_name).annotated:
        logger.warning("TEST.LOSS is ignored: %s has no annotations.", dataset_name)
    else:
        return DatasetEvaluators([evaluator, LossEvaluator(model)])
    return evaluator

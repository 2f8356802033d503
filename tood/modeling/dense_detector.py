"""The core of a dense detector: everything from feature maps to losses and detections.

:class:`~tood.modeling.meta_arch.TOOD` adds a backbone, image normalization and detectron2's input
and output format. Code that starts from feature maps uses the core directly, so anchors, head and
post-processing are combined in one place.

Shapes: **N** images, **Hi, Wi** the map of level i, **R** points over all levels, **K** classes.
Pixels are those of the network's input.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..errors import ConfigError
from .anchors import generate_anchors
from .assignment_stats import AssignmentStatistics
from .events import log_statistics
from .normalizers import BatchParts, batch_normalizers
from .phases import Phase
from .postprocessing import image_candidates, postprocess_single_image
from .structures import (
    AnchorGrid,
    Assignment,
    DensePredictions,
    GroundTruth,
    ImageDetections,
    LossSum,
)


class DenseDetectorCore(nn.Module):
    """Anchors, head, assigners, losses and post-processing of a dense detector.

    Training has two phases, each with an assigner and its losses: ``"warmup"`` (ATSS, focal loss)
    and ``"aligned"`` (task alignment learning). :meth:`set_phase` switches between them;
    ``tood.engine.PhaseHook`` calls it at every step. The phase is not part of the state_dict,
    because it follows from the iteration.

    Args:
        head: see ``DENSE_HEAD_REGISTRY``.
        head_in_features: names of the feature maps that the head gets, finest first.
        level_strides: stride of each of them, in pixels.
        anchor_generator: detectron2's, with one anchor per location.
        phases: a :class:`Phase` for each name in :data:`~tood.modeling.phases.PHASES`.
        initial_phase: the phase that epoch 0 has.
        num_classes: K.
        loss_weights: weight of each loss by name; 1 for others.
        test_score_thresh: candidates must score more than this, before centerness.
        test_topk_candidates: maximum number of candidates per level.
        test_nms_thresh: boxes of one class with a larger IoU suppress each other.
        max_detections_per_image: maximum number of detections; negative for all of them.

    Raises:
        ConfigError: the anchor generator has more than one anchor per location.
        ValueError: the head was built for other strides.
    """

    def __init__(
        self,
        *,
        head: nn.Module,
        head_in_features: list[str],
        level_strides: list[int],
        anchor_generator: nn.Module,
        phases: dict[str, Phase],
        initial_phase: str,
        num_classes: int,
        loss_weights: dict[str, float],
        test_score_thresh: float,
        test_topk_candidates: int,
        test_nms_thresh: float,
        max_detections_per_image: int,
    ) -> None:
        super().__init__()
        if set(anchor_generator.num_anchors) != {1}:
            raise ConfigError(
                "TOOD needs one anchor per location, but MODEL.ANCHOR_GENERATOR gives "
                f"{anchor_generator.num_anchors} on its levels. Use one size per level in SIZES "
                "and one ratio in ASPECT_RATIOS."
            )
        if getattr(head, "strides", level_strides) != level_strides:
            raise ValueError(f"The head has strides {head.strides}, but the levels {level_strides}")
        self.head = head
        self.head_in_features = head_in_features
        self.level_strides = level_strides
        self.anchor_generator = anchor_generator
        self.phases = phases
        self._phase = initial_phase
        self._phase_was_set = False
        self.num_classes = num_classes
        self.loss_weights = loss_weights
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.assignment_statistics = AssignmentStatistics()
        self.batch_parts: BatchParts | None = None

    @property
    def phase(self) -> str:
        """The phase of training, one of :data:`~tood.modeling.phases.PHASES`."""
        return self._phase

    def set_phase(self, phase: str) -> None:
        """Choose the phase of training.

        Args:
            phase: ``"warmup"`` or ``"aligned"``.

        Raises:
            ValueError: another name.
        """
        if phase not in self.phases:
            raise ValueError(f"Unknown phase {phase!r}. Available: {', '.join(self.phases)}")
        self._phase = phase
        self._phase_was_set = True

    @contextmanager
    def in_parts(self, num_parts: int) -> Iterator[BatchParts]:
        """Process one batch of training in several forward passes.

        Losses are divided by the normalizers of the whole batch; see :class:`BatchParts`. TOOD's
        drawings are made of the first part (detectron2's two-stage models draw each part), and
        assignment statistics are logged once.

        Args:
            num_parts: how many.

        Yields:
            The parts; iterate over them, with a forward pass for each.
        """
        self.batch_parts = BatchParts(num_parts)
        try:
            yield self.batch_parts
        finally:
            self.batch_parts = None

    def predict(self, features: Mapping[str, Tensor]) -> tuple[AnchorGrid, DensePredictions]:
        """Generate anchors and run the head. A trace is right for every batch and size.

        Args:
            features: maps (N, C, Hi, Wi) by name; others than ``head_in_features`` are not read.

        Returns:
            The anchors, and scores and boxes at each of them.
        """
        maps = [features[name] for name in self.head_in_features]
        anchors = generate_anchors(self.anchor_generator, maps)
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        grid = AnchorGrid.from_levels(anchors, shapes, self.level_strides)
        return grid, self.head(maps, anchors)

    def loss_sums(
        self,
        grid: AnchorGrid,
        predictions: DensePredictions,
        ground_truth: list[GroundTruth],
        image_sizes: list[tuple[int, int]],
        size_divisor: int,
    ) -> dict[str, LossSum]:
        """Assign targets with the current phase's assigner and sum its losses.

        Also logs assignment statistics.

        Args:
            grid: of :meth:`predict`.
            predictions: of :meth:`predict`.
            ground_truth: of each image, on the same device.
            image_sizes: (height, width) of each image without padding.
            size_divisor: the backbone's divisor of sizes; see
                :func:`~tood.modeling.targets.compute_targets`.

        Returns:
            ``loss_cls``, ``loss_box_reg``, and ``loss_centerness`` if the head predicts centerness.
        """
        if not self._phase_was_set and self.phase == "warmup":
            log_first_n(
                logging.WARNING,
                "set_phase() was never called, so training stays in the warm-up phase. In your own "
                "training loop, register tood.engine.PhaseHook or call set_phase().",
                name="tood",
            )
        sums, assignments = self.phases[self.phase].loss_sums(
            grid, predictions, ground_truth, image_sizes, size_divisor
        )
        self._log_assignment_stats(ground_truth, assignments)
        return sums

    def normalize_losses(
        self, sums: dict[str, LossSum], normalizers: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Divide each sum by its normalizer, and weight it.

        Args:
            sums: of :meth:`loss_sums`.
            normalizers: what to divide by instead of the sums' own normalizers, averaged over all
                processes, at least 1, or those of the batch of :meth:`in_parts`.

        Returns:
            Scalar losses by name.
        """
        if normalizers is None:
            parts = self.batch_parts
            normalizers = batch_normalizers(sums) if parts is None else parts.normalizers(sums)
        return {
            name: loss.total / normalizers[name] * self.loss_weights.get(name, 1.0)
            for name, loss in sums.items()
        }

    def detect(
        self,
        predictions: DensePredictions,
        image_sizes: Sequence[tuple[int, int] | None],
        score_thresh: float | None = None,
    ) -> list[ImageDetections]:
        """Detections of each image of a batch.

        Args:
            predictions: of :meth:`predict`.
            image_sizes: (height, width) of each image, to clip to; None leaves its boxes as
                predicted.
            score_thresh: instead of ``test_score_thresh``.

        Returns:
            For each image its detections, best first.
        """
        return [
            postprocess_single_image(
                *predictions.for_image(index),
                score_thresh=self.test_score_thresh if score_thresh is None else score_thresh,
                topk_candidates=self.test_topk_candidates,
                nms_thresh=self.test_nms_thresh,
                max_detections=self.max_detections_per_image,
                image_size=image_size,
            )
            for index, image_size in enumerate(image_sizes)
        ]

    def candidates(
        self,
        predictions: DensePredictions,
        score_thresh: float | None = None,
        class_ids: Sequence[int] | None = None,
    ) -> list[ImageDetections]:
        """What :meth:`detect` chooses from: the candidates of each image of a batch, before NMS.

        Args:
            predictions: of :meth:`predict`.
            score_thresh: instead of ``test_score_thresh``.
            class_ids: candidates of these classes only; None for all.

        Returns:
            For each image its candidates, not clipped, in no order.
        """
        return [
            image_candidates(
                *predictions.for_image(index),
                score_thresh=self.test_score_thresh if score_thresh is None else score_thresh,
                topk_candidates=self.test_topk_candidates,
                class_ids=class_ids,
            )
            for index in range(len(predictions.scores[0]))
        ]

    def _log_assignment_stats(
        self, ground_truth: list[GroundTruth], assignments: list[Assignment]
    ) -> None:
        """Accumulate statistics of this process's assignments, and store them periodically."""
        for gt, assignment in zip(ground_truth, assignments, strict=True):
            self.assignment_statistics.update(assignment.matched_idxs, gt.areas)
        if self.batch_parts is None or self.batch_parts.is_last:
            log_statistics(self.assignment_statistics)


def find_dense_core(model: nn.Module) -> DenseDetectorCore | None:
    """Find the core: the model itself or a submodule, also behind DistributedDataParallel.

    Returns:
        The first core, or None for models without one, such as detectron2's RetinaNet.
    """
    return next((m for m in model.modules() if isinstance(m, DenseDetectorCore)), None)

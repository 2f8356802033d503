"""The two phases of training: which assigner and which criterion each of them uses."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ..errors import ConfigError
from ..registry import get_registered
from .assigners import ASSIGNER_REGISTRY, Assigner
from .criteria import CRITERION_REGISTRY
from .profiling import profiler_range
from .structures import (
    AnchorGrid,
    Assignment,
    DensePredictions,
    DenseTargets,
    FlatPredictions,
    GroundTruth,
    LossSum,
)
from .targets import compute_targets

# ATSS and focal loss first, then task alignment learning.
PHASES = ("warmup", "aligned")


@dataclass(frozen=True)
class Phase:
    """One phase: how points are assigned, and the losses of the resulting targets."""

    assigner: Assigner
    criterion: Callable[[FlatPredictions, DenseTargets], dict[str, LossSum]]

    def loss_sums(
        self,
        grid: AnchorGrid,
        predictions: DensePredictions,
        ground_truth: list[GroundTruth],
        image_sizes: list[tuple[int, int]],
        size_divisor: int,
    ) -> tuple[dict[str, LossSum], list[Assignment]]:
        """Assign targets and sum the losses; arguments as in ``DenseDetectorCore.loss_sums``.

        Returns:
            The losses by name, and each image's assignment.
        """
        # float16 underflows in u^6 and in losses on probabilities.
        with torch.autocast(grid.anchors.device.type, enabled=False):
            flat = predictions.flatten()
            with profiler_range("tood/targets"):
                targets, assignments = compute_targets(
                    self.assigner, flat, grid, image_sizes, size_divisor, ground_truth
                )
            with profiler_range("tood/losses"):
                return self.criterion(flat, targets), assignments


def build_phases(tood_node: CfgNode) -> dict[str, Phase]:
    """Build the assigners and criteria that the nodes ``WARMUP`` and ``ALIGNED`` name.

    Args:
        tood_node: ``cfg.MODEL.TOOD``.

    Raises:
        ConfigError: an unknown assigner or criterion, arguments that do not fit it, or a negative
            length.
    """
    if tood_node.WARMUP.EPOCHS < 0:
        raise ConfigError(
            f"MODEL.TOOD.WARMUP.EPOCHS is {tood_node.WARMUP.EPOCHS}. Use 0 or more; 0 trains "
            "without a warm-up phase."
        )
    phases = {
        phase: Phase(
            _build(ASSIGNER_REGISTRY, tood_node, f"{phase.upper()}.ASSIGNER"),
            _build(CRITERION_REGISTRY, tood_node, f"{phase.upper()}.CRITERION"),
        )
        for phase in PHASES
    }
    for phase, parts in phases.items():
        _validate_num_levels(
            parts.assigner, len(tood_node.IN_FEATURES), f"{phase.upper()}.ASSIGNER"
        )
    return phases


def part_nodes(tood_node: CfgNode) -> set[str]:
    """The config nodes, relative to ``tood_node``, that the chosen assigners and criteria read."""
    chosen = [
        (registry, tood_node[phase.upper()][part])
        for phase in PHASES
        for registry, part in ((ASSIGNER_REGISTRY, "ASSIGNER"), (CRITERION_REGISTRY, "CRITERION"))
    ]
    classes = [registry.get(name) for registry, name in chosen if name in registry]
    return {cls.config_node for cls in classes if getattr(cls, "config_node", None)}


def _build(registry: Registry, tood_node: CfgNode, key: str) -> Any:
    """Build the class that ``key`` names, with its config node's keys as arguments."""
    phase, part = key.split(".")
    cls = get_registered(registry, tood_node[phase][part], f"MODEL.TOOD.{key}")
    path = getattr(cls, "config_node", None)
    try:
        node = functools.reduce(CfgNode.__getitem__, path.split("."), tood_node) if path else {}
    except KeyError as error:
        raise ConfigError(
            f"{cls.__name__}.config_node names MODEL.TOOD.{path}, which does not exist. Add the "
            "node to the config before merging files into it."
        ) from error
    try:
        return cls(**{name.lower(): value for name, value in node.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"MODEL.TOOD.{path or key}: {error}") from error


def validate_phases(phases: dict[str, Phase], predicts_centerness: bool) -> None:
    """Check when the model is built that each criterion fits the head and its assigner.

    Args:
        phases: of :func:`build_phases`.
        predicts_centerness: whether the head has a centerness branch.

    Raises:
        ConfigError: a criterion cannot train the branch, or lacks the alignment metrics.
    """
    for phase, parts in phases.items():
        key = f"MODEL.TOOD.{phase.upper()}"
        criterion, assigner = parts.criterion, parts.assigner
        name = type(criterion).__name__
        if predicts_centerness and not getattr(criterion, "supports_centerness", True):
            raise ConfigError(
                f"{key}.CRITERION {name} has no loss for the head's centerness branch. Set "
                "MODEL.TOOD.PARALLEL_HEAD.CENTERNESS False, or use CenternessFocalCriterion."
            )
        needs_metrics = getattr(criterion, "needs_alignment_metrics", False)
        if needs_metrics and not getattr(assigner, "returns_alignment_metrics", True):
            raise ConfigError(
                f"{key}.CRITERION {name} needs alignment metrics, which {type(assigner).__name__} "
                f"does not return. Set {key}.ASSIGNER TaskAlignedAssigner, or {key}.CRITERION "
                "CenternessFocalCriterion."
            )


def _validate_num_levels(assigner: Assigner, num_levels: int, key: str) -> None:
    """Check an assigner's per-level arguments when the model is built, not at the first step."""
    validate = getattr(assigner, "validate_num_levels", None)
    if validate is None:
        return
    try:
        validate(num_levels)
    except ValueError as error:
        node = assigner.config_node or key
        raise ConfigError(f"MODEL.TOOD.{node}: {error}") from error

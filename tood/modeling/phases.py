"""The phases of training, and what each works with, by names in the config."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from torch import Tensor

from .assigners import ASSIGNER_REGISTRY, Assigner
from .losses import CRITERION_REGISTRY, LossSums, PointLabels

# ATSS and focal loss first, then task alignment learning.
PHASES = ("warmup", "aligned")


@dataclass(frozen=True)
class Phase:
    """One phase: who assigns, and what the loss is of the labels that follow."""

    assigner: Assigner
    criterion: Callable[[Tensor, Tensor, PointLabels], LossSums]


def build_phases(tood_node: CfgNode) -> dict[str, Phase]:
    """Build what the nodes ``WARMUP`` and ``ALIGNED`` of ``cfg.MODEL.TOOD`` name.

    Args:
        tood_node: ``cfg.MODEL.TOOD``.

    Raises:
        KeyError: no assigner or criterion of that name is registered.
    """
    return {
        phase: Phase(
            _build(ASSIGNER_REGISTRY, node.ASSIGNER, tood_node),
            _build(CRITERION_REGISTRY, node.CRITERION, tood_node),
        )
        for phase, node in zip(PHASES, (tood_node.WARMUP, tood_node.ALIGNED), strict=True)
    }


def _build(registry: Registry, name: str, tood_node: CfgNode) -> Any:
    """Make the registered class ``name`` with the keys of its config node as arguments."""
    cls = registry.get(name)
    node = getattr(cls, "config_node", None)
    return cls(**{key.lower(): value for key, value in tood_node[node].items()} if node else {})

"""The phases of training, and what each works with, by names in the config."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ..errors import ConfigError
from ..registry import get_registered
from .assigners import ASSIGNER_REGISTRY, Assigner
from .criteria.base import CRITERION_REGISTRY
from .structures import DenseTargets, FlatPredictions, LossSum

# ATSS and focal loss first, then task alignment learning.
PHASES = ("warmup", "aligned")


@dataclass(frozen=True)
class Phase:
    """One phase: who assigns, and what the loss is of the labels that follow."""

    assigner: Assigner
    criterion: Callable[[FlatPredictions, DenseTargets], dict[str, LossSum]]


def build_phases(tood_node: CfgNode) -> dict[str, Phase]:
    """Build what the nodes ``WARMUP`` and ``ALIGNED`` of ``cfg.MODEL.TOOD`` name.

    Args:
        tood_node: ``cfg.MODEL.TOOD``.

    Raises:
        ConfigError: no assigner or criterion of that name is registered, or a length below 0.
    """
    if tood_node.WARMUP.EPOCHS < 0:
        raise ConfigError(
            f"MODEL.TOOD.WARMUP.EPOCHS is {tood_node.WARMUP.EPOCHS}; 0 is for no warm-up"
        )
    return {
        phase: Phase(
            _build(ASSIGNER_REGISTRY, tood_node, f"{phase.upper()}.ASSIGNER"),
            _build(CRITERION_REGISTRY, tood_node, f"{phase.upper()}.CRITERION"),
        )
        for phase in PHASES
    }


def _build(registry: Registry, tood_node: CfgNode, key: str) -> Any:
    """Make the class that ``key`` names, with the keys of its config node as arguments."""
    phase, part = key.split(".")
    cls = get_registered(registry, tood_node[phase][part], f"MODEL.TOOD.{key}")
    path = getattr(cls, "config_node", None)
    node = functools.reduce(CfgNode.__getitem__, path.split("."), tood_node) if path else {}
    try:
        return cls(**{name.lower(): value for name, value in node.items()})
    except ValueError as error:
        raise ConfigError(f"MODEL.TOOD.{path}: {error}") from error

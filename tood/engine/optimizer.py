"""The optimizer: detectron2's, with frozen parts and learning rates by part."""

import difflib
import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from types import MethodType
from typing import Any

from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_detectron2_optimizer
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import AdamW, Optimizer

from ..errors import ConfigError

logger = logging.getLogger(__name__)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Freeze what ``SOLVER.FREEZE`` names, and build the optimizer of the other parameters.

    Parameter groups, weight decay and gradient clipping are detectron2's; ``SOLVER.LR_FACTORS``
    multiplies learning rates.

    Args:
        cfg: the config, with the learning rate of its batch.
        model: not wrapped in DistributedDataParallel; its parameters are frozen in place.

    Raises:
        ConfigError: a pattern matches no parameter, or no parameter is left to train.
    """
    freeze_parameters(model, cfg.SOLVER.FREEZE)
    build = _build_adamw if cfg.SOLVER.OPTIMIZER == "AdamW" else build_detectron2_optimizer
    optimizer = build(cfg, model)
    scale_learning_rates(optimizer, model, cfg.SOLVER.LR_FACTORS)
    return optimizer


def _build_adamw(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """As detectron2 builds SGD: the same groups, weight decay and gradient clipping."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    # An optimizer or its class: both versions take either.
    optimizer = AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    clipped: Optimizer = maybe_add_gradient_clipping(cfg, optimizer)
    return clipped


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude parameters from training, and keep the statistics of normalization layers with them.

    A normalization layer whose parameters are all frozen stays in eval mode, also after
    ``model.train()``: it normalizes with its running statistics and does not update them.

    Args:
        model: changed in place.
        patterns: of parameter names, as in `fnmatch.fnmatchcase`.

    Raises:
        ConfigError: a pattern matches no parameter, or all parameters are frozen.
    """
    if not patterns:
        return
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen: set[str] = set()
    for pattern in patterns:
        frozen |= match_names(parameters, pattern, "SOLVER.FREEZE")
    for name in frozen:
        parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(
            f"SOLVER.FREEZE {list(patterns)} leaves no parameter of the model to train. Remove a "
            "pattern."
        )
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and _is_frozen(name, module, frozen, patterns)
    ]
    for norm in norms:
        norm.eval()
        vars(norm)["train"] = MethodType(_stay_in_eval, norm)
    logger.info(
        "SOLVER.FREEZE: %d of %d parameters are not trained, and %d normalization layers keep "
        "their statistics.",
        len(frozen),
        len(parameters),
        len(norms),
    )


def _is_frozen(
    prefix: str, norm: nn.Module, frozen: Iterable[str], patterns: Iterable[str]
) -> bool:
    own = [f"{prefix}.{name}" for name, _ in norm.named_parameters(recurse=False)]
    if own:
        return set(own) <= set(frozen)
    return any(fnmatchcase(f"{prefix}.running_mean", pattern) for pattern in patterns)


def _stay_in_eval(norm: nn.Module, mode: bool = True) -> nn.Module:
    """In the place of ``nn.Module.train``."""
    return norm


def scale_learning_rates(
    optimizer: Optimizer, model: nn.Module, factors: Sequence[tuple[str, float]]
) -> None:
    """Multiply the learning rates of parameters.

    Args:
        optimizer: of the model; its groups are split where their parameters get several rates.
            Their other settings stay.
        model: names the parameters.
        factors: pairs of a pattern and a factor; the last pattern that matches a name counts.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    if not factors:
        return
    parameters = dict(model.named_parameters(remove_duplicate=False))
    factor_of: dict[int, float] = {}
    for pattern, factor in factors:
        matched = [parameters[x] for x in match_names(parameters, pattern, "SOLVER.LR_FACTORS")]
        trained = [parameter for parameter in matched if parameter.requires_grad]
        if not trained:
            logger.warning("SOLVER.LR_FACTORS: %r matches frozen parameters only.", pattern)
        factor_of.update((id(parameter), factor) for parameter in trained)
        logger.info(
            "SOLVER.LR_FACTORS: %g times the learning rate for the %d parameters of %s.",
            factor,
            len(trained),
            pattern,
        )
    groups = list(optimizer.param_groups)
    optimizer.param_groups.clear()
    for group in groups:
        split: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            split.setdefault(factor_of.get(id(parameter), 1.0), []).append(parameter)
        for factor, members in split.items():
            optimizer.add_param_group({**group, "params": members, "lr": group["lr"] * factor})


def match_names(names: Iterable[str], pattern: str, key: str) -> set[str]:
    """The names that a pattern matches.

    Args:
        names: of all parameters.
        pattern: as in `fnmatch.fnmatchcase`; ``*`` matches dots too.
        key: of the config, for the message.

    Raises:
        ConfigError: there is none; the message has near names.
    """
    names = list(names)
    found = {name for name in names if fnmatchcase(name, pattern)}
    if found:
        return found
    parts: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        parts.update(dict.fromkeys(".".join(words[:i]) + ".*" for i in range(1, len(words))))
    near = difflib.get_close_matches(pattern, [*parts, *names], n=3, cutoff=0.7)
    tops = [part for part in parts if part.count(".") == 1]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Available: {', '.join(tops)}."
    raise ConfigError(f"{key} has {pattern!r}, which matches no parameter of the model. {hint}")


def parameter_names(optimizer: Optimizer, model: nn.Module) -> list[str]:
    """Names of an optimizer's parameters in its order, by which it saves their states.

    Args:
        optimizer: of the model.
        model: perhaps wrapped in DistributedDataParallel.
    """
    names: dict[int, Any] = {id(value): name for name, value in model.named_parameters()}
    return [
        str(names.get(id(value), "")).removeprefix("module.")
        for group in optimizer.param_groups
        for value in group["params"]
    ]

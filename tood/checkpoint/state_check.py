"""Compare saved states of optimizers and trainers with the objects before anything is loaded."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

# What SGD or the Adam family cannot do without, and what they keep in the shape of a parameter.
_HYPERPARAMETERS = ("momentum", "betas")
_AVERAGES = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def validate_checkpointable(target: Any, state: Any, name: str, path: str) -> None:
    """Raise if a saved state cannot belong to an object. Nothing is changed.

    Optimizers are found in ``state`` by the names of the attributes that hold them, so that
    detectron2's ``trainer`` entry is compared too. An object may check more: if it has a method
    ``validate_state_dict(state)``, it is called.

    Args:
        target: the object, with ``load_state_dict``.
        state: what the file holds for it.
        name: of the entry, for the message.
        path: of the file, for the message.

    Raises:
        CheckpointError: the state belongs to another model, or is damaged.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__} as the state of {name}. The file is damaged, "
            "or another program wrote it."
        )
    pending = [(target, state, name)]
    while pending:
        owner, part, place = pending.pop()
        if isinstance(owner, torch.optim.Optimizer):
            _validate_optimizer(owner, part, place, path)
            continue
        for key, value in part.items():
            if isinstance(key, str) and isinstance(value, Mapping) and hasattr(owner, key):
                child = getattr(owner, key)
                if hasattr(child, "load_state_dict"):
                    pending.append((child, value, f"{place}.{key}"))
    validate = getattr(target, "validate_state_dict", None)
    if validate is not None:
        validate(state)


def _validate_optimizer(
    optimizer: torch.optim.Optimizer, state: Mapping[Any, Any], name: str, path: str
) -> None:
    problem = _optimizer_problem(optimizer, state)
    if problem:
        raise CheckpointError(
            f"The state of the optimizer in {path} ({name}) does not fit: {problem}. The model, "
            "MODEL.BACKBONE.FREEZE_AT, SOLVER.FREEZE or the solver's parameter groups have changed "
            "since."
        )


def _optimizer_problem(optimizer: torch.optim.Optimizer, state: Mapping[Any, Any]) -> str | None:
    groups, values = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not isinstance(values, Mapping):
        return "it has no param_groups and state"
    if not all(isinstance(x, Mapping) and isinstance(x.get("params"), list) for x in groups):
        return "its param_groups are damaged"
    if len(groups) != len(optimizer.param_groups):
        return f"it has {len(groups)} parameter groups, not {len(optimizer.param_groups)}"
    parameters: dict[Any, Tensor] = {}
    for i, (saved, current) in enumerate(zip(groups, optimizer.param_groups, strict=True)):
        ids, tensors = saved["params"], current["params"]
        if len(ids) != len(tensors):
            return f"its group {i} has {len(ids)} parameters, not {len(tensors)}"
        missing = [key for key in _HYPERPARAMETERS if key in current and key not in saved]
        if missing:
            return f"it is the state of another kind of optimizer, without {missing[0]}"
        parameters.update(zip(ids, tensors, strict=True))
    for key, entry in values.items():
        if key not in parameters or not isinstance(entry, Mapping):
            return f"its entry {key!r} belongs to no parameter"
        for kind, value in entry.items():
            if kind not in _AVERAGES or value is None:
                continue
            if not isinstance(value, Tensor):
                return f"{kind} of parameter {key} is no tensor"
            if value.shape != parameters[key].shape:
                return (
                    f"{kind} of parameter {key} has the shape {tuple(value.shape)}, not "
                    f"{tuple(parameters[key].shape)}"
                )
    return None

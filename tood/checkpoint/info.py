"""What a checkpoint says about itself: config, classes, phase, iteration, run and versions.

It is saved next to the weights under :data:`INFO_KEY` as plain text and numbers. A reader trusts
none of it: a value of another type counts as missing.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import detectron2
import torch

from ..version import __version__

logger = logging.getLogger(__name__)

INFO_KEY = "tood"

# Far above any real checkpoint.
_MAX_CONFIG = 1_000_000
_MAX_TEXT = 10_000
_MAX_ENTRIES = 100_000


def current_versions() -> dict[str, str]:
    """Versions of this project, PyTorch and detectron2."""
    return {
        "tood": __version__,
        "torch": str(torch.__version__),
        "detectron2": str(getattr(detectron2, "__version__", "unknown")),
    }


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself.

    Files of other programs have less of it: MMDetection's only have class names.

    Attributes:
        config: the whole config as YAML text, ``cfg.dump()``; empty if unknown.
        class_names: by class index; empty if unknown.
        category_ids: of the dataset, by class index; they may be text. Empty if unknown.
        phase: of training, "warmup" or "aligned"; empty if unknown.
        iteration: the last finished iteration, as in detectron2's entry ``iteration``: 999 after
            1000 iterations. None if unknown.
        run_id: of the training run; empty if unknown.
        versions: of the programs that wrote the file, by name.
        is_average: whether the weights are an average over training (``SOLVER.EMA``).
    """

    config: str = ""
    class_names: list[str] = field(default_factory=list)
    category_ids: list[int | str] = field(default_factory=list)
    phase: str = ""
    iteration: int | None = None
    run_id: str = ""
    versions: dict[str, str] = field(default_factory=current_versions)
    is_average: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they are saved under :data:`INFO_KEY`."""
        return {
            "config": str(self.config),
            "class_names": [str(name) for name in self.class_names],
            "category_ids": [x if isinstance(x, str) else int(x) for x in self.category_ids],
            "phase": str(self.phase),
            "iteration": None if self.iteration is None else int(self.iteration),
            "run_id": str(self.run_id),
            "versions": {str(name): str(version) for name, version in self.versions.items()},
            "is_average": bool(self.is_average),
        }


def read_info(data: Any, path: str) -> CheckpointInfo | None:
    """Read what a checkpoint says about itself.

    Args:
        data: content of the file. Of MMDetection's and MMEngine's files, ``meta`` is read.
        path: the file, for the warning about values that are ignored.

    Returns:
        The information, or None if the file has none.
    """
    if not isinstance(data, Mapping):
        return None
    if INFO_KEY in data:
        return _read_own(data[INFO_KEY], path)
    names = _mmdetection_classes(data.get("meta"))
    return CheckpointInfo(class_names=names, versions={}) if names else None


def read_iteration(data: Any) -> int | None:
    """The last finished iteration of a checkpoint, also of one without the information."""
    if not isinstance(data, Mapping):
        return None
    own = data.get(INFO_KEY)
    for value in (
        own.get("iteration") if isinstance(own, Mapping) else None,
        data.get("iteration"),
    ):
        if _is_iteration(value) and value is not None:
            return int(value)
    return None


def _is_text(value: object, limit: int = _MAX_TEXT) -> bool:
    return isinstance(value, str) and len(value) <= limit


def _is_names(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) <= _MAX_ENTRIES and all(map(_is_text, value))
    )


def _is_id(value: object) -> bool:
    return _is_text(value) or (type(value) is int and abs(value) < 2**63)


def _is_ids(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) <= _MAX_ENTRIES and all(map(_is_id, value))
    )


def _is_iteration(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 2**63)


def _is_versions(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) <= _MAX_ENTRIES
        and all(map(_is_text, [*value.keys(), *value.values()]))
    )


_CHECKS: dict[str, Callable[[object], bool]] = {
    "config": lambda value: _is_text(value, _MAX_CONFIG),
    "class_names": _is_names,
    "category_ids": _is_ids,
    "phase": _is_text,
    "iteration": _is_iteration,
    "run_id": _is_text,
    "versions": _is_versions,
    "is_average": lambda value: isinstance(value, bool),
}
_COPIES: dict[str, Callable[[Any], Any]] = {
    "class_names": list,
    "category_ids": list,
    "versions": dict,
}


def _read_own(data: object, path: str) -> CheckpointInfo | None:
    if not isinstance(data, Mapping):
        logger.warning(
            "%s: the entry %r is no information about the checkpoint but a %s. It is ignored.",
            path,
            INFO_KEY,
            type(data).__name__,
        )
        return None
    values: dict[str, Any] = {"versions": {}}
    ignored = []
    for name in (item.name for item in fields(CheckpointInfo)):
        if name not in data:
            continue
        if _CHECKS[name](data[name]):
            values[name] = _COPIES.get(name, lambda value: value)(data[name])
        else:
            ignored.append(name)
    names, ids = values.get("class_names", []), values.get("category_ids", [])
    if names and ids and (len(names) != len(ids) or len(set(ids)) != len(ids)):
        ignored.append("category_ids")
        del values["category_ids"]
    if ignored:
        logger.warning(
            "%s: its information about %s is damaged and ignored.", path, ", ".join(ignored)
        )
    return CheckpointInfo(**values)


def _mmdetection_classes(meta: object) -> list[str]:
    """Class names in the ``meta`` of MMDetection 2 (CLASSES) and 3 (dataset_meta)."""
    if not isinstance(meta, Mapping):
        return []
    dataset = meta.get("dataset_meta")
    places = (
        [dataset.get("classes"), dataset.get("CLASSES")] if isinstance(dataset, Mapping) else []
    )
    for value in (*places, meta.get("CLASSES")):
        if _is_text(value) and value:  # a single class without its comma
            return [str(value)]
        if isinstance(value, list | tuple) and value and _is_names(value):
            return [str(name) for name in value]
    return []

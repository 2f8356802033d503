"""Detect the layout of a state_dict from its keys, and rename them: to this project's, and back."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import Tensor

from ..errors import CheckpointError
from .key_tables import BACKBONE_PREFIX, CLASSIFIERS, TABLES

_T = TypeVar("_T")

# Layouts, as messages describe them.
LAYOUT_DESCRIPTIONS = {
    "detectron2": "a detector with detectron2's names",
    "mmdet": "a TOOD checkpoint with MMDetection's names",
    "authors": "a TOOD checkpoint with the authors' names",
    "torchvision-backbone": "a backbone with torchvision's names",
    "mmdet-backbone": "a backbone with MMDetection's names",
    "detectron2-backbone": "a backbone with detectron2's names",
    "timm-backbone": "a backbone with timm's names",
    "caffe2-backbone": "a backbone with Caffe2's names (it expects BGR images; the MSRA backbones "
    "also need MODEL.PIXEL_STD [1.0, 1.0, 1.0] and MODEL.RESNETS.STRIDE_IN_1X1 True)",
}
# Layouts of whole models that can also be written.
EXPORT_LAYOUTS = ("mmdet", "authors")


def _renamer(pairs: Iterable[tuple[str, str]]) -> Callable[[str], str | None]:
    """Build a function that renames (source, target) prefixes; it returns None without a match."""
    rules = []
    for source, target in pairs:
        pattern = re.compile(re.escape(source).replace(r"\*", r"(\d+)"))
        rules.append((pattern, target.replace("*", r"\g<1>")))

    def rename(name: str) -> str | None:
        for pattern, target in rules:
            match = pattern.match(name)
            if match:
                return match.expand(target) + name[match.end() :]
        return None

    return rename


def detect_layout(names: Iterable[str], path: str) -> str:
    """Detect the layout of a state_dict from its keys.

    Args:
        names: keys of the state_dict.
        path: the file, for messages.

    Returns:
        A key of :data:`LAYOUT_DESCRIPTIONS`. ``"detectron2"`` is the layout of this project and of
        detectron2's other detectors.

    Raises:
        CheckpointError: unknown layout.
    """
    names = set(names)
    layout = _layout_of(names)
    if not layout:
        raise CheckpointError(
            f"{path} holds the weights of another model (first keys: "
            f"{', '.join(sorted(names)[:3])}). Supported: TOOD checkpoints of this project, "
            "MMDetection or the authors, and ResNet backbones with the names of torchvision, "
            "MMDetection, detectron2 or Caffe2; timm's, if MODEL.TIMM.NAME is that network."
        )
    return layout


def _layout_of(names: set[str]) -> str:
    """The layout, or ``""`` if it is unknown."""
    if any(name.startswith("bbox_head.tood_cls.") for name in names):
        from_authors = any(name.startswith("bbox_head.cls_decomp.la_conv") for name in names)
        return "authors" if from_authors else "mmdet"
    if {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight"} <= names:
        has_detector = any(name.startswith(("neck.", "bbox_head.")) for name in names)
        return "" if has_detector else "mmdet-backbone"
    if {"stem.conv1.weight", "bottom_up.stem.conv1.weight"} & names or all(
        name.startswith(BACKBONE_PREFIX) for name in names
    ):
        return "detectron2-backbone"
    if any(
        name.startswith((BACKBONE_PREFIX, "head.", "proposal_generator.head.")) for name in names
    ):
        return "detectron2"
    if {"conv1.weight", "layer1.0.conv1.weight"} <= names:
        return "torchvision-backbone"
    if {"conv1_w", "res2_0_branch2a_w"} <= names:
        return "caffe2-backbone"
    return ""


def is_backbone_only(layout: str) -> bool:
    """Whether files of this layout hold only a backbone."""
    return layout.endswith("-backbone")


def is_batch_counter(name: str) -> bool:
    """Whether a key is batch norm's count of batches: not a weight, and only some norms keep it."""
    return name.endswith(".num_batches_tracked")


def to_tood_keys(
    state_dict: Mapping[str, Tensor], layout: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Rename the keys of a state_dict to this project's names.

    The classifier of a backbone file is dropped, and so are batch counters of other layouts that
    are 0. Keys that the layout does not know keep their names.

    Args:
        state_dict: weights with the names of ``layout``.
        layout: see :func:`detect_layout`.

    Returns:
        The renamed state_dict, and the original key of each of its keys.
    """
    originals: dict[str, str] = {}
    if layout == "caffe2-backbone":
        state_dict, originals = _rename_caffe2(state_dict)
        layout = "detectron2-backbone"
    rename = _renamer(TABLES.get(layout, ()))
    renamed: dict[str, Tensor] = {}
    origins: dict[str, str] = {}
    for name, value in state_dict.items():
        if is_backbone_only(layout) and name.startswith(CLASSIFIERS):
            continue
        if layout != "detectron2" and is_batch_counter(name) and _is_zero(value):
            continue
        ours = rename(name) or name
        renamed[ours], origins[ours] = value, originals.get(name, name)
    return renamed, origins


def _is_zero(value: Tensor) -> bool:
    return value.numel() == 1 and not value.any()


def nest_keys(
    entries: Mapping[str, _T], core_prefix: str, model_keys: Collection[str]
) -> dict[str, _T]:
    """Rename entries for a model that holds the dense detector as a submodule.

    In a two-stage model ``head.*`` becomes ``proposal_generator.head.*``, while ``backbone.*``,
    which the whole model shares, keeps its name.

    Args:
        entries: values by this project's names.
        core_prefix: prefix of the detector's parameters in the model, such as
            ``"proposal_generator."``; empty if the model is the detector.
        model_keys: keys of the model's state_dict.
    """
    return {
        core_prefix + name if core_prefix + name in model_keys else name: value
        for name, value in entries.items()
    }


def from_tood_keys(state_dict: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Invert :func:`to_tood_keys`, for layouts of whole models.

    Batch counters, which this project's frozen batch norms do not have, are added as 0.

    Args:
        state_dict: weights with this project's names.
        layout: one of :data:`EXPORT_LAYOUTS`.

    Raises:
        CheckpointError: the layout has no name for some keys, as with another head or backbone.
    """
    rename = _renamer((ours, theirs) for theirs, ours in TABLES[layout])
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in state_dict.items():
        theirs = rename(name)
        if theirs is None:
            unknown.append(name)
            continue
        renamed[theirs] = value
        if theirs.endswith(".running_var"):
            counter = theirs.replace("running_var", "num_batches_tracked")
            renamed.setdefault(counter, torch.zeros((), dtype=torch.int64))
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} parameters have no name in {LAYOUT_DESCRIPTIONS[layout]}: "
            f"{'; '.join(unknown[:10])}. Only models with a T-head on ResNet or ResNeXt with FPN "
            "can be converted."
        )
    return renamed


def _rename_caffe2(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Rename Caffe2's keys by detectron2's rules, and add the running statistics they imply."""
    kept = [name for name in state_dict if not name.endswith("_momentum")]
    originals = dict(zip(convert_basic_c2_names(kept), kept, strict=True))
    originals.pop("stem.conv1.bias", None)  # detectron2 drops it too
    renamed = {name: state_dict[original] for name, original in originals.items()}
    for name, value in list(renamed.items()):
        if name.endswith(".norm.weight"):
            stem = name.removesuffix("weight")
            renamed.setdefault(f"{stem}running_mean", torch.zeros_like(value))
            renamed.setdefault(f"{stem}running_var", torch.ones_like(value))
    return renamed, originals

"""The names that parameters have in other projects, and ours; both ways.

A layout is recognized by its names alone. The backbone's are torchvision's, which MMDetection's
ResNet shares; the head's are MMDetection's (2.x and 3.x) or the authors'.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from torch import Tensor

from ..errors import CheckpointError

BACKBONE_PREFIX = "backbone.bottom_up."

# Beginnings of names, theirs and ours; * is a number. The first that fits is taken, in either
# direction, so longer ones stand before those that they begin with.
_Pairs = tuple[tuple[str, str], ...]

# A residual block: torchvision's names, with MMDetection's for DCNv2 -> detectron2's.
_BLOCK: _Pairs = (
    ("bn1.", "conv1.norm."),
    ("bn2.", "conv2.norm."),
    ("bn3.", "conv3.norm."),
    ("conv2.conv_offset.", "conv2_offset."),
    ("conv1.", "conv1."),
    ("conv2.", "conv2."),
    ("conv3.", "conv3."),
    ("downsample.1.", "shortcut.norm."),
    ("downsample.0.", "shortcut."),
)
# Stages are numbered from 1 there, from 2 in detectron2.
_RESNET: _Pairs = (
    ("bn1.", f"{BACKBONE_PREFIX}stem.conv1.norm."),
    ("conv1.", f"{BACKBONE_PREFIX}stem.conv1."),
    *(
        (f"layer{stage}.*.{theirs}", f"{BACKBONE_PREFIX}res{stage + 1}.*.{ours}")
        for stage in (1, 2, 3, 4)
        for theirs, ours in _BLOCK
    ),
)
# MMDetection's FPN -> detectron2's, where a level has the number of its stride's exponent.
_FPN: _Pairs = (
    *((f"lateral_convs.{i}.conv.", f"backbone.fpn_lateral{i + 3}.") for i in range(3)),
    *((f"fpn_convs.{i}.conv.", f"backbone.fpn_output{i + 3}.") for i in range(3)),
    ("fpn_convs.3.conv.", "backbone.top_block.p6."),
    ("fpn_convs.4.conv.", "backbone.top_block.p7."),
)
# MMDetection's T-head -> ours.
_HEAD: _Pairs = (
    ("inter_convs.*.conv.conv_offset.", "head.inter_convs.*.conv_offset."),
    ("inter_convs.*.gn.", "head.inter_convs.*.norm."),
    ("inter_convs.*.conv.", "head.inter_convs.*."),
    *(
        (f"{task}_decomp.{theirs}", f"head.{task}_decomp.{ours}")
        for task in ("cls", "reg")
        for theirs, ours in (
            ("layer_attention.", "layer_attention."),
            ("reduction_conv.gn.", "reduction_conv.norm."),
            ("reduction_conv.conv.", "reduction_conv."),
        )
    ),
    *(
        (f"{name}.", f"head.{name}.")
        for name in ("tood_cls", "tood_reg", "cls_prob_module", "reg_offset_module", "scales")
    ),
)
# The same in the authors' code.
_AUTHORS_HEAD: _Pairs = (
    *(
        (f"{task}_decomp.la_conv{i + 1}.", f"head.{task}_decomp.layer_attention.{2 * i}.")
        for task in ("cls", "reg")
        for i in (0, 1)
    ),
    *(
        (f"{name}_conv{i + 1}.", f"head.{name}_module.{2 * i}.")
        for name in ("cls_prob", "reg_offset")
        for i in (0, 1)
    ),
    *_HEAD,
)


def _under(prefix: str, pairs: _Pairs) -> _Pairs:
    return tuple((prefix + theirs, ours) for theirs, ours in pairs)


_MMDET_BODY = (*_under("backbone.", _RESNET), *_under("neck.", _FPN))
_TABLES: dict[str, _Pairs] = {
    "mmdet": (*_MMDET_BODY, *_under("bbox_head.", _HEAD)),
    "authors": (*_MMDET_BODY, *_under("bbox_head.", _AUTHORS_HEAD)),
    "torchvision-backbone": _RESNET,
    "mmdet-backbone": _under("backbone.", _RESNET),
    "detectron2-backbone": tuple(
        (prefix, BACKBONE_PREFIX) for prefix in (BACKBONE_PREFIX, "bottom_up.", "")
    ),
}

# What a layout is, for people.
LAYOUT_DESCRIPTIONS = {
    "detectron2": "a detector with detectron2's names",
    "mmdet": "a TOOD checkpoint with MMDetection's names",
    "authors": "a TOOD checkpoint with the authors' names",
    "torchvision-backbone": "a backbone with torchvision's names",
    "mmdet-backbone": "a backbone with MMDetection's names",
    "detectron2-backbone": "a backbone with detectron2's names",
    "caffe2-backbone": "a backbone with Caffe2's names (it expects BGR images, and the MSRA ones "
    "MODEL.PIXEL_STD [1.0, 1.0, 1.0] and MODEL.RESNETS.STRIDE_IN_1X1 True)",
}
# Layouts of whole models that can be written as well as read.
EXPORT_LAYOUTS = ("mmdet", "authors")

# The classifier on top of a backbone that was trained on ImageNet.
_CLASSIFIERS = ("fc.", "stem.fc.", "head.fc.", "fc1000.", "linear.")


def _renamer(pairs: Iterable[tuple[str, str]]) -> Callable[[str], str | None]:
    """A function from one side's names to the other's; None for names that fit no pair."""
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
    """The layout of a state_dict by its names.

    Args:
        names: of the tensors.
        path: for messages.

    Returns:
        A key of :data:`LAYOUT_DESCRIPTIONS`. ``"detectron2"`` is this project's own layout, and that of
        detectron2's other detectors.

    Raises:
        CheckpointError: it is none of them.
    """
    names = set(names)
    layout = _layout_of(names)
    if not layout:
        raise CheckpointError(
            f"{path} holds weights of another model (its keys begin with {sorted(names)[:3]}). "
            "What is read are TOOD checkpoints, of this project, MMDetection or the authors, and "
            "ResNet backbones with torchvision's, MMDetection's or detectron2's names"
        )
    return layout


def _layout_of(names: set[str]) -> str:
    """See :func:`detect_layout`; ``""`` for none of them."""
    if any(name.startswith("bbox_head.tood_cls.") for name in names):
        of_authors = any(name.startswith("bbox_head.cls_decomp.la_conv") for name in names)
        return "authors" if of_authors else "mmdet"
    if {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight"} <= names:
        others = any(name.startswith(("neck.", "bbox_head.")) for name in names)
        return "" if others else "mmdet-backbone"
    if {"stem.conv1.weight", "bottom_up.stem.conv1.weight"} & names or all(
        name.startswith(BACKBONE_PREFIX) for name in names
    ):
        return "detectron2-backbone"
    if any(name.startswith((BACKBONE_PREFIX, "head.")) for name in names):
        return "detectron2"
    if {"conv1.weight", "layer1.0.conv1.weight"} <= names:
        return "torchvision-backbone"
    if {"conv1_w", "res2_0_branch2a_w"} <= names:
        return "caffe2-backbone"
    return ""


def is_backbone_only(layout: str) -> bool:
    """Whether files of this layout hold a backbone and nothing else."""
    return layout.endswith("-backbone")


def is_batch_counter(name: str) -> bool:
    """Batch norm's count of batches: no weight, and kept by some normalizations only."""
    return name.endswith(".num_batches_tracked")


def to_tood_keys(state_dict: Mapping[str, Tensor], layout: str) -> tuple[dict[str, Tensor], dict]:
    """Rename a state_dict's entries to this project's names.

    The classifier of a backbone file is left out, and so are other projects' counters of batches
    that are 0.

    Args:
        state_dict: of the given layout.
        layout: see :func:`detect_layout`.

    Returns:
        The renamed state_dict, in which entries that the layout does not know keep their names;
        and the name in the file by each name of it.
    """
    if layout == "caffe2-backbone":
        state_dict = _rename_caffe2(state_dict)
    table = "detectron2-backbone" if layout == "caffe2-backbone" else layout
    rename = _renamer(_TABLES.get(table, ()))
    renamed, origins = {}, {}
    for name, value in state_dict.items():
        if is_backbone_only(layout) and name.startswith(_CLASSIFIERS):
            continue
        if layout != "detectron2" and is_batch_counter(name) and not value.any():
            continue
        ours = rename(name) or name
        renamed[ours], origins[ours] = value, name
    return renamed, origins


def from_tood_keys(state_dict: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """The inverse of :func:`to_tood_keys`, for the layouts of whole models.

    Counters of batches, which this project's frozen normalizations do not keep, are added as 0.

    Args:
        state_dict: with this project's names.
        layout: one of :data:`EXPORT_LAYOUTS`.

    Raises:
        CheckpointError: names that the layout has no place for: another head or backbone.
    """
    rename = _renamer((ours, theirs) for theirs, ours in _TABLES[layout])
    renamed, strange = {}, []
    for name, value in state_dict.items():
        theirs = rename(name)
        if theirs is None:
            strange.append(name)
            continue
        renamed[theirs] = value
        counter = theirs.replace("running_var", "num_batches_tracked")
        if counter != theirs:
            renamed.setdefault(counter, torch.zeros((), dtype=torch.int64))
    if strange:
        raise CheckpointError(
            f"{len(strange)} parameters have no name in {LAYOUT_DESCRIPTIONS[layout]}: "
            f"{'; '.join(strange[:10])}. Only T-head on ResNet or ResNeXt with FPN can be carried "
            "over"
        )
    return renamed


def _rename_caffe2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's names to detectron2's, by detectron2's rules; statistics that are implied added."""
    kept = [name for name in state_dict if not name.endswith("_momentum")]
    renamed = dict(zip(convert_basic_c2_names(kept), map(state_dict.get, kept), strict=True))
    renamed.pop("stem.conv1.bias", None)  # detectron2 does not use it either
    for name, value in list(renamed.items()):
        if name.endswith(".norm.weight"):
            stem = name.removesuffix("weight")
            renamed.setdefault(f"{stem}running_mean", torch.zeros_like(value))
            renamed.setdefault(f"{stem}running_var", torch.ones_like(value))
    return renamed

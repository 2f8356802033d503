"""The names that parameters have in other projects, and ours.

A layout is recognised by its keys alone. The backbone's are torchvision's names, which
MMDetection's ResNet shares; the head's are MMDetection's (3.x) or the authors'.
"""

import re
from collections.abc import Mapping

from torch import Tensor

BACKBONE_PREFIX = "backbone.bottom_up."

_Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


# torchvision's ResNet -> detectron2's. Stages are numbered from 1 there, from 2 here.
_RESNET = _rules(
    (r"^conv1\.", "stem.conv1."),
    (r"^bn1\.", "stem.conv1.norm."),
    (r"^layer1\.", "res2."),
    (r"^layer2\.", "res3."),
    (r"^layer3\.", "res4."),
    (r"^layer4\.", "res5."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.conv2\.conv_offset\.", ".conv2_offset."),
)

# MMDetection's FPN -> detectron2's, where a level has the number of its stride's exponent.
_FPN = _rules(
    (r"^lateral_convs\.0\.conv\.", "fpn_lateral3."),
    (r"^lateral_convs\.1\.conv\.", "fpn_lateral4."),
    (r"^lateral_convs\.2\.conv\.", "fpn_lateral5."),
    (r"^fpn_convs\.0\.conv\.", "fpn_output3."),
    (r"^fpn_convs\.1\.conv\.", "fpn_output4."),
    (r"^fpn_convs\.2\.conv\.", "fpn_output5."),
    (r"^fpn_convs\.3\.conv\.", "top_block.p6."),
    (r"^fpn_convs\.4\.conv\.", "top_block.p7."),
)

# MMDetection's and the authors' T-head -> ours.
_HEAD = _rules(
    (r"\.la_conv1\.", ".layer_attention.0."),
    (r"\.la_conv2\.", ".layer_attention.2."),
    (r"^(cls_prob|reg_offset)_conv1\.", r"\1_module.0."),
    (r"^(cls_prob|reg_offset)_conv2\.", r"\1_module.2."),
    (r"\.conv\.conv_offset\.", ".conv_offset."),
    (r"^(inter_convs\.\d+|(?:cls|reg)_decomp\.reduction_conv)\.conv\.", r"\1."),
    (r"^(inter_convs\.\d+|(?:cls|reg)_decomp\.reduction_conv)\.gn\.", r"\1.norm."),
)

# Old prefix -> new prefix and the rules for what follows it.
_MMDET = {
    "backbone.": (BACKBONE_PREFIX, _RESNET),
    "neck.": ("backbone.", _FPN),
    "bbox_head.": ("head.", _HEAD),
}
_TORCHVISION = {"": (BACKBONE_PREFIX, _RESNET)}
_DETECTRON2_BACKBONE = {"": (BACKBONE_PREFIX, ())}


def recognise(keys: list[str]) -> str:
    """The layout of a state_dict by its keys.

    Returns:
        ``"mmdet"`` (MMDetection's or the authors' TOOD), ``"detectron2"`` (this project's, or
        another detector of detectron2), ``"detectron2-backbone"``, ``"torchvision-backbone"``
        (MMDetection's backbone files too), or ``""`` for anything else.
    """
    names = set(keys)
    if any(key.startswith("bbox_head.tood_cls.") for key in names):
        return "mmdet"
    if any(key.startswith((BACKBONE_PREFIX, "head.")) for key in names):
        return "detectron2"
    if "stem.conv1.weight" in names:
        return "detectron2-backbone"
    if {"conv1.weight", "layer1.0.conv1.weight"} <= names:
        return "torchvision-backbone"
    return ""


def is_backbone_only(layout: str) -> bool:
    """Whether files of this layout hold a backbone and nothing else."""
    return layout.endswith("-backbone")


def convert(state_dict: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Rename a state_dict's entries to this project's names.

    The classifier of a backbone file is left out.

    Args:
        state_dict: of the given layout.
        layout: see :func:`recognise`; not the empty one.
    """
    if layout == "detectron2":
        return dict(state_dict)
    prefixes = {
        "mmdet": _MMDET,
        "torchvision-backbone": _TORCHVISION,
        "detectron2-backbone": _DETECTRON2_BACKBONE,
    }[layout]
    converted = {}
    for key, value in state_dict.items():
        if is_backbone_only(layout) and key.startswith(("fc.", "stem.fc.")):
            continue
        for old, (new, rules) in prefixes.items():
            if key.startswith(old):
                name = key[len(old) :]
                for pattern, replacement in rules:
                    name = pattern.sub(replacement, name)
                key = new + name
                break
        converted[key] = value
    return converted

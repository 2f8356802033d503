"""Parameter names in the layouts that other projects use, next to this project's.

Backbones have torchvision's names, which MMDetection's ResNet shares; heads have MMDetection's
(2.x and 3.x) or the authors'.
"""

BACKBONE_PREFIX = "backbone.bottom_up."

# Prefixes of names, (theirs, ours); * stands for a number. The first match wins in either
# direction, so a longer prefix comes before those that it starts with.
Pairs = tuple[tuple[str, str], ...]

# A residual block: torchvision's names, with MMDetection's for DCNv2 -> detectron2's.
_BLOCK: Pairs = (
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
# torchvision numbers the stages from 1, detectron2 from 2.
_RESNET: Pairs = (
    ("bn1.", f"{BACKBONE_PREFIX}stem.conv1.norm."),
    ("conv1.", f"{BACKBONE_PREFIX}stem.conv1."),
    *(
        (f"layer{stage}.*.{theirs}", f"{BACKBONE_PREFIX}res{stage + 1}.*.{ours}")
        for stage in (1, 2, 3, 4)
        for theirs, ours in _BLOCK
    ),
)
# MMDetection's FPN -> detectron2's, which numbers a level by log2 of its stride.
_FPN: Pairs = (
    *((f"lateral_convs.{i}.conv.", f"backbone.fpn_lateral{i + 3}.") for i in range(3)),
    *((f"fpn_convs.{i}.conv.", f"backbone.fpn_output{i + 3}.") for i in range(3)),
    ("fpn_convs.3.conv.", "backbone.top_block.p6."),
    ("fpn_convs.4.conv.", "backbone.top_block.p7."),
)
# MMDetection's T-head -> ours.
_HEAD: Pairs = (
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
# The authors' T-head -> ours.
_AUTHORS_HEAD: Pairs = (
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


def _under(prefix: str, pairs: Pairs) -> Pairs:
    return tuple((prefix + theirs, ours) for theirs, ours in pairs)


_MMDET_BODY = (*_under("backbone.", _RESNET), *_under("neck.", _FPN))
TABLES: dict[str, Pairs] = {
    "mmdet": (*_MMDET_BODY, *_under("bbox_head.", _HEAD)),
    "authors": (*_MMDET_BODY, *_under("bbox_head.", _AUTHORS_HEAD)),
    "torchvision-backbone": _RESNET,
    "mmdet-backbone": _under("backbone.", _RESNET),
    "detectron2-backbone": tuple(
        (prefix, BACKBONE_PREFIX) for prefix in (BACKBONE_PREFIX, "bottom_up.", "")
    ),
}

# Classifiers of backbones that were trained on ImageNet.
CLASSIFIERS = ("fc.", "stem.fc.", "head.fc.", "fc1000.", "linear.")

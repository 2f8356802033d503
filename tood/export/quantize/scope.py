"""Which operators of an exported graph are computed in int8.

Scores, box decoding, the offsets of the sides and of deformable convolutions, and layer attention
turn small errors into large ones, and take little time. So the default names what is quantized, and
everything else stays in float: also what a head of your own adds.

Node names begin with the modules that they come from: ``/head/inter_convs.0_2/Conv`` is the first
interactive layer on the third level. ONNX Runtime's simplification and OpenVINO's conversion keep
them.
"""

import re
from typing import Literal, get_args

# From the fewest to the most operators in int8.
Parts = Literal["backbone", "layers", "head", "all"]
PARTS: tuple[str, ...] = get_args(Parts)

_OFFSETS = re.compile(r"offset")
# T-head's interactive layers, and the towers of the parallel head.
_LAYERS = re.compile(r"/head/(inter_convs|cls_convs|reg_convs)(?![a-zA-Z])")
_PREDICTORS = re.compile(
    r"/(tood_cls|tood_reg|cls_score|bbox_pred|centerness|cls_prob_module|reg_offset_module"
    r"|layer_attention)(?![a-zA-Z])"  # a second call is named tood_cls_1
)


def is_quantized(name: str, parts: Parts = "layers") -> bool:
    """Whether a convolution or matrix product is computed in int8.

    Args:
        name: of the node.
        parts: "backbone" for backbone and FPN; "layers" for these and the stacks of 3x3
            convolutions of the head; "head" for everything but the predictors; "all". Offsets of
            deformable convolutions are in float except in "all".
    """
    if parts == "all":
        return True
    if _OFFSETS.search(name):
        return False
    if name.startswith("/backbone/"):
        return True
    if parts == "backbone" or not name.startswith("/head/"):
        return False
    return bool(_LAYERS.match(name)) if parts == "layers" else not _PREDICTORS.search(name)

"""Config keys of version 0.1 and what they are called now. Used for error messages only."""

# Nodes that only moved: every leaf keeps its name.
_MOVED_NODES = {
    "ATSS": ("ASSIGNERS.ATSS", ("TOPK",)),
    "TAL": ("ASSIGNERS.TAL", ("TOPK", "ALPHA", "BETA", "MIN_POSITIVES", "IOU_TYPE")),
    "FCOS": ("ASSIGNERS.FCOS", ("SIZES_OF_INTEREST",)),
    "FOVEABOX": ("ASSIGNERS.FOVEABOX", ("SIGMA", "SCALE_RANGES")),
    "IOU": ("ASSIGNERS.MAX_IOU", ()),
    "FOCAL_LOSS": ("CRITERIA.FOCAL_LOSS", ("ALPHA", "GAMMA")),
    "TASK_ALIGNED_LOSS": ("CRITERIA.TASK_ALIGNED_LOSS", ("GAMMA",)),
    "QUALITY_FOCAL_LOSS": ("CRITERIA.QUALITY_FOCAL_LOSS", ("BETA",)),
    "FOVEABOX_LOSS": ("CRITERIA.FOVEABOX_LOSS", ("ALPHA", "GAMMA", "BETA")),
}

# Leaves that got another name, some of them in a moved node.
_RENAMED_LEAVES = {
    "IMPORTS": "CUSTOM_IMPORTS",
    "WARMUP_EPOCHS": "WARMUP.EPOCHS",
    "P6_FROM": "FPN.P6_SOURCE",
    "RELU_BEFORE_P7": "FPN.RELU_BEFORE_P7",
    "PARALLEL_HEAD.TASK_ALIGNED": "PARALLEL_HEAD.WITH_TAP",
    "TAL.INSIDE_FIRST": "ASSIGNERS.TAL.CANDIDATES_INSIDE_GT",
    "TAL.MIN_SIZE": "ASSIGNERS.TAL.MIN_GT_SIZE",
    "FCOS.CENTER_RADIUS": "ASSIGNERS.FCOS.CENTER_SAMPLING_RADIUS",
    "IOU.NEGATIVE_THRESH": "ASSIGNERS.MAX_IOU.NEG_IOU_THRESH",
    "IOU.POSITIVE_THRESH": "ASSIGNERS.MAX_IOU.POS_IOU_THRESH",
}


def _renamed_keys() -> dict[str, str]:
    keys = {
        "DATASETS.TRAIN_JSON": "DATASETS.TRAIN_ANNOTATIONS",
        "DATASETS.TEST_JSON": "DATASETS.TEST_ANNOTATIONS",
    }
    tood = dict(_RENAMED_LEAVES)
    for old, (new, leaves) in _MOVED_NODES.items():
        tood[old] = new
        tood |= {f"{old}.{leaf}": f"{new}.{leaf}" for leaf in leaves}
    return keys | {f"MODEL.TOOD.{old}": f"MODEL.TOOD.{new}" for old, new in tood.items()}


# Full names of nodes and leaves, old -> new.
RENAMED_KEYS: dict[str, str] = _renamed_keys()

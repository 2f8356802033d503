"""detectron2's own first stage for the configs of configs/two_stage, as a reference."""

# Config options, KEY VALUE ..., that come after a config of configs/two_stage: FPN, RPN and ROI
# heads of detectron2's Base-RCNN-FPN.yaml and its leaves, on the same ResNet.
RPN_OPTIONS = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    *("MODEL.RESNETS.OUT_FEATURES", "['res2', 'res3', 'res4', 'res5']"),
    *("MODEL.FPN.IN_FEATURES", "['res2', 'res3', 'res4', 'res5']"),
    *("MODEL.PROPOSAL_GENERATOR.NAME", "RPN"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]"),
    *("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.5, 1.0, 2.0]]"),
    *("MODEL.RPN.IN_FEATURES", "['p2', 'p3', 'p4', 'p5', 'p6']"),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "2000"),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", "1000"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "1000"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "1000"),
    *("MODEL.ROI_HEADS.IN_FEATURES", "['p2', 'p3', 'p4', 'p5']"),
]


def rpn_options(frozen_norm: bool = True) -> list[str]:
    """Options of detectron2's own detector.

    Args:
        frozen_norm: use FrozenBN in the ResNet, in the place of this project's FrozenStatsBN, which
            detectron2's builder does not have. False keeps the config's normalization.
    """
    return [*RPN_OPTIONS, *(["MODEL.RESNETS.NORM", "FrozenBN"] if frozen_norm else [])]

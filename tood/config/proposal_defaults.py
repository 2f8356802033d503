"""The config keys of TOOD as the first stage of a two-stage detector."""

from detectron2.config import CfgNode


def add_proposal_config(cfg: CfgNode) -> None:
    """Add the keys that ``TOODProposalNetwork`` and the ROI heads of this project read.

    Args:
        cfg: changed in place.
    """
    _add_proposal_keys(cfg.MODEL.TOOD)
    _add_roi_keys(cfg)


def _add_proposal_keys(node: CfgNode) -> None:
    # ---- Proposals ----
    # Read by TOODProposalNetwork (MODEL.PROPOSAL_GENERATOR.NAME). It is the same dense detector as
    # the meta-architecture, so the other keys of MODEL.TOOD apply too, except those of inference.
    node.PROPOSALS = CfgNode()
    # True trains one class, "object". False trains all classes, as the published weights have them;
    # a proposal's score is then that of its best class.
    node.PROPOSALS.CLASS_AGNOSTIC = True
    # Maximum number of candidates per level before NMS, in training.
    node.PROPOSALS.PRE_NMS_TOPK_TRAIN = 2000
    # The same in evaluation.
    node.PROPOSALS.PRE_NMS_TOPK_TEST = 1000
    # Maximum number of proposals per image, in training.
    node.PROPOSALS.POST_NMS_TOPK_TRAIN = 2000
    # The same in evaluation. detectron2's RPN gives 1000, which takes longer in the second stage.
    node.PROPOSALS.POST_NMS_TOPK_TEST = 256
    # NMS removes a proposal whose IoU with a better one is above this, in training. Higher than for
    # detections, because the second stage learns from several boxes per object.
    node.PROPOSALS.NMS_THRESH_TRAIN = 0.9
    # The same in evaluation. The second stage has an NMS of its own.
    node.PROPOSALS.NMS_THRESH_TEST = 0.9
    # The multiple that the backbone pads images to (its size_divisibility), which a proposal
    # generator does not see. Changing it does not change the padding.
    node.PROPOSALS.SIZE_DIVISOR = 32


def _add_roi_keys(cfg: CfgNode) -> None:
    # ---- Second stage ----
    # Read by TOODStandardROIHeads and TOODCascadeROIHeads (MODEL.ROI_HEADS.NAME): the score of a
    # detection is sqrt(class score * proposal score) instead of the class score.
    cfg.MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE = False

"""Where a config has TOOD: as the detector itself, or as the first stage of a two-stage one."""

from detectron2.config import CfgNode

# Registered by tood.modeling, which is above this layer.
TOOD_META_ARCH, TOOD_PROPOSAL_NETWORK = "TOOD", "TOODProposalNetwork"
# detectron2's meta-architecture that has proposals and no second stage.
PROPOSALS_ONLY = "ProposalNetwork"


def has_tood(cfg: CfgNode) -> bool:
    """Whether the config's model is a TOOD, or has one as its first stage."""
    return cfg.MODEL.META_ARCHITECTURE == TOOD_META_ARCH or is_two_stage(cfg)


def is_two_stage(cfg: CfgNode) -> bool:
    """Whether TOOD generates the proposals of another meta-architecture."""
    model = cfg.MODEL
    return (
        model.META_ARCHITECTURE != TOOD_META_ARCH
        and model.PROPOSAL_GENERATOR.NAME == TOOD_PROPOSAL_NETWORK
    )


def has_roi_heads(cfg: CfgNode) -> bool:
    """Whether TOOD's proposals go to ROI heads."""
    return is_two_stage(cfg) and cfg.MODEL.META_ARCHITECTURE != PROPOSALS_ONLY

"""The config keys that TOOD adds to detectron2's."""

import logging

from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def add_tood_config(cfg: CfgNode) -> None:
    """Add TOOD's keys, with the paper's values, to a config made by detectron2's ``get_cfg()``.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.TOOD = CfgNode()
    _add_model_keys(cfg.MODEL.TOOD)
    _add_training_keys(cfg.MODEL.TOOD)

    # ---- your own data: a COCO-format JSON and the folder that its file names are relative to ----
    # Where given, they take the place of DATASETS.TRAIN and DATASETS.TEST.
    cfg.DATASETS.TRAIN_ANNOTATIONS = ""
    cfg.DATASETS.TRAIN_IMAGES = ""
    cfg.DATASETS.TEST_ANNOTATIONS = ""
    cfg.DATASETS.TEST_IMAGES = ""


def _add_model_keys(node: CfgNode) -> None:
    """The keys of ``MODEL.TOOD`` that the model itself and inference need."""
    # Python files or modules that the programs import before they build the model: they register
    # heads, assigners and criteria of your own, to be named below.
    node.CUSTOM_IMPORTS = []
    # K, the number of classes of the dataset. The class index K means background.
    node.NUM_CLASSES = 80
    # Feature maps of the backbone that the head works on, finest first.
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # What is regressed: "anchor_free" (logarithms of the distances from the point to the four
    # sides), "anchor_based" (deltas to the anchor), or "anchor_free_linear" (the distances
    # themselves, as FCOS does it). All have one anchor a cell.
    node.ANCHOR_TYPE = "anchor_free"

    # ---- the head ----
    node.HEAD = CfgNode()
    # Name in DENSE_HEAD_REGISTRY.
    node.HEAD.NAME = "TOODHead"
    # N of the paper, the number of interactive layers; of ParallelHead, those of each tower, 4.
    node.HEAD.NUM_CONVS = 6
    # Channels of every layer.
    node.HEAD.CHANNELS = 256
    # Normalization of the head's convolutions, by detectron2's names ("GN" has 32 groups).
    node.HEAD.NORM = "GN"
    # How many layers (of each tower), from the first on, are deformable (DCNv2, 4 groups).
    node.HEAD.NUM_DCN = 0
    # Score of every point at the start of training.
    node.HEAD.PRIOR_PROB = 0.01
    # What only ParallelHead reads.
    node.PARALLEL_HEAD = CfgNode()
    # A centerness branch on the tower of localization (ATSS, FCOS).
    node.PARALLEL_HEAD.CENTERNESS = False
    # The task-aligned predictor on top of both towers ("TAP" of Table 2).
    node.PARALLEL_HEAD.WITH_TAP = False
    # The towers' convolutions have biases although a normalization follows (FCOS).
    node.PARALLEL_HEAD.CONV_BIAS = False

    # ---- the backbone "build_tood_resnet_fpn_backbone" ----
    node.FPN = CfgNode()
    # What P6 is made from: "p5", or the backbone's last map "res5" (FoveaBox).
    node.FPN.P6_SOURCE = "p5"
    # A ReLU between P6 and P7 (FCOS).
    node.FPN.RELU_BEFORE_P7 = False

    # ---- inference; TEST.DETECTIONS_PER_IMAGE (100) is detectron2's ----
    # Candidates score more than this.
    node.SCORE_THRESH_TEST = 0.05
    # Candidates, (point, class) pairs, per level.
    node.TOPK_CANDIDATES_TEST = 1000
    # Boxes of one class that overlap by more than this IoU suppress each other.
    node.NMS_THRESH_TEST = 0.6

    # ---- the classes, for people and result files ----
    # Names of the classes, and their ids in COCO-format files, by class index. Training and
    # evaluation fill them in from the dataset and save them with the config, so that a model can
    # be shown where its dataset is not.
    node.CLASS_NAMES = []
    node.CATEGORY_IDS = []


def _add_training_keys(node: CfgNode) -> None:
    """The keys of ``MODEL.TOOD`` that only training needs."""
    node.WARMUP = CfgNode()
    # Length of the warm-up phase in epochs of the training set as filtered; 0 starts with task
    # alignment learning. In the authors' code 4 of 12 and 4 of 24 epochs.
    node.WARMUP.EPOCHS = 4
    # The warm-up phase: its assigner (ASSIGNER_REGISTRY) and losses (CRITERION_REGISTRY).
    node.WARMUP.ASSIGNER = "ATSSAssigner"
    node.WARMUP.CRITERION = "CenternessFocalCriterion"
    # The phase after it, task alignment learning (TAL).
    node.ALIGNED = CfgNode()
    node.ALIGNED.ASSIGNER = "TaskAlignedAssigner"
    node.ALIGNED.CRITERION = "TaskAlignedCriterion"

    _add_assigner_keys(node)
    _add_loss_keys(node)


def _add_assigner_keys(node: CfgNode) -> None:
    """A node for each assigner: the arguments of its constructor."""
    node.ASSIGNERS = CfgNode()
    node.ASSIGNERS.ATSS = CfgNode()
    # Candidates per ground truth and level.
    node.ASSIGNERS.ATSS.TOPK = 9
    node.ASSIGNERS.TAL = CfgNode()
    # m of the paper: candidates per ground truth, over all levels.
    node.ASSIGNERS.TAL.TOPK = 13
    # Exponents of the alignment metric t = s^alpha * u^beta (eq. 9).
    node.ASSIGNERS.TAL.ALPHA = 1.0
    node.ASSIGNERS.TAL.BETA = 6.0
    # Options of later work, off here; configs/ablations/README.md says whose.
    # Look for the TOPK candidates among the points inside a ground truth only, instead of dropping
    # those outside afterwards.
    node.ASSIGNERS.TAL.CANDIDATES_INSIDE_GT = False
    # Sides of a ground truth below so many pixels count as so long where points have to be inside.
    node.ASSIGNERS.TAL.MIN_GT_SIZE = 0.0
    # A ground truth with fewer positives gets the nearest points that no other has.
    node.ASSIGNERS.TAL.MIN_POSITIVES = 0
    # What u is: "iou", "giou", "diou" or "ciou"; values below 0 count as 0.
    node.ASSIGNERS.TAL.IOU_TYPE = "iou"
    node.ASSIGNERS.FCOS = CfgNode()
    # Half a side of the square around a ground truth's center that points must lie in, in strides;
    # 0 for the whole box.
    node.ASSIGNERS.FCOS.CENTER_SAMPLING_RADIUS = 1.5
    # Limits between the levels, in pixels of the largest distance from the point to a side.
    node.ASSIGNERS.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512]
    node.ASSIGNERS.FOVEABOX = CfgNode()
    # Sides of the middle part that points must lie in, as a share of the ground truth's.
    node.ASSIGNERS.FOVEABOX.SIGMA = 0.4
    # For each level the ground truths' smallest and largest square root of the area, in pixels.
    node.ASSIGNERS.FOVEABOX.SCALE_RANGES = [[1, 64], [32, 128], [64, 256], [128, 512], [256, 2048]]
    # RetinaNet's rule.
    node.ASSIGNERS.MAX_IOU = CfgNode()
    # An anchor that overlaps no ground truth by this IoU is background...
    node.ASSIGNERS.MAX_IOU.NEG_IOU_THRESH = 0.4
    # ...and one that does by this is positive; those between take part in no loss.
    node.ASSIGNERS.MAX_IOU.POS_IOU_THRESH = 0.5


def _add_loss_keys(node: CfgNode) -> None:
    """A node for each criterion, and the weights of the losses."""
    node.CRITERIA = CfgNode()
    # Focal loss with hard labels: weight of the positives, and focusing exponent.
    node.CRITERIA.FOCAL_LOSS = CfgNode()
    node.CRITERIA.FOCAL_LOSS.ALPHA = 0.25
    node.CRITERIA.FOCAL_LOSS.GAMMA = 2.0
    # Classification loss of TAL (eq. 11): focusing exponent gamma.
    node.CRITERIA.TASK_ALIGNED_LOSS = CfgNode()
    node.CRITERIA.TASK_ALIGNED_LOSS.GAMMA = 2.0
    # Quality focal loss: focusing exponent.
    node.CRITERIA.QUALITY_FOCAL_LOSS = CfgNode()
    node.CRITERIA.QUALITY_FOCAL_LOSS.BETA = 2.0
    # FoveaBox: focal loss as above, and where smooth L1 turns from square to linear.
    node.CRITERIA.FOVEABOX_LOSS = CfgNode()
    node.CRITERIA.FOVEABOX_LOSS.ALPHA = 0.4
    node.CRITERIA.FOVEABOX_LOSS.GAMMA = 1.5
    node.CRITERIA.FOVEABOX_LOSS.BETA = 0.11
    # Weights of the losses in the total, by their names, in both phases.
    node.LOSS_WEIGHTS = CfgNode()
    node.LOSS_WEIGHTS.LOSS_CLS = 1.0
    node.LOSS_WEIGHTS.LOSS_BOX_REG = 2.0
    node.LOSS_WEIGHTS.LOSS_CENTERNESS = 1.0

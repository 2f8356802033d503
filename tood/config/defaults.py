"""The config keys that TOOD adds to detectron2's.

tools/docs/config_reference.py writes docs/reference/config.md from the comments in this file and
in the others of this folder whose names end in _defaults.py.
"""

from detectron2.config import CfgNode

from .augmentation_defaults import add_augmentation_config
from .proposal_defaults import add_proposal_config
from .renames import RENAMED_KEYS
from .run_defaults import add_run_config
from .timm_defaults import add_timm_config


def add_tood_config(cfg: CfgNode) -> None:
    """Add TOOD's keys, with the paper's values, to a config made by detectron2's ``get_cfg()``.

    Also registers the keys that version 0.1 had under other names: merging one of them raises an
    error that names the new key.

    Args:
        cfg: changed in place.
    """
    cfg.MODEL.TOOD = CfgNode()
    _add_model_keys(cfg.MODEL.TOOD)
    _add_inference_keys(cfg.MODEL.TOOD)
    _add_training_keys(cfg.MODEL.TOOD)
    _add_assigner_keys(cfg.MODEL.TOOD)
    _add_criterion_keys(cfg.MODEL.TOOD)
    _add_data_keys(cfg)
    add_augmentation_config(cfg)
    add_run_config(cfg)
    add_timm_config(cfg)
    add_proposal_config(cfg)
    for old, new in RENAMED_KEYS.items():
        if not cfg.key_is_renamed(old):
            cfg.register_renamed_key(old, new)


def _add_model_keys(node: CfgNode) -> None:
    # ---- Model ----
    # Python files or modules to import before the model is built, for example to register your own
    # heads, assigners and criteria. Loading a config with this key runs their code. Paths are
    # relative to the working directory.
    node.CUSTOM_IMPORTS = []
    # K, the number of classes. Class index K means background. If it is 80, COCO's number, and the
    # dataset has another, that of the dataset is taken.
    node.NUM_CLASSES = 80
    # Feature maps of the backbone that the head reads, finest first.
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # What the head regresses: "anchor_free" (logarithms of the distances from the anchor point to
    # the four sides), "anchor_free_linear" (the distances themselves, as in FCOS) or "anchor_based"
    # (deltas to the anchor box). Each has one anchor per location.
    node.ANCHOR_TYPE = "anchor_free"

    # ---- Head ----
    node.HEAD = CfgNode()
    # Name of the head in DENSE_HEAD_REGISTRY: "TOODHead" (T-head), "ParallelHead" or your own.
    node.HEAD.NAME = "TOODHead"
    # Number of stacked convolutions: the paper's N for TOODHead (6); per branch for ParallelHead
    # (4).
    node.HEAD.NUM_CONVS = 6
    # Channels of these convolutions.
    node.HEAD.CHANNELS = 256
    # Normalization after these convolutions: a name of detectron2's get_norm, such as "GN" (32
    # groups) or "" for none.
    node.HEAD.NORM = "GN"
    # How many of these convolutions, counted from the first, are deformable (DCNv2 with 4 groups).
    node.HEAD.NUM_DCN = 0
    # Score of every class at every location at the start of training; initializes the bias.
    node.HEAD.PRIOR_PROB = 0.01
    # Read by ParallelHead only.
    node.PARALLEL_HEAD = CfgNode()
    # Add a centerness branch to the localization branch (ATSS, FCOS).
    node.PARALLEL_HEAD.CENTERNESS = False
    # Add the task-aligned predictor to both branches ("TAP" in Table 2).
    node.PARALLEL_HEAD.WITH_TAP = False
    # Keep the bias of convolutions that a normalization follows (FCOS).
    node.PARALLEL_HEAD.CONV_BIAS = False

    # ---- Backbone ----
    # Read by our FPN builders; detectron2's MODEL.RESNETS and MODEL.FPN apply too.
    node.FPN = CfgNode()
    # Feature map that P6 is computed from: "p5", or the backbone's last map "res5" (FoveaBox).
    node.FPN.P6_SOURCE = "p5"
    # Apply a ReLU between P6 and P7 (FCOS).
    node.FPN.RELU_BEFORE_P7 = False


def _add_inference_keys(node: CfgNode) -> None:
    # ---- Inference ----
    # Minimum score of a detection, exclusive. The maximum number of detections per image is
    # detectron2's TEST.DETECTIONS_PER_IMAGE (100; negative for all of them).
    node.SCORE_THRESH_TEST = 0.05
    # Maximum number of candidates, (location, class) pairs, per level before NMS.
    node.TOPK_CANDIDATES_TEST = 1000
    # NMS removes a box whose IoU with a better box of the same class is above this.
    node.NMS_THRESH_TEST = 0.6

    # ---- Classes ----
    # Class names by class index. Training and evaluation read them from the dataset and save them
    # with the config, so that inference does not need the dataset.
    node.CLASS_NAMES = []
    # Category ids in COCO-format files by class index; filled in like CLASS_NAMES.
    node.CATEGORY_IDS = []


def _add_training_keys(node: CfgNode) -> None:
    # ---- Training phases ----
    # The ATSS warm-up phase (not to be confused with the LR warmup, SOLVER.WARMUP_ITERS).
    node.WARMUP = CfgNode()
    # Length in epochs of the filtered training set, also a fraction such as 1.5; 0 starts with the
    # aligned phase. The authors use 4 for both schedules, of 12 and of 24 epochs.
    node.WARMUP.EPOCHS = 4
    # Assigner of the phase, a name in ASSIGNER_REGISTRY.
    node.WARMUP.ASSIGNER = "ATSSAssigner"
    # Losses of the phase, a name in CRITERION_REGISTRY.
    node.WARMUP.CRITERION = "CenternessFocalCriterion"
    # The aligned phase: task alignment learning (TAL), until the end of training.
    node.ALIGNED = CfgNode()
    # Assigner of the phase, a name in ASSIGNER_REGISTRY.
    node.ALIGNED.ASSIGNER = "TaskAlignedAssigner"
    # Losses of the phase, a name in CRITERION_REGISTRY.
    node.ALIGNED.CRITERION = "TaskAlignedCriterion"

    # ---- Loss weights ----
    # Weight of each loss in the total, in both phases.
    node.LOSS_WEIGHTS = CfgNode()
    # Classification loss.
    node.LOSS_WEIGHTS.LOSS_CLS = 1.0
    # Box regression loss (GIoU, or FoveaBox's smooth L1).
    node.LOSS_WEIGHTS.LOSS_BOX_REG = 2.0
    # Centerness loss, of heads with a centerness branch.
    node.LOSS_WEIGHTS.LOSS_CENTERNESS = 1.0


def _add_assigner_keys(node: CfgNode) -> None:
    # ---- Assigners ----
    # One node per assigner: the arguments of its constructor.
    node.ASSIGNERS = CfgNode()
    # ATSSAssigner.
    node.ASSIGNERS.ATSS = CfgNode()
    # Candidates per GT box and level.
    node.ASSIGNERS.ATSS.TOPK = 9
    # TaskAlignedAssigner. The last four keys come from later work and are off by default;
    # configs/ablations/README.md says from where.
    node.ASSIGNERS.TAL = CfgNode()
    # The paper's m: candidates per GT box, over all levels.
    node.ASSIGNERS.TAL.TOPK = 13
    # Exponent of the score s in the alignment metric t = s^alpha * u^beta (eq. 9).
    node.ASSIGNERS.TAL.ALPHA = 1.0
    # Exponent of the IoU u in the alignment metric.
    node.ASSIGNERS.TAL.BETA = 6.0
    # True selects the TOPK candidates among the points inside the GT box. False, as in the paper,
    # selects among all points and drops those outside afterwards.
    node.ASSIGNERS.TAL.CANDIDATES_INSIDE_GT = False
    # Minimum side length (pixels) used in the inside test; shorter sides are extended to it.
    node.ASSIGNERS.TAL.MIN_GT_SIZE = 0.0
    # Minimum number of positives per GT box; missing ones are the nearest unassigned points.
    node.ASSIGNERS.TAL.MIN_POSITIVES = 0
    # What u is: "iou", "giou", "diou" or "ciou". Negative values count as 0.
    node.ASSIGNERS.TAL.IOU_TYPE = "iou"
    # FCOSAssigner.
    node.ASSIGNERS.FCOS = CfgNode()
    # Positives lie in a square around the center of the GT box; half its side, in strides of the
    # level. 0 uses the whole GT box.
    node.ASSIGNERS.FCOS.CENTER_SAMPLING_RADIUS = 1.5
    # Boundaries between the levels: the maximum distance (pixels) from the point to a side of the
    # GT box, for every level except the last.
    node.ASSIGNERS.FCOS.SIZES_OF_INTEREST = [64, 128, 256, 512]
    # FoveaBoxAssigner.
    node.ASSIGNERS.FOVEABOX = CfgNode()
    # Positives lie in the central part of the GT box; its sides as a fraction of the box's sides.
    node.ASSIGNERS.FOVEABOX.SIGMA = 0.4
    # Per level, the minimum and maximum square root of the GT box's area (pixels).
    node.ASSIGNERS.FOVEABOX.SCALE_RANGES = [[1, 64], [32, 128], [64, 256], [128, 512], [256, 2048]]
    # MaxIoUAssigner, RetinaNet's rule.
    node.ASSIGNERS.MAX_IOU = CfgNode()
    # Anchors with a maximum IoU below this are background.
    node.ASSIGNERS.MAX_IOU.NEG_IOU_THRESH = 0.4
    # Anchors with a maximum IoU of at least this are positive. Anchors in between are ignored.
    node.ASSIGNERS.MAX_IOU.POS_IOU_THRESH = 0.5


def _add_criterion_keys(node: CfgNode) -> None:
    # ---- Criteria ----
    # One node per loss: the arguments of the criteria that use it.
    node.CRITERIA = CfgNode()
    # Focal loss with hard labels (CenternessFocalCriterion, FocalCriterion).
    node.CRITERIA.FOCAL_LOSS = CfgNode()
    # Weight of positives; negatives have 1 - ALPHA.
    node.CRITERIA.FOCAL_LOSS.ALPHA = 0.25
    # Focusing exponent.
    node.CRITERIA.FOCAL_LOSS.GAMMA = 2.0
    # TaskAlignedCriterion, the losses of TAL.
    node.CRITERIA.TASK_ALIGNED_LOSS = CfgNode()
    # Focusing exponent of the classification loss (gamma in eq. 11).
    node.CRITERIA.TASK_ALIGNED_LOSS.GAMMA = 2.0
    # QualityFocalCriterion.
    node.CRITERIA.QUALITY_FOCAL_LOSS = CfgNode()
    # Focusing exponent.
    node.CRITERIA.QUALITY_FOCAL_LOSS.BETA = 2.0
    # FoveaBoxCriterion.
    node.CRITERIA.FOVEABOX_LOSS = CfgNode()
    # Weight of positives in its focal loss; negatives have 1 - ALPHA.
    node.CRITERIA.FOVEABOX_LOSS.ALPHA = 0.4
    # Focusing exponent of its focal loss.
    node.CRITERIA.FOVEABOX_LOSS.GAMMA = 1.5
    # Where its smooth L1 box loss turns from quadratic to linear.
    node.CRITERIA.FOVEABOX_LOSS.BETA = 0.11


def _add_data_keys(cfg: CfgNode) -> None:
    # ---- Your own data ----
    # The format of the four paths below: "coco" (a JSON file), "yolo" (data.yaml), "voc" (a folder
    # of Pascal VOC), "openimages" (a folder of CSV files), or "auto" to recognize it.
    cfg.DATASETS.FORMAT = "auto"
    # The annotations to train on: a file or a folder. Replaces DATASETS.TRAIN.
    cfg.DATASETS.TRAIN_ANNOTATIONS = ""
    # The folder that the file names in TRAIN_ANNOTATIONS are relative to. YOLO, Pascal VOC and Open
    # Images know it themselves.
    cfg.DATASETS.TRAIN_IMAGES = ""
    # The split to train on, of formats that have several.
    cfg.DATASETS.TRAIN_SPLIT = "train"
    # The annotations to evaluate on: a file or a folder. Replaces DATASETS.TEST.
    cfg.DATASETS.TEST_ANNOTATIONS = ""
    # The folder that the file names in TEST_ANNOTATIONS are relative to.
    cfg.DATASETS.TEST_IMAGES = ""
    # The split to evaluate on, of formats that have several: "val", or "test" for the final result.
    cfg.DATASETS.TEST_SPLIT = "val"
    # How many training images, over all processes, may be unreadable or have another size than
    # annotated before training stops. Each is named and
    # replaced by another image.
    cfg.DATALOADER.MAX_BAD_IMAGES = 0
    # The fraction of the images that RandomSubsetTrainingSampler draws from. detectron2 reads this
    # key, but its defaults do not have it.
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 1.0
    # Turn images as their EXIF orientation says, in training, evaluation and detection. False where
    # boxes were drawn on the stored pixels.
    cfg.INPUT.APPLY_EXIF_ORIENTATION = True

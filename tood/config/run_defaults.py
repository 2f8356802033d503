"""The config keys of a training run that TOOD adds to detectron2's.

tools/docs/config_reference.py writes docs/reference/config.md from the comments in this file.
"""

from detectron2.config import CfgNode


def add_run_config(cfg: CfgNode) -> None:
    """Add the keys, all of which are neutral or off.

    Args:
        cfg: changed in place.
    """
    _add_checkpoint_keys(cfg)
    _add_evaluation_keys(cfg)
    _add_schedule_keys(cfg)
    _add_optimizer_keys(cfg)
    _add_tracking_keys(cfg)


def _add_checkpoint_keys(cfg: CfgNode) -> None:
    # ---- Checkpoints ----
    # The longest time between two checkpoints, in minutes, also a fraction; 0 for no limit.
    cfg.SOLVER.CHECKPOINT_MINUTES = 10
    # How many checkpoints of SOLVER.CHECKPOINT_PERIOD stay, the last ones; 0 for all.
    # model_best.pth and model_final.pth stay in any case.
    cfg.SOLVER.CHECKPOINT_KEEP = 0


def _add_evaluation_keys(cfg: CfgNode) -> None:
    # ---- Best checkpoint ----
    # The metric that model_best.pth is the best of, as metrics.json names it: "bbox/AP",
    # "bbox/AP50", "bbox/AP-cat" for a class, or "NAME/bbox/AP" with several test sets. Higher is
    # better, except for the losses of LOSS, such as "validation/total_loss". "" saves none.
    cfg.TEST.BEST_METRIC = "bbox/AP"
    # Stop after this many evaluations in a row without a better BEST_METRIC; 0 trains to the end.
    cfg.TEST.PATIENCE = 0
    # Compute the losses on the test set at each evaluation, with the assigner and the criterion of
    # the current phase.
    cfg.TEST.LOSS = False
    # Write report.html after the training or an evaluation: curves, errors, the worst images.
    cfg.TEST.REPORT = True


def _add_schedule_keys(cfg: CfgNode) -> None:
    # ---- Schedule in epochs ----
    # Length of training in epochs of ceil(images / IMS_PER_BATCH) iterations; the images are those
    # that the sampler draws from the filtered training set. It replaces SOLVER.MAX_ITER and STEPS.
    # 0 uses those.
    cfg.SOLVER.EPOCHS = 0
    # The epochs after which WarmupMultiStepLR multiplies the learning rate by SOLVER.GAMMA, such as
    # (8, 11). () stands for 8/12 and 11/12 of SOLVER.EPOCHS, as in the published schedules. For a
    # constant learning rate, set SOLVER.GAMMA 1.
    cfg.SOLVER.EPOCH_STEPS = ()
    # Evaluate every this many epochs, instead of every TEST.EVAL_PERIOD iterations. 0 uses
    # EVAL_PERIOD.
    cfg.TEST.EVAL_EPOCHS = 0
    # ---- Learning rate ----
    # Multiply SOLVER.BASE_LR by IMS_PER_BATCH / REFERENCE_BATCH_SIZE (the linear rule), so that
    # another batch needs no arithmetic. Needs SOLVER.REFERENCE_WORLD_SIZE 0, because detectron2's
    # rescaling does the same for another number of GPUs.
    cfg.SOLVER.AUTO_SCALE_LR = False
    # The batch that SOLVER.BASE_LR is given for: the published 0.01 is for 16 images.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 16


def _add_optimizer_keys(cfg: CfgNode) -> None:
    # ---- Optimizer ----
    # "SGD", with SOLVER.MOMENTUM and NESTEROV, or "AdamW", which reads neither. AdamW needs a much
    # lower BASE_LR, such as 0.0001, and a larger WEIGHT_DECAY, such as 0.05.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Process the images of a step in this many parts, one after the other, so that a large batch
    # fits the GPU's memory. The gradient is that of the whole batch: losses are divided by its
    # normalizers. SOLVER.IMS_PER_BATCH stays the images of one step.
    cfg.SOLVER.ACCUMULATE = 1
    cfg.SOLVER.EMA = CfgNode()
    # The exponential moving average of the weights. It is what is evaluated, and the model of
    # checkpoints, so that all programs use it; a resume finds the weights themselves in them too.
    cfg.SOLVER.EMA.ENABLED = False
    # The weight of the average in each step; the rest is that of the new weights.
    cfg.SOLVER.EMA.DECAY = 0.9998
    # Steps in which DECAY builds up from 0, as 1 - exp(-step / RAMP_UP); 0 has it from the first.
    cfg.SOLVER.EMA.RAMP_UP = 2000
    # Also evaluate the weights themselves; their results have the prefix "raw_".
    cfg.SOLVER.EMA.EVAL_RAW = False
    # ---- Fine-tuning ----
    # Patterns of the names of parameters that are not trained, such as ["backbone.*"]. "*" matches
    # dots too. Normalization layers whose parameters are all frozen keep their statistics.
    cfg.SOLVER.FREEZE = []
    # Pairs of a pattern and a factor that multiplies the learning rate of the parameters, such as
    # [["backbone.*", 0.1]]. The last pattern that matches a name counts.
    cfg.SOLVER.LR_FACTORS = []


def _add_tracking_keys(cfg: CfgNode) -> None:
    # ---- Experiment trackers ----
    cfg.TRACKING = CfgNode()
    # Services that get the metrics of metrics.json and the config of a run, next to the files:
    # "wandb" (Weights & Biases), "mlflow". Account and server come from their environment
    # variables, such as WANDB_API_KEY, WANDB_MODE and MLFLOW_TRACKING_URI.
    cfg.TRACKING.TRACKERS = []
    # The W&B project, or the MLflow experiment.
    cfg.TRACKING.PROJECT = "tood"
    # The name of the run; "" is that of the output folder.
    cfg.TRACKING.RUN_NAME = ""
    # Tags of the run.
    cfg.TRACKING.TAGS = []

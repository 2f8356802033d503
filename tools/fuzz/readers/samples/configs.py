"""Config files: a short one on top of a config of this project, one with a base, a whole one."""

from tood.config.loading import load_config

from ..files import Case

#: A config whose model is built in a moment.
NARROW = """\
_BASE_: TOOD-R50-1x
MODEL:
  DEVICE: cpu
  WEIGHTS: ""
  RESNETS:
    DEPTH: 18
    RES2_OUT_CHANNELS: 64
  FPN:
    OUT_CHANNELS: 32
  TOOD:
    NUM_CLASSES: 3
    CLASS_NAMES: [cat, "dog", 'no']
    HEAD:
      CHANNELS: 32
      NUM_CONVS: 1
INPUT:
  MIN_SIZE_TRAIN: [64, 96]
  MIN_SIZE_TEST: 64
  MAX_SIZE_TRAIN: 128
  MAX_SIZE_TEST: 128
SOLVER:
  REFERENCE_WORLD_SIZE: 0
  IMS_PER_BATCH: 2
  BASE_LR: 0.01
  MAX_ITER: 100
  STEPS: [60, 80]
DATALOADER:
  NUM_WORKERS: 0
TEST:
  DETECTIONS_PER_IMAGE: 100
"""


def config_cases() -> list[Case]:
    """See the module."""
    with_base = (
        "# An experiment\n_BASE_: [base.yaml]\nMODEL:\n  TOOD:\n    CUSTOM_IMPORTS: []\n"
        "    ASSIGNERS: {TAL: &tal {TOPK: 13, ALPHA: 1.0, BETA: 6.0}}\n"
        "    INITIAL_PHASE: !!null\n"
    )
    with_base = with_base.replace("    INITIAL_PHASE: !!null\n", "")
    narrow = NARROW.encode()
    return [
        Case("config", "a.yaml", {"a.yaml": narrow}, {"build": True}),
        Case("config", "a.yaml", {"a.yaml": with_base.encode(), "base.yaml": narrow}),
        Case("config", "config.yaml", {"config.yaml": load_config("TOOD-R50-1x").dump().encode()}),
    ]

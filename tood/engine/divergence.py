"""The error of a training whose loss is no longer a number."""

from collections.abc import Iterator
from contextlib import contextmanager

from detectron2.config import CfgNode

from ..errors import TOODError


class TrainingDivergedError(TOODError, FloatingPointError):
    """The loss became NaN or infinite."""


@contextmanager
def explain_divergence(cfg: CfgNode) -> Iterator[None]:
    """Say what helps, where detectron2 finds a loss that is NaN or infinite.

    Args:
        cfg: the config of the training.

    Raises:
        TrainingDivergedError: in the place of detectron2's FloatingPointError.
    """
    try:
        yield
    except FloatingPointError as error:
        solver = cfg.SOLVER
        raise TrainingDivergedError(
            f"{error}\nTraining diverged. Try, in this order: SOLVER.BASE_LR in proportion to "
            f"SOLVER.IMS_PER_BATCH (0.01 for 16; here {solver.BASE_LR} for "
            f"{solver.IMS_PER_BATCH}), a longer SOLVER.WARMUP_ITERS, "
            f"SOLVER.CLIP_GRADIENTS.ENABLED True. The last checkpoint is in {cfg.OUTPUT_DIR}."
        ) from error

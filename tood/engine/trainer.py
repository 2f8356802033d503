"""The trainer: detectron2's DefaultTrainer with TOOD's parts plugged in."""

import logging
import os
import weakref
from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter

from ..checkpoint import TOODCheckpointer
from ..compat import add_optimizer_state, load_optimizer_state
from ..config.validation import validate_solver, validate_test
from ..data import TrainLoader, build_test_loader, build_train_loader
from ..errors import ConfigError, TOODError
from ..evaluation import FastCOCOEvaluator
from ..modeling.dense_detector import find_dense_core
from .hooks import PhaseHook
from .schedule import epochs_to_iters
from .terminal import describe_training
from .writers import AssignmentPrinter, PhaseMetricPrinter

logger = logging.getLogger(__name__)


class TrainingDivergedError(TOODError, FloatingPointError):
    """The loss became NaN or infinite."""


class Trainer(DefaultTrainer):
    """Trains TOOD, and detectron2's own detectors, with TOOD's data loaders and checkpoints.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.

    Raises:
        ConfigError: settings that cannot work.
        DataError: the training set has no usable annotation.
    """

    def __init__(self, cfg: CfgNode) -> None:
        validate_solver(cfg)
        super().__init__(cfg)

    @property
    def num_train_images(self) -> int:
        """Images in an epoch: the training set after filtering."""
        loader = self.data_loader
        if not isinstance(loader, TrainLoader):
            raise TypeError(
                f"build_train_loader returned a {type(loader).__name__}, but the trainer needs the "
                "length of an epoch: return tood.data.TrainLoader(loader, num_images)"
            )
        return loader.num_images

    def build_hooks(self) -> list[HookBase]:
        """Build detectron2's hooks, with our checkpointer, and the phase hook before them."""
        self._replace_checkpointer()
        hooks = super().build_hooks()
        if find_dense_core(self.model) is not None:
            # self.cfg is already rescaled for the number of processes.
            warmup_iters = epochs_to_iters(
                self.cfg.MODEL.TOOD.WARMUP.EPOCHS,
                self.num_train_images,
                self.cfg.SOLVER.IMS_PER_BATCH,
            )
            hooks.insert(0, PhaseHook(warmup_iters))
        return hooks

    def _replace_checkpointer(self) -> None:
        """Replace detectron2's checkpointer by ours.

        ``DefaultTrainer`` builds it in its constructor, right before the hooks that use it.
        """
        self.checkpointer = TOODCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )

    def build_writers(self) -> list[EventWriter]:
        """Build detectron2's writers, with the phase in the line of losses, and ours."""
        writers = [
            PhaseMetricPrinter(self.max_iter) if isinstance(writer, CommonMetricPrinter) else writer
            for writer in super().build_writers()
        ]
        return [*writers, AssignmentPrinter()]

    def before_train(self) -> None:
        """Log a summary of the training right before the first iteration."""
        core = find_dense_core(self.model)
        logger.info(
            describe_training(
                self.cfg,
                num_images=self.num_train_images,
                num_classes=None if core is None else core.num_classes,
                start_iter=self.start_iter,
                max_iter=self.max_iter,
                world_size=comm.get_world_size(),
            )
        )
        super().before_train()

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            TrainingDivergedError: the loss is NaN or infinite; the message says what helps.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            solver = self.cfg.SOLVER
            raise TrainingDivergedError(
                f"{error}\nTraining diverged. Try, in this order: SOLVER.BASE_LR in proportion to "
                f"SOLVER.IMS_PER_BATCH (0.01 for 16; here {solver.BASE_LR} for "
                f"{solver.IMS_PER_BATCH}), a longer SOLVER.WARMUP_ITERS, "
                f"SOLVER.CLIP_GRADIENTS.ENABLED True. The last checkpoint is in "
                f"{self.cfg.OUTPUT_DIR}."
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides the weights: iteration, hooks, optimizer."""
        state_dict = super().state_dict()
        add_optimizer_state(state_dict, self._trainer, DefaultTrainer)
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        A checkpoint may lack the optimizer (written by detectron2 0.4 itself) or the loss scale
        (written without AMP): these keep their current state.
        """
        if "_trainer" not in state_dict:
            logger.warning("The checkpoint has no optimizer state: momentum starts from zero.")
        inner = {
            **self._trainer.state_dict(),
            "iteration": state_dict["iteration"],
            **state_dict.get("_trainer", {}),
        }
        state_dict = {**state_dict, "_trainer": inner}
        super().load_state_dict(state_dict)
        load_optimizer_state(state_dict, self._trainer, DefaultTrainer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> TrainLoader:
        """Build the training loader."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict[str, Any]]]:
        """Build the test loader of a dataset."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build the evaluator of a dataset; results go to ``OUTPUT_DIR/inference`` by default."""
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        return FastCOCOEvaluator(dataset_name, output_dir=folder)

    @classmethod
    def evaluate_checkpoint(cls, cfg: CfgNode, resume: bool = False) -> dict[str, Any]:
        """Build the model, load its weights and evaluate it on ``DATASETS.TEST``.

        Args:
            cfg: the config. ``MODEL.WEIGHTS`` must hold weights for the whole model.
            resume: prefer the last checkpoint in ``OUTPUT_DIR``, if there is one.

        Returns:
            detectron2's results, such as ``{"bbox": {"AP": ...}}``.

        Raises:
            ConfigError: there is nothing to evaluate on, or settings that cannot work.
            CheckpointError: the weights are missing or do not match the model.
        """
        validate_test(cfg)
        if not cfg.DATASETS.TEST:
            raise ConfigError(
                "DATASETS.TEST is empty, so there is nothing to evaluate on. Name a registered "
                "dataset, or set DATASETS.TEST_ANNOTATIONS and DATASETS.TEST_IMAGES."
            )
        model = cls.build_model(cfg)
        checkpointer = TOODCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        return cls.test(cfg, model)

"""Training: detectron2's DefaultTrainer with TOOD's data checks, weights and phases."""

import logging
import os
import weakref
from collections.abc import Iterable

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import EventWriter

from ..checkpoint import TOODCheckpointer
from ..compat import trainer_saves_optimizer
from ..config.validation import validate_solver, validate_test
from ..data import build_test_loader, build_train_loader
from ..errors import ConfigError, TOODError
from ..evaluation import FastCOCOEvaluator
from ..modeling import TOOD
from .hooks.phase import PhaseHook
from .schedule import epochs_to_iters
from .writers import AssignmentPrinter

logger = logging.getLogger(__name__)


class TrainingDivergedError(TOODError, FloatingPointError):
    """The loss is no number any more."""


class Trainer(DefaultTrainer):
    """detectron2's DefaultTrainer for TOOD; also trains detectron2's own detectors.

    Args:
        cfg: the config, with its datasets set up (``tood.data.setup_datasets``).
    """

    def __init__(self, cfg: CfgNode) -> None:
        validate_solver(cfg)
        super().__init__(cfg)

    def build_hooks(self) -> list[HookBase]:
        """detectron2's hooks, the phase hook before them, and our checkpointer in them."""
        # DefaultTrainer makes detectron2's checkpointer and asks for the hooks right after.
        self.checkpointer = TOODCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        hooks = super().build_hooks()
        model = getattr(self.model, "module", self.model)
        if isinstance(model, TOOD):
            # self.cfg is what detectron2 made of the config for this number of processes.
            warmup_iters = epochs_to_iters(
                self.cfg.MODEL.TOOD.WARMUP.EPOCHS,
                self.data_loader.num_images,
                self.cfg.SOLVER.IMS_PER_BATCH,
            )
            hooks.insert(0, PhaseHook(warmup_iters))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        """detectron2's writers (terminal, metrics.json, TensorBoard) and one more line."""
        return [*super().build_writers(), AssignmentPrinter()]

    def run_step(self) -> None:
        """One iteration; a loss that is no number ends training with advice."""
        try:
            super().run_step()
        except FloatingPointError as error:
            raise TrainingDivergedError(
                f"{error}\nTraining has diverged. What helps, in this order: SOLVER.BASE_LR in "
                f"proportion to SOLVER.IMS_PER_BATCH (0.01 for 16; here {self.cfg.SOLVER.BASE_LR} "
                f"for {self.cfg.SOLVER.IMS_PER_BATCH}), a longer SOLVER.WARMUP_ITERS, "
                "SOLVER.CLIP_GRADIENTS.ENABLED True. The last checkpoint is in "
                f"{self.cfg.OUTPUT_DIR}."
            ) from error

    def state_dict(self) -> dict:
        """What a checkpoint holds beside the weights: iteration, hooks, optimizer, loss scale."""
        state = super().state_dict()
        if not trainer_saves_optimizer(DefaultTrainer):
            # As main writes it, so that either version reads what the other wrote.
            inner = {"iteration": self.iter, "optimizer": self.optimizer.state_dict()}
            scaler = getattr(self._trainer, "grad_scaler", None)
            if scaler is not None:
                inner["grad_scaler"] = scaler.state_dict()
            state["_trainer"] = inner
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Take up training where :meth:`state_dict` left it."""
        inner = state_dict.get("_trainer")
        if inner is None:
            logger.warning("The checkpoint has no optimizer state: momentum starts from zero.")
            state_dict = {**state_dict, "_trainer": {"iteration": state_dict["iteration"]}}
            state_dict["_trainer"]["optimizer"] = self.optimizer.state_dict()
        super().load_state_dict(state_dict)
        if inner is not None and not trainer_saves_optimizer(DefaultTrainer):
            self.optimizer.load_state_dict(inner["optimizer"])
            scaler = getattr(self._trainer, "grad_scaler", None)
            if scaler is not None and "grad_scaler" in inner:
                scaler.load_state_dict(inner["grad_scaler"])

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        """The training loader; its attribute ``num_images`` is the length of an epoch."""
        loader, num_images = build_train_loader(cfg)
        loader.num_images = num_images
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        """The test loader of a dataset."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """detectron2's COCO evaluator, made fast."""
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        return FastCOCOEvaluator(dataset_name, output_dir=folder)

    @classmethod
    def evaluate_checkpoint(cls, cfg: CfgNode, resume: bool = False) -> dict:
        """Build the model, load weights that fill the whole of it, and evaluate.

        Args:
            cfg: the config; ``MODEL.WEIGHTS`` names the weights.
            resume: take the last checkpoint of ``OUTPUT_DIR`` instead, if there is one.
        """
        validate_test(cfg)
        if not cfg.DATASETS.TEST:
            raise ConfigError("DATASETS.TEST is empty, so there is nothing to evaluate on")
        model = cls.build_model(cfg)
        checkpointer = TOODCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        return cls.test(cfg, model)

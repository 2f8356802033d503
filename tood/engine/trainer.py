"""The trainer: detectron2's DefaultTrainer with TOOD's parts plugged in."""

import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn
from torch.optim import Optimizer

from tood_runtime.model_files import is_model_file

from ..checkpoint import CheckpointInfo, TOODCheckpointer
from ..checkpoint.saving import make_folder
from ..compat import cpu_ddp
from ..config.validation import validate_solver, validate_test
from ..data import TrainLoader, build_test_loader, build_train_loader
from ..data.header_checks import check_test_headers
from ..data.registration import compare_class_names, load_dataset
from ..errors import ConfigError
from ..evaluation import build_evaluator, validate_evaluators
from ..inference import ExportedModel
from ..modeling.dense_detector import find_dense_core
from .accumulation import build_accumulator
from .averaging import WeightAverageHook, build_average, put_into_model
from .divergence import explain_divergence
from .hooks import (
    CheckpointHook,
    HeaderCheckHook,
    PatienceHook,
    PhaseHook,
    ResumableEvalHook,
    ResumableWriterHook,
    build_best_hook,
    build_precise_bn,
)
from .optimizer import build_optimizer
from .resizing import with_test_resize
from .resumable_trainer import ResumableTrainer
from .schedule import (
    loader_length,
    scale_lr,
    schedule_epochs,
    use_loader,
    warmup_phase_length,
)
from .signals import stop_request
from .terminal import describe_training
from .testing import evaluate, evaluate_average, evaluate_views, loss_evaluators
from .tracking import build_tracking_hook, require_trackers
from .writers import (
    AssignmentPrinter,
    MetricsWriter,
    ProgressPrinter,
    ResumableTensorboardWriter,
)

logger = logging.getLogger(__name__)


class Trainer(ResumableTrainer):
    """Trains TOOD, and detectron2's own detectors, with TOOD's data loaders and checkpoints.

    A checkpoint holds everything that the next iteration depends on, so that a resumed training
    ends with the weights of an uninterrupted one, bit for bit on a CPU.

    Args:
        cfg: the config, after `tood.data.setup_datasets`.
        run_id: identifies the run; only its own checkpoints are resumed. None accepts any.

    Raises:
        ConfigError: settings that cannot work.
        DataError: the training set has no usable annotation, or a test image cannot be used.
    """

    def __init__(self, cfg: CfgNode, run_id: str | None = None) -> None:
        build = type(self).build_lr_scheduler.__func__  # type: ignore[attr-defined]
        is_own = build is not DefaultTrainer.build_lr_scheduler.__func__
        validate_solver(cfg, own_scheduler=is_own)
        validate_evaluators(cfg)
        check_test_headers(cfg)
        require_trackers(cfg)
        cfg, loader = schedule_epochs(scale_lr(cfg), self.build_train_loader)
        with cpu_ddp(), use_loader(self, loader):
            super().__init__(cfg, run_id)
        self._accumulator = build_accumulator(self.cfg, self._trainer)

    @property
    def num_train_images(self) -> int:
        """Images in an epoch: what the sampler draws from the training set after filtering."""
        return loader_length(self.data_loader)

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks: detectron2's, with our checkpoints, phases and metrics."""
        self._replace_checkpointer()
        cfg = self.cfg
        self._average = build_average(cfg, self.model)
        best = build_best_hook(cfg, self.save_checkpoint, self.run_id)
        return [
            self._build_phase_hook(),
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            build_precise_bn(cfg, self.model, self.build_train_loader),
            None if self._average is None else WeightAverageHook(self._average),
            # Before the evaluation: if that fails, nothing is lost.
            CheckpointHook(
                self.save_checkpoint,
                stop_request,
                period=cfg.SOLVER.CHECKPOINT_PERIOD,
                eval_period=cfg.TEST.EVAL_PERIOD,
                keep=cfg.SOLVER.CHECKPOINT_KEEP,
                folder=Path(cfg.OUTPUT_DIR),
                minutes=cfg.SOLVER.CHECKPOINT_MINUTES,
                bad_images=lambda: self.data_loader.bad_images,
                max_bad_images=cfg.DATALOADER.MAX_BAD_IMAGES,
            ),
            HeaderCheckHook(cfg) if comm.is_main_process() else None,
            best,
            ResumableEvalHook(
                cfg.TEST.EVAL_PERIOD,
                self._evaluate,
                stop_request,
                None if best is None else best.update,
            ),
            # At the end, so that the results of an evaluation are written too.
            ResumableWriterHook() if comm.is_main_process() else None,
            build_tracking_hook(cfg, self.run_id) if comm.is_main_process() else None,
            None if best is None else PatienceHook(best, self.save_checkpoint),
        ]

    def _build_phase_hook(self) -> PhaseHook | None:
        if find_dense_core(self.model) is None:
            return None
        length = warmup_phase_length(self.cfg, self.num_train_images)
        return PhaseHook(length, self.cfg.MODEL.TOOD.WARMUP.EPOCHS)

    def save_checkpoint(self, name: str, *, tag: bool = True) -> Path | None:
        """Save a checkpoint, whose model is the average if there is one."""
        with put_into_model(self._average):
            return super().save_checkpoint(name, tag=tag)

    def checkpoint_info(self) -> CheckpointInfo:
        """Describe the model for its checkpoints."""
        return replace(super().checkpoint_info(), is_average=self._average is not None)

    def _evaluate(self) -> dict[str, Any]:
        self._last_eval_results = evaluate_average(type(self), self.cfg, self.model, self._average)
        return self._last_eval_results

    def build_writers(self) -> list[EventWriter]:
        """Build detectron2's writers, which continue the files of a resumed run.

        Called right before training, when ``start_iter`` is known.
        """
        folder = self.cfg.OUTPUT_DIR
        make_folder(folder)
        return [
            ProgressPrinter(self.max_iter, self.cfg.SOLVER.IMS_PER_BATCH),
            MetricsWriter(
                os.path.join(folder, "metrics.json"),
                self.start_iter,
                is_rescaled=self.iteration_ratio != 1,
            ),
            ResumableTensorboardWriter(
                folder, self.start_iter, is_rescaled=self.iteration_ratio != 1
            ),
            AssignmentPrinter(),
        ]

    def before_train(self) -> None:
        """Log a summary of the training right before the first iteration."""
        core = find_dense_core(self.model)
        logger.info(
            describe_training(
                self.cfg,
                num_images=self.num_train_images,
                num_classes=None if core is None else self.cfg.MODEL.TOOD.NUM_CLASSES,
                start_iter=self.start_iter,
                max_iter=self.max_iter,
                world_size=comm.get_world_size(),
            )
        )
        super().before_train()

    def run_step(self) -> None:
        """Run one iteration, in parts with ``SOLVER.ACCUMULATE``.

        Raises:
            TrainingDivergedError: the loss is NaN or infinite; the message says what helps.
        """
        with explain_divergence(self.cfg):
            if self._accumulator is None:
                super().run_step()
            else:
                self._accumulator.run_step(self.iter)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """Build the optimizer, after freezing what ``SOLVER.FREEZE`` names."""
        return build_optimizer(cfg, model)

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
        """Build the evaluator that fits a dataset; see `tood.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """Evaluate a model on ``DATASETS.TEST``, with its losses if ``TEST.LOSS`` asks for them.

        Arguments and results are those of ``DefaultTrainer.test``.
        """
        if evaluators is None:
            evaluators = loss_evaluators(cls, cfg, model)
        results: dict[str, Any] = super().test(cfg, model, evaluators)
        return results

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate a model with test-time augmentation, which ``TEST.AUG`` describes.

        Returns:
            Results as of ``test``, with tasks such as "bbox_TTA", as detectron2 names them.
        """
        return evaluate_views(cls, cfg, model, Trainer.build_test_loader)

    @classmethod
    def evaluate_checkpoint(cls, cfg: CfgNode, resume: bool = False) -> dict[str, Any]:
        """Build the model, load its weights and evaluate it on ``DATASETS.TEST``.

        Args:
            cfg: the config. ``MODEL.WEIGHTS`` must hold weights for the whole model, or be an
                exported file, which is evaluated in the model's place.
            resume: prefer the last checkpoint in ``OUTPUT_DIR``, if there is one.

        Returns:
            detectron2's results, such as ``{"bbox": {"AP": ...}}``.

        Raises:
            ConfigError: there is nothing to evaluate on, settings that cannot work, or weights that
                were trained with the same classes in another order.
            CheckpointError: the weights are missing or do not match the model.
            ModelFileError: an exported file is missing, damaged, or cannot be run here.
            DataError: a test image is missing or has another size than the annotations say.
        """
        validate_test(cfg, build_model=not is_model_file(cfg.MODEL.WEIGHTS))
        if not cfg.DATASETS.TEST:
            raise ConfigError(
                "DATASETS.TEST is empty, so there is nothing to evaluate on. Name a registered "
                "dataset, or set DATASETS.TEST_ANNOTATIONS and DATASETS.TEST_IMAGES."
            )
        validate_evaluators(cfg)
        check_test_headers(cfg)
        model, class_names = cls._load_for_evaluation(cfg, resume)
        if class_names:
            for name in cfg.DATASETS.TEST:
                compare_class_names(class_names, load_dataset(name).class_names)
        if isinstance(model, ExportedModel) and model.has_fixed_size:
            return with_test_resize(cls, model.resize).test(cfg, model)
        return evaluate(cls, cfg, model)

    @classmethod
    def _load_for_evaluation(cls, cfg: CfgNode, resume: bool) -> tuple[nn.Module, list[str]]:
        """The trained model or exported file, and its class names; none if it does not know."""
        if is_model_file(cfg.MODEL.WEIGHTS):
            exported = ExportedModel.from_config(cfg)
            return exported, exported.info.class_names
        model = cls.build_model(cfg)
        checkpointer = TOODCheckpointer(model, cfg.OUTPUT_DIR, strict=True)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        info, core = checkpointer.loaded_info, find_dense_core(model)
        if info is not None and core is not None and info.phase in core.phases:
            core.set_phase(info.phase)  # the losses of TEST.LOSS depend on it
        return model, [] if info is None else info.class_names

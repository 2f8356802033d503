"""A trainer whose runs can be stopped, killed and resumed without losing or changing anything."""

import logging
import weakref
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.utils import comm

from ..checkpoint import CheckpointInfo, TOODCheckpointer
from ..compat import add_optimizer_state, load_optimizer_state
from ..data.registration import compare_class_names
from ..errors import CheckpointError, ConfigError
from ..modeling.dense_detector import find_dense_core
from .event_state import get_event_state, set_event_state
from .expected_results import verify_expected_results
from .hooks import PatienceHook, ResumableEvalHook, ResumableWriterHook, StoppedEarly
from .optimizer import parameter_names
from .random_state import get_random_state, set_random_state
from .report import write_run_report
from .resume import (
    apply_config,
    convert_iterations,
    iteration_ratio,
    optimizer_settings,
    report_changes,
    training_settings,
)
from .schedule import loader_length, multi_image_end
from .signals import stop_request
from .tracking import TrackingHook

logger = logging.getLogger(__name__)


class ResumableTrainer(DefaultTrainer):
    """detectron2's trainer with checkpoints that hold everything the next iteration depends on.

    A subclass builds its data loader as a `tood.data.TrainLoader`.

    Args:
        cfg: the config.
        run_id: identifies the run; only its own checkpoints are resumed. None accepts any.
    """

    iter: int  # the current iteration
    max_iter: int

    def __init__(self, cfg: CfgNode, run_id: str | None = None) -> None:
        self.run_id = run_id
        self.iteration_ratio = 1.0  # by which the iterations of the checkpoint were multiplied
        self._last_iteration: int | None = None  # that was finished; None before training
        self._resumed: dict[str, Any] = {}
        self._bad_images: list[str] = []
        self._notes: list[str] = []  # warnings for the end of the setup, where they are seen
        super().__init__(cfg)
        self._multi_image_end = multi_image_end(self.cfg, loader_length(self.data_loader))

    def _replace_checkpointer(self) -> None:
        """Replace detectron2's checkpointer by ours.

        ``DefaultTrainer`` builds it in its constructor, right before the hooks that use it.
        """
        self.checkpointer = TOODCheckpointer(
            self.model,
            self.cfg.OUTPUT_DIR,
            info=self.checkpoint_info,
            trainer=weakref.proxy(self),
        )

    def checkpoint_info(self) -> CheckpointInfo:
        """Describe the model for its checkpoints: one file is then enough to detect with."""
        core, node = find_dense_core(self.model), self.cfg.MODEL.TOOD
        return CheckpointInfo(
            config=self.cfg.dump(),
            class_names=list(node.CLASS_NAMES),
            category_ids=list(node.CATEGORY_IDS),
            phase="" if core is None else core.phase,
            iteration=self.iter,
            run_id=self.run_id or "",
        )

    def save_checkpoint(self, name: str, *, tag: bool = True) -> Path | None:
        """Save a checkpoint with the random states of all processes; call it in all of them.

        Args:
            name: of the file, without ".pth".
            tag: whether the run resumes from it.

        Returns:
            Its path; None in all processes but the main one.
        """
        parts = comm.gather((get_random_state(), self.data_loader.bad_images))
        if not comm.is_main_process():
            return None
        self._bad_images = list(dict.fromkeys(name for _, names in parts for name in names))
        states = [state for state, _ in parts]
        current = self.iter
        if self._last_iteration is not None:
            self.iter = self._last_iteration  # after an evaluation, it may be one less
        try:
            return self.checkpointer.save(name, tag=tag, iteration=self.iter, random_states=states)
        finally:
            self.iter = current

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of ``OUTPUT_DIR``, or ``MODEL.WEIGHTS``.

        Args:
            resume: continue from the last checkpoint, if there is one.

        Raises:
            CheckpointError: the file is missing, damaged, or does not match the model.
            ConfigError: the checkpoint to resume has the same classes in another order.
        """
        extras = self.checkpointer.resume_or_load(
            self.cfg.MODEL.WEIGHTS, resume=resume, run_id=self.run_id
        )
        if self.checkpointer.resumed_from is not None:
            if "events" not in self._resumed:
                raise CheckpointError(
                    f"{self.checkpointer.resumed_from} holds weights alone, without the iteration "
                    "and the optimizer of a training. To fine-tune from it, name it in "
                    "MODEL.WEIGHTS, and use another OUTPUT_DIR without --resume."
                )
            # A checkpoint has the iteration that was finished.
            self.start_iter = self.iter + 1
            self._resumed["random_states"] = extras.get("random_states", [])
        elif resume:
            self._notes.append(
                f"Nothing to resume in {self.cfg.OUTPUT_DIR}: training starts at iteration 0."
            )
        self._compare_classes()

    def _compare_classes(self) -> None:
        """The last layer of a classifier is useless where its classes are in another order."""
        info, names = self.checkpointer.loaded_info, list(self.cfg.MODEL.TOOD.CLASS_NAMES)
        if self.checkpointer.class_rows is not None:
            return  # matched by name
        if info is None or len(info.class_names) != len(names):
            return
        try:
            compare_class_names(info.class_names, names)
        except ConfigError as error:
            if self.checkpointer.resumed_from is not None:
                raise
            self._notes.append(
                f"{error} The training starts from classification weights of the wrong classes."
            )

    def train(self) -> dict[str, Any] | None:
        """Train from ``start_iter`` to ``max_iter``.

        SIGTERM, SIGUSR1 and Ctrl-C end it after the current iteration, with a checkpoint. It also
        ends when the evaluations have not improved for long enough (``TEST.PATIENCE``). At the end,
        ``TEST.REPORT`` writes a report.

        Returns:
            The results of the last evaluation if ``TEST.EXPECTED_RESULTS`` is set, else None; only
            the main process has them.

        Raises:
            TrainingInterrupted: one of these signals; an exit with its exit code.
            TrainingDivergedError: the loss is NaN or infinite.
            ResultError: the last evaluation did not find what ``TEST.EXPECTED_RESULTS`` expects.
                Everything was written.
        """
        with stop_request.deferred():
            try:
                # Not DefaultTrainer's, which exits where results are not as expected.
                TrainerBase.train(self, self.start_iter, self.max_iter)
            except StoppedEarly:
                pass
            finally:
                self.data_loader.close()
                for hook in self._hooks:  # where another hook has failed at the end
                    if isinstance(hook, TrackingHook):
                        hook.close()
        results: dict[str, Any] | None = getattr(self, "_last_eval_results", None)
        write_run_report(self.cfg, results, self.cfg.OUTPUT_DIR)
        verify_expected_results(self.cfg, results)
        return results if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process() else None

    def before_train(self) -> None:
        """Continue where the checkpoint ended."""
        self._last_iteration = self.start_iter - 1
        set_event_state(self.storage, self._resumed.pop("events", {}))
        self.data_loader.start_at(self.start_iter, self._multi_image_end)
        super().before_train()
        for note in self._notes:
            logger.warning(note)
        self._restore_random_state()
        if self.start_iter > 0:
            self.storage.iter = self.start_iter - 1
            # In this order: the line of metrics has the results of the evaluation.
            for hook_type in (ResumableEvalHook, ResumableWriterHook, PatienceHook):
                for hook in self._hooks:
                    if isinstance(hook, hook_type):
                        hook.catch_up()
            self.storage.iter = self.start_iter

    def _restore_random_state(self) -> None:
        """Restore this process's random state, if the checkpoint has one for each process."""
        states = self._resumed.pop("random_states", [])
        if len(states) == comm.get_world_size():
            set_random_state(states[comm.get_rank()])
        elif states:
            logger.warning(
                "The checkpoint was written by %d processes and is resumed by %d, so random states "
                "start over.",
                len(states),
                comm.get_world_size(),
            )

    def after_step(self) -> None:
        """Run the hooks after an iteration."""
        self._last_iteration = self.iter
        super().after_step()

    def after_train(self) -> None:
        """Run the final evaluation and write the last metrics."""
        # A run that was killed after its last iteration is resumed with no iteration left.
        self.iter = min(self.iter, self.max_iter)
        super().after_train()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds in addition to the weights and random states."""
        state = super().state_dict()
        add_optimizer_state(state, self._trainer, DefaultTrainer)
        state["parameter_names"] = parameter_names(self.optimizer, self.model)
        state["settings"] = training_settings(self.cfg)
        if hasattr(self, "storage"):
            state["events"] = get_event_state(self.storage)
        state["data"] = self.data_loader.state_dict()
        if self._bad_images:  # of all processes
            state["data"]["bad_images"] = list(self._bad_images)
        core = find_dense_core(self.model)
        if core is not None:
            state["assignment_statistics"] = core.assignment_statistics.state_dict()
        return state

    def validate_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise a CheckpointError if the optimizer's states belong to other parameters."""
        saved = state_dict.get("parameter_names")  # since 0.2
        if saved is not None and saved != parameter_names(self.optimizer, self.model):
            raise CheckpointError(
                "The optimizer's state in the checkpoint belongs to other parameters. "
                "SOLVER.FREEZE, SOLVER.LR_FACTORS or the model have changed since."
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, and say where the config differs.

        A checkpoint may lack the optimizer (written by detectron2 0.4 itself), the loss scale
        (written without AMP) or the data (written by detectron2): these keep their current state.
        """
        settings = training_settings(self.cfg)
        saved = state_dict.get("settings", {})
        ratio = iteration_ratio(settings, saved)
        self.iteration_ratio = ratio
        if ratio != 1:
            state_dict = convert_iterations(state_dict, ratio)
        inner = state_dict.get("_trainer", {})
        if "optimizer" not in inner:
            logger.warning("The checkpoint has no optimizer state: momentum starts from zero.")
        report_changes(settings, saved, ratio)
        configured = optimizer_settings(self.optimizer)
        inner = {**self._trainer.state_dict(), **inner, "iteration": state_dict["iteration"]}
        state_dict = {**state_dict, "_trainer": inner}
        super().load_state_dict(state_dict)
        load_optimizer_state(state_dict, self._trainer, DefaultTrainer)
        apply_config(self.optimizer, self.scheduler, configured)
        if "data" in state_dict:
            self.data_loader.load_state_dict(state_dict["data"])
        core = find_dense_core(self.model)
        if "assignment_statistics" in state_dict and core is not None and comm.is_main_process():
            core.assignment_statistics.load_state_dict(state_dict["assignment_statistics"])
        self._resumed["events"] = state_dict.get("events", {})

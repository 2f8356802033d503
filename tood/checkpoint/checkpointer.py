"""Save checkpoints, resume from them, and load trained models."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

from ..compat import compute_on_main_process
from ..errors import CheckpointError
from .info import INFO_KEY, CheckpointInfo
from .loader import CheckpointLoader
from .resuming import (
    LAST_CHECKPOINT,
    find_last_checkpoint,
    read_last_checkpoint,
)
from .saving import write_checkpoint, write_text

_T = TypeVar("_T")


class TOODCheckpointer(CheckpointLoader):
    """detectron2's checkpointer, which also reads other projects' files and rejects mismatches.

    The layout of a file is detected from its keys. Every key of the file must have a place in the
    model, and every parameter of the model must get a value. There are two exceptions, which are
    logged: a file that holds only a backbone, and other classes, where the rows of the parameters
    that the head lists in ``class_specific_parameters`` are matched by the names of the classes;
    rows without a match, or all where names are unknown, keep their initialization. With
    ``strict``, and when a run is resumed, there are no exceptions.

    Models without a :class:`~tood.modeling.dense_detector.DenseDetectorCore` are loaded by
    detectron2's own rules. In all cases nothing in the file is executed.

    Files are written whole or not at all, with checksums. ``last_checkpoint`` never names a file
    that is not whole.

    Args:
        model: the model.
        save_dir: folder of the checkpoints that are written.
        strict: the weights must fill the whole model, as evaluation and inference need it.
        save_to_disk: see detectron2.
        info: called at each save; what it returns is saved in the file, so that one file is enough
            to build the model and name its classes.
        **checkpointables: other objects to save and load. An object may have a method
            ``validate_state_dict(state)`` that raises a CheckpointError; it is called before
            anything is loaded.

    Attributes:
        loaded_info: what the file that was loaded last says about itself; None if nothing.
        resumed_from: the file that :meth:`resume_or_load` resumed from; None if it did not.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        strict: bool = False,
        save_to_disk: bool | None = None,
        info: Callable[[], CheckpointInfo] | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self.loaded_info: CheckpointInfo | None = None
        self.resumed_from: Path | None = None
        self._info = info

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> Path | None:
        """Write a checkpoint, and its name into ``last_checkpoint`` when the file is whole.

        Args:
            name: of the file, without ".pth".
            tag: write its name into ``last_checkpoint``; False for one that no run resumes from.
            **kwargs: plain values and tensors to save next to the model.

        Returns:
            The file; None in a process that does not write.

        Raises:
            CheckpointError: the file cannot be written; earlier checkpoints are intact.
        """
        if not self.save_dir or not self.save_to_disk:
            return None
        data: dict[str, Any] = {"model": self.model.state_dict()}
        for key, checkpointable in self.checkpointables.items():
            data[key] = checkpointable.state_dict()
        data.update(kwargs)
        if self._info is not None:
            info = self._info()
            if info.iteration is None and isinstance(kwargs.get("iteration"), int):
                info = replace(info, iteration=kwargs["iteration"])
            data[INFO_KEY] = info.to_dict()
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", path)
        write_checkpoint(data, path)
        if tag:
            self.tag_last_checkpoint(path.name)
        return path

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write a file's name into ``last_checkpoint``, atomically."""
        write_text(Path(self.save_dir) / LAST_CHECKPOINT, last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether the folder has a ``last_checkpoint``."""
        return bool(self.save_dir) and read_last_checkpoint(self.save_dir) is not None

    def get_checkpoint_file(self) -> str:
        """The file in the folder that ``last_checkpoint`` names; empty if there is no record."""
        path = read_last_checkpoint(self.save_dir) if self.save_dir else None
        return "" if path is None else str(path)

    def find_last_checkpoint(self, run_id: str | None = None) -> Path | None:
        """Find the checkpoint to resume from; see :func:`.resuming.find_last_checkpoint`."""
        return find_last_checkpoint(self.save_dir, run_id) if self.save_dir else None

    def resume_or_load(
        self, path: str, *, resume: bool = True, run_id: str | None = None
    ) -> dict[str, Any]:
        """Resume from the last checkpoint in the folder, or load weights alone.

        Every process calls it; they agree on one file, and an error of one is raised by all.

        Args:
            path: weights to load if there is nothing to resume; empty for none.
            resume: load the last checkpoint, if there is one, with all objects. If it is missing or
                damaged, the newest whole one of the run before it is loaded, with a warning.
            run_id: of the run, which the checkpoint must not contradict; None accepts any.

        Returns:
            What the file holds in addition to the weights and the loaded objects.

        Raises:
            CheckpointError: no whole checkpoint is left, or it belongs to another run, or does not
                match the model.
        """
        self.resumed_from = None
        last = None
        if resume:  # file systems may show the processes different states
            last = compute_on_main_process(lambda: self.find_last_checkpoint(run_id))
        if last is None:
            return _together(lambda: self.load(path, checkpointables=[]))
        extras = _together(lambda: self._resume(last))
        self.resumed_from = last
        return extras

    def _resume(self, path: Path) -> dict[str, Any]:
        strict, self.strict = self.strict, True
        try:
            return self.load(str(path))
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} The run cannot be resumed. To fine-tune from it, set MODEL.WEIGHTS to "
                f"{path} and use another OUTPUT_DIR without --resume."
            ) from error
        finally:
            self.strict = strict


def load_model(cfg: CfgNode, weights: str | None = None) -> nn.Module:
    """Build the model of a config and load trained weights, for evaluation and inference.

    Args:
        cfg: the config.
        weights: a file or URL in any supported layout; None for ``cfg.MODEL.WEIGHTS``.

    Returns:
        The model in eval mode, on ``cfg.MODEL.DEVICE``.

    Raises:
        CheckpointError: no weights are given, or they do not fill the whole model.
    """
    model = build_model(cfg)
    TOODCheckpointer(model, strict=True).load(cfg.MODEL.WEIGHTS if weights is None else weights)
    return model.eval()


def _together(action: Callable[[], _T]) -> _T:
    """Run an action in all processes; if it fails in one, raise in all, so that none waits."""
    result: Any = None
    error: Exception | None = None
    try:
        result = action()
    except Exception as caught:  # raised below, after the others know
        error = caught
    messages = comm.all_gather(None if error is None else str(error))
    if error is not None:
        raise error
    failed = [message for message in messages if message is not None]
    if failed:
        raise CheckpointError(failed[0])
    return result

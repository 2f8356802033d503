"""Reading weights: this project's, MMDetection's and the authors' TOOD, and backbone files."""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import Tensor, nn

from ..errors import CheckpointError
from ..modeling import TOOD
from .layouts import BACKBONE_PREFIX, convert, is_backbone_only, recognise

# Parameters whose size is the number of classes.
_PER_CLASS = re.compile(r"^head\.tood_cls\.(weight|bias)$")

_WHAT = {
    "detectron2": "a detector with detectron2's names",
    "mmdet": "a TOOD checkpoint with MMDetection's or the authors' names",
    "detectron2-backbone": "a backbone with detectron2's names",
    "torchvision-backbone": "a backbone with torchvision's names",
}


def _is_counter(key: str) -> bool:
    """Batch norm's count of batches: no weight, and kept by some normalisations only."""
    return key.endswith(".num_batches_tracked")


class TOODCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, which also reads other projects' files, and refuses misfits.

    What a file is follows from its keys. Every key has to find its place in the model and every
    parameter its value, but for two cases, which are announced: a file that holds a backbone
    only, and another number of classes, whose last layer then starts anew. With ``complete``
    neither is accepted.

    Args:
        model: the model.
        save_dir: where checkpoints are written.
        complete: the weights have to fill the whole model: for evaluation and inference.
        save_to_disk: see detectron2.
        **checkpointables: other objects to save and load.

    Raises:
        CheckpointError: by :meth:`load`, for a file that is missing, broken or of another model.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        complete: bool = False,
        save_to_disk: bool | None = None,
        **checkpointables: object,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.complete = complete
        self._path = ""

    def load(self, path: str, *args: object, **kwargs: object) -> dict[str, Any]:
        """Load weights, and what was saved beside them.

        Args:
            path: a file or URL; empty leaves the model as it was initialised.
            *args: see fvcore's Checkpointer.
            **kwargs: see fvcore's Checkpointer.

        Returns:
            What the file holds beside the objects that were loaded.
        """
        self._path = path
        if not path and self.complete:
            raise CheckpointError(
                "no weights were given, and evaluating or running a model that was never trained "
                "says nothing: add MODEL.WEIGHTS <file or URL>"
            )
        if path:
            try:
                local = self.path_manager.get_local_path(path.split("?")[0])
            except OSError as error:
                raise CheckpointError(
                    f"{path} cannot be fetched ({error}): download it elsewhere and give the file"
                ) from error
            if not os.path.isfile(local):
                raise CheckpointError(f"there is no file {path}{self._origin(path)}")
        return super().load(path, *args, **kwargs)

    def _origin(self, path: str) -> str:
        """The end of a message: where a path came from, and what to do about it."""
        if self.save_dir and self.has_checkpoint() and path == self.get_checkpoint_file():
            return (
                f"; {self.save_dir}/last_checkpoint names it. To go on from an earlier one, write "
                "the name of another model_*.pth of that folder into last_checkpoint"
            )
        return "; MODEL.WEIGHTS names it: check the path, or download or copy the file again"

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            return super()._load_file(filename)
        except (
            *(RuntimeError, EOFError, KeyError, ValueError, AttributeError),
            *(pickle.UnpicklingError, zipfile.BadZipFile),
        ) as error:
            if "Unsupported global" in str(error) or "Unsupported class" in str(error):
                raise CheckpointError(
                    f"{filename} holds other Python objects beside weights, and reading those "
                    "could run any code, so it is not read. If you trust the file, write its "
                    "weights alone to a new one: torch.save(torch.load(FILE, weights_only=False)"
                    '["state_dict"], NEW_FILE)'
                ) from error
            raise CheckpointError(
                f"{filename} cannot be read as a checkpoint ({type(error).__name__}): it is "
                f"truncated, or no file that torch.save wrote{self._origin(self._path)}"
            ) from error

    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        if not isinstance(self.model, TOOD):  # a detector to compare with: detectron2's own rules
            incompatible = super()._load_model(checkpoint)
            if self.complete and incompatible.missing_keys:
                raise CheckpointError(
                    f"{self._path} leaves {len(incompatible.missing_keys)} parameters of the "
                    f"{type(self.model).__name__} without a value: it is of another model"
                )
            return incompatible
        state_dict = checkpoint["model"]
        if isinstance(state_dict, Mapping) and "state_dict" in state_dict:  # MMDetection's wrapper
            state_dict = state_dict["state_dict"]
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                f"{self._path} holds a {type(state_dict).__name__}, and not weights by name"
            )
        strange = [
            key for key, value in state_dict.items() if not isinstance(value, (Tensor, np.ndarray))
        ]
        if strange:
            raise CheckpointError(
                f"{self._path} holds no weights by name: {strange[0]} is no tensor"
            )
        self._convert_ndarray_to_tensor(state_dict)
        state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
        layout = recognise(list(state_dict))
        if not layout:
            raise CheckpointError(
                f"{self._path} holds weights of another model (its keys begin with "
                f"{sorted(state_dict)[:3]}). MODEL.WEIGHTS takes TOOD checkpoints, of this "
                "project, MMDetection or the authors, and ResNet backbones with torchvision's or "
                "detectron2's names"
            )
        self.logger.info("%s is %s.", self._path, _WHAT[layout])
        state_dict = convert(state_dict, layout)
        self._check(state_dict, layout)
        # Every key has its place by now: nothing is left for detectron2's heuristics to guess.
        return super()._load_model({"model": state_dict})

    def _check(self, state_dict: dict[str, Tensor], layout: str) -> None:
        """Raise where keys have no place or parameters no value, but for the two allowed cases."""
        expected = self.model.state_dict()
        missing = {key for key in expected.keys() - state_dict.keys() if not _is_counter(key)}
        unexpected = {key for key in state_dict.keys() - expected.keys() if not _is_counter(key)}
        misshaped = {
            key: f"{key} {tuple(state_dict[key].shape)}, in the model {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state_dict and value.shape != state_dict[key].shape
        }
        unreadable = [
            key
            for key, value in state_dict.items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if unreadable:
            raise CheckpointError(
                f"{self._path} has values that are no numbers in {len(unreadable)} parameters, "
                f"{unreadable[0]} among them: its training had diverged; take an earlier one"
            )
        if is_backbone_only(layout):
            if self.complete:
                raise CheckpointError(
                    f"{self._path} holds a backbone only, and the model needs weights for its "
                    "head too: give the weights of a trained detector"
                )
            missing = {key for key in missing if key.startswith(BACKBONE_PREFIX)}
            self.logger.info("FPN and head start from their initialisation.")
        if misshaped and all(map(_PER_CLASS.match, misshaped)):
            if self.complete:
                raise CheckpointError(
                    f"{self._path} was trained for another number of classes "
                    f"({next(iter(misshaped.values()))}): set MODEL.TOOD.NUM_CLASSES to that of "
                    "the weights"
                )
            self.logger.warning(
                "The file has another number of classes: %s start anew.", ", ".join(misshaped)
            )
            misshaped = {}
        lines = []
        for what, keys in (
            ("parameters of the model get no value", missing),
            ("keys of the file have no place", unexpected),
            ("keys have another shape", misshaped.values()),
        ):
            if keys:
                more = f"; and {len(keys) - 10} more" if len(keys) > 10 else ""
                lines.append(f"  {len(keys)} {what}: {'; '.join(sorted(keys)[:10])}{more}")
        if lines:
            lines.insert(0, f"{self._path} does not fit the model of the config:")
            lines.append("  Take the config that the weights were trained with.")
            raise CheckpointError("\n".join(lines))

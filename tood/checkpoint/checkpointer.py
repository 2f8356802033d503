"""Loading weights: this project's, MMDetection's and the authors' TOOD, and backbone files."""

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import Tensor, nn

from ..compat import reset_parsed_url
from ..errors import CheckpointError
from ..modeling import TOOD
from .key_mapping import (
    BACKBONE_PREFIX,
    LAYOUT_DESCRIPTIONS,
    detect_layout,
    is_backbone_only,
    is_batch_counter,
    to_tood_keys,
)
from .safe_load import load_file, resolve_path
from .state_dict import extract_state_dict

# Parameters with one row for each class.
_PER_CLASS = ("head.tood_cls.weight", "head.tood_cls.bias")

# Averages of the weights that programs save beside "model".
_EMA_ENTRIES = ("model_ema", "ema_state", "ema_state_dict", "ema")

# The parts of a model, for the report of what was found.
_PARTS = {"backbone": BACKBONE_PREFIX, "FPN": "backbone.", "head": "head."}


class TOODCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, which also reads other projects' files, and refuses misfits.

    What a file is follows from its keys. Every key has to find its place in the model and every
    parameter its value, but for two cases, which are announced: a file that holds a backbone
    only, and another number of classes, whose last layer then starts anew. With ``strict``
    neither is accepted.

    Args:
        model: the model.
        save_dir: where checkpoints are written.
        strict: the weights have to fill the whole model: for evaluation and inference.
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
        strict: bool = False,
        save_to_disk: bool | None = None,
        **checkpointables: object,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict
        self._path = ""

    def load(self, path: str, *args: object, **kwargs: object) -> dict[str, Any]:
        """Load weights, and what was saved beside them.

        Args:
            path: a file or URL; empty leaves the model as it was initialized.
            *args: see fvcore's Checkpointer.
            **kwargs: see fvcore's Checkpointer.

        Returns:
            What the file holds beside the objects that were loaded.
        """
        self._path = path
        if not path and self.strict:
            raise CheckpointError(
                "no weights were given, and evaluating or running a model that was never trained "
                "says nothing: add MODEL.WEIGHTS <file or URL>"
            )
        if not path:
            return super().load(path, *args, **kwargs)
        try:
            return super().load(resolve_path(path), *args, **kwargs)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._resume_hint(path)}") from error
        finally:
            reset_parsed_url(self)

    def _resume_hint(self, path: str) -> str:
        """The end of a message: where a path came from, and what to do about it."""
        if self.save_dir and self.has_checkpoint() and path == self.get_checkpoint_file():
            return (
                f"; {self.save_dir}/last_checkpoint names it. To go on from an earlier one, write "
                "the name of another model_*.pth of that folder into last_checkpoint"
            )
        return ""

    def _load_file(self, filename: str) -> dict[str, Any]:
        data = load_file(filename)
        if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping):
            checkpoint = dict(data)
        elif filename.endswith(".pkl"):  # Caffe2's; detectors among them keep more beside "blobs"
            weights = data.get("blobs", data) if isinstance(data, Mapping) else data
            checkpoint = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        else:
            checkpoint = {"model": data}
        if "matching_heuristics=True" in self._path.partition("?")[2]:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def _load_model(self, checkpoint: dict[str, Any]) -> _IncompatibleKeys:
        if not isinstance(self.model, TOOD):  # a detector to compare with: detectron2's own rules
            incompatible = super()._load_model(checkpoint)
            if self.strict and incompatible.missing_keys:
                raise CheckpointError(
                    f"{self._path} leaves {len(incompatible.missing_keys)} parameters of the "
                    f"{type(self.model).__name__} without a value: it is of another model"
                )
            return incompatible
        weights = extract_state_dict(checkpoint.pop("model"), self._path)
        weights.ignored += [key for key in _EMA_ENTRIES if key in checkpoint]
        layout = detect_layout(weights.tensors, self._path)
        state_dict, origins = to_tood_keys(weights.tensors, layout)
        parts = dict.fromkeys(_PARTS, 0)
        for name in state_dict:
            part = next((part for part, prefix in _PARTS.items() if name.startswith(prefix)), None)
            if part:
                parts[part] += 1
        found = ", ".join(f"{part} {count}" for part, count in parts.items() if count)
        level = logging.WARNING if layout == "caffe2-backbone" else logging.INFO
        self.logger.log(
            level, "%s is %s: tensors of %s.", self._path, LAYOUT_DESCRIPTIONS[layout], found
        )
        if weights.ignored:
            self.logger.info("Not used of it: %s.", ", ".join(weights.ignored))
        self._check(state_dict, layout, origins)
        # Every key has its place by now, but for counters, which only plain batch norms have:
        # nothing is left for detectron2's heuristics to guess.
        own = self.model.state_dict().keys()
        state_dict = {key: value for key, value in state_dict.items() if key in own}
        incompatible = super()._load_model({"model": state_dict})
        if is_backbone_only(layout):  # what is missing was said in one line
            incompatible.missing_keys.clear()
        return incompatible

    def _check(self, state_dict: dict[str, Tensor], layout: str, origins: dict[str, str]) -> None:
        """Raise where keys have no place or parameters no value, but for the two allowed cases."""
        expected = self.model.state_dict()
        missing = {key for key in expected.keys() - state_dict.keys() if not is_batch_counter(key)}
        unexpected = {
            origins[key] for key in state_dict.keys() - expected.keys() if not is_batch_counter(key)
        }
        misshaped = {
            key: f"{origins[key]} {tuple(state_dict[key].shape)}, in the model {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state_dict and value.shape != state_dict[key].shape
        }
        self._check_values(state_dict)
        if is_backbone_only(layout):
            if self.strict:
                raise CheckpointError(
                    f"{self._path} holds a backbone only, and the model needs weights for its "
                    "head too: give the weights of a trained detector"
                )
            missing = {key for key in missing if key.startswith(BACKBONE_PREFIX)}
            # Backbones are trained on ImageNet without deformable convolutions.
            offsets = {key for key in missing if ".conv2_offset." in key}
            missing -= offsets
            self.logger.info(
                "FPN and head start from their initialization%s.",
                ", offsets of the backbone's deformable convolutions from 0" if offsets else "",
            )
        if (
            misshaped
            and all(
                key in misshaped and expected[key].shape[1:] == state_dict[key].shape[1:]
                for key in _PER_CLASS
            )
            and len(misshaped) == len(_PER_CLASS)
        ):
            if self.strict:
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
            lines.append(
                "  Take the config that the weights were trained with. Of another detector only "
                "the backbone can be used, from a file with nothing else."
            )
            raise CheckpointError("\n".join(lines))

    def _check_values(self, state_dict: dict[str, Tensor]) -> None:
        """Raise for weights that are no numbers."""
        diverged = [
            key
            for key, value in state_dict.items()
            if value.is_floating_point() and not value.isfinite().all()
        ]
        if diverged:
            raise CheckpointError(
                f"{self._path} has values that are no numbers in {len(diverged)} parameters, "
                f"{diverged[0]} among them: its training had diverged; take an earlier one"
            )

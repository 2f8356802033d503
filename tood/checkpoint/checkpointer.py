"""Load weights into a model: from this project, MMDetection, the authors, or a backbone file."""

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..errors import CheckpointError
from ..modeling.dense_detector import DenseDetectorCore, find_dense_core
from .key_mapping import LAYOUT_DESCRIPTIONS
from .key_report import KeyReport, compare_keys
from .key_tables import BACKBONE_PREFIX
from .loading import LoadedWeights, read_checkpoint
from .safe_load import load_file, resolve_path
from .state_dict import is_average_entry

# Parts of a model by the prefix of their parameters, for the log.
_PARTS = {BACKBONE_PREFIX: "backbone", "backbone.": "FPN", "head.": "head"}


class TOODCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, which also reads other projects' files and rejects mismatches.

    The layout of a file is detected from its keys. Every key of the file must have a place in the
    model, and every parameter of the model must get a value. There are two exceptions, which are
    logged: a file that holds only a backbone, and another number of classes, where the parameters
    that the head lists in ``class_specific_parameters`` keep their initialization. With ``strict``
    there are no exceptions.

    Models without a :class:`~tood.modeling.dense_detector.DenseDetectorCore` are loaded by
    detectron2's own rules. In all cases nothing in the file is executed.

    Args:
        model: the model.
        save_dir: folder of the checkpoints that are written.
        strict: the weights must fill the whole model, as evaluation and inference need it.
        save_to_disk: see detectron2.
        **checkpointables: other objects to save and load.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        strict: bool = False,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.strict = strict

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and the objects that were saved with them.

        Overrides detectron2's method, which drops the original path or URL; the messages and
        `?matching_heuristics=True` need it.

        Args:
            path: a file or URL; empty keeps the model's initialization.
            checkpointables: names of the objects to load; None for all.

        Returns:
            What the file holds besides the weights and the loaded objects.

        Raises:
            CheckpointError: the file is missing, damaged, or does not match the model; or ``path``
                is empty and ``strict`` is set.
        """
        if not path:
            if self.strict:
                raise CheckpointError(
                    "No weights are given, but evaluation and inference need a trained model. "
                    "Set MODEL.WEIGHTS to a file or URL."
                )
            self.logger.info("No weights are given: the model keeps its initialization.")
            return {}
        self.logger.info("Loading weights from %s", path)
        core = find_dense_core(self.model)
        try:
            if core is None:
                extras = self._load_other_detector(path)
            else:
                extras = self._load_dense_detector(path, core)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._resume_hint(path)}") from error
        for name in self.checkpointables if checkpointables is None else checkpointables:
            if name in extras:
                self.logger.info("Loading %s from %s", name, path)
                self.checkpointables[name].load_state_dict(extras.pop(name))
        return extras

    def _resume_hint(self, path: str) -> str:
        """How to continue if ``path`` is the checkpoint that a run resumes from."""
        if self.save_dir and self.has_checkpoint() and path == self.get_checkpoint_file():
            return (
                f" {self.save_dir}/last_checkpoint names this file. To resume from an earlier "
                "checkpoint, write the name of another model_*.pth in that folder into it."
            )
        return ""

    def _load_dense_detector(self, path: str, core: DenseDetectorCore) -> dict[str, Any]:
        weights = read_checkpoint(path)
        self._log_contents(weights)
        expected = self.model.state_dict()
        core_name = next(name for name, m in self.model.named_modules() if m is core)
        weights = weights.nested(f"{core_name}." if core_name else "", expected)
        report = compare_keys(
            expected,
            weights,
            allow_backbone_only=not self.strict,
            allow_new_classes=not self.strict,
            class_specific_parameters=getattr(core.head, "class_specific_parameters", ()),
            head_prefix=f"{core_name}.head." if core_name else "head.",
        )
        if not report.is_match:
            raise CheckpointError(report.format())
        _validate_values(weights)
        self._log_exceptions(report)
        skipped = {*report.new_classes, *(weights.tensors.keys() - expected.keys())}  # counters
        self.model.load_state_dict(
            {key: value for key, value in weights.tensors.items() if key not in skipped},
            strict=False,
        )
        return weights.extras

    def _load_other_detector(self, path: str) -> dict[str, Any]:
        """Load a model without a dense-detector core, by detectron2's rules."""
        local = resolve_path(path)
        data = load_file(local)
        if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping):
            checkpoint = dict(data)
        elif local.endswith(".pkl"):  # Caffe2; detectors keep their weights under "blobs"
            weights = data.get("blobs", data) if isinstance(data, Mapping) else data
            checkpoint = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        else:
            checkpoint = {"model": data}
        if "matching_heuristics=True" in path.partition("?")[2]:
            checkpoint["matching_heuristics"] = True
        incompatible = self._load_model(checkpoint)
        if self.strict and incompatible.missing_keys:
            raise CheckpointError(
                f"{path} has no value for {len(incompatible.missing_keys)} parameters of "
                f"{type(self.model).__name__}, for example {incompatible.missing_keys[0]}. Use the "
                "config that the weights were trained with."
            )
        self._log_incompatible_keys(incompatible)
        return checkpoint

    def _log_contents(self, weights: LoadedWeights) -> None:
        counts = dict.fromkeys([*_PARTS.values(), "other parts"], 0)
        for name in weights.tensors:
            parts = (part for prefix, part in _PARTS.items() if name.startswith(prefix))
            counts[next(parts, "other parts")] += 1
        self.logger.log(
            # Caffe2's backbones need other config values than the default.
            logging.WARNING if weights.layout == "caffe2-backbone" else logging.INFO,
            "%s is %s. Tensors: %s.",
            weights.path,
            LAYOUT_DESCRIPTIONS[weights.layout],
            ", ".join(f"{part} {count}" for part, count in counts.items() if count),
        )
        unused = [
            name for name in weights.ignored if name not in weights.extras or is_average_entry(name)
        ]
        if unused:
            self.logger.info("Not used: %s.", ", ".join(unused))

    def _log_exceptions(self, report: KeyReport) -> None:
        if report.backbone_only:
            self.logger.info(
                "The file holds only a backbone: FPN and head keep their initialization%s.",
                ", and the offsets of the backbone's deformable convolutions start at 0"
                if report.untrained_offsets
                else "",
            )
        if report.new_classes:
            self.logger.warning(
                "The file has another number of classes: %s keep their initialization.",
                ", ".join(report.new_classes),
            )


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


def _validate_values(weights: LoadedWeights) -> None:
    """Raise if the weights contain NaN or infinite values."""
    diverged = [
        weights.origins[key]
        for key, value in weights.tensors.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if diverged:
        raise CheckpointError(
            f"{weights.path} has NaN or infinite values in {len(diverged)} parameters, for example "
            f"{diverged[0]}: its training diverged. Use an earlier checkpoint."
        )

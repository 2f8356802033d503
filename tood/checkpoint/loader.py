"""Load weights into a model: from this project, MMDetection, the authors, or a backbone file."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor

from ..errors import CheckpointError, TOODError
from ..modeling.dense_detector import DenseDetectorCore, find_dense_core
from .class_rows import ClassRows, class_rows
from .info import INFO_KEY, CheckpointInfo, read_info
from .key_mapping import LAYOUT_DESCRIPTIONS
from .key_report import KeyReport, compare_keys
from .key_tables import BACKBONE_PREFIX
from .loading import LoadedWeights, read_checkpoint
from .model_comparison import class_specific_keys, compare_with_model
from .safe_load import load_file, resolve_path
from .state_check import validate_checkpointable
from .state_dict import extract_state_dict, is_average_entry
from .timm_weights import LAYOUT, TimmNames, validate_pixels

# Parts of a model by the prefix of their parameters, for the log.
_PARTS = {
    BACKBONE_PREFIX: "backbone",
    "backbone.": "FPN",
    "head.": "head",
    "proposal_generator.head.": "head",
    "roi_heads.": "ROI heads",
}
_Validate = Callable[[Mapping[str, Any]], None]


class CheckpointLoader(DetectionCheckpointer):
    """The part of :class:`~tood.checkpoint.TOODCheckpointer` that loads one file, all or nothing.

    Attributes:
        strict: whether the weights must fill the whole model.
        loaded_info: what the file that was loaded last says about itself; None if nothing.
        class_rows: the classification weights of that file that were matched by the names of
            classes; None if they were loaded as they are, or not at all.
    """

    strict: bool = False
    loaded_info: CheckpointInfo | None = None
    class_rows: ClassRows | None = None

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and the objects that were saved with them.

        Overrides detectron2's method, which drops the original path or URL; the messages and
        `?matching_heuristics=True` need it. Everything is read and compared before anything is
        loaded.

        Args:
            path: a file or URL; empty keeps the model's initialization.
            checkpointables: names of the objects to load; None for all.

        Returns:
            What the file holds in addition to the weights and the loaded objects.

        Raises:
            CheckpointError: the file is missing, damaged, or does not match the model or the
                objects; or ``path`` is empty and ``strict`` is set.
        """
        self.loaded_info = self.class_rows = None
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
        wanted = list(self.checkpointables) if checkpointables is None else checkpointables

        def validate(extras: Mapping[str, Any]) -> None:
            for name in wanted:
                if name in extras:
                    target = self.checkpointables[name]
                    validate_checkpointable(target, extras[name], name, path)

        if core is None:
            extras = self._load_other_detector(path, validate)
        else:
            extras = self._load_dense_detector(path, core, validate)
        for name in wanted:
            if name in extras:
                self.logger.info("Loading %s from %s", name, path)
                self._load_checkpointable(name, extras.pop(name), path)
        return extras

    def _load_checkpointable(self, name: str, state: Any, path: str) -> None:
        try:
            self.checkpointables[name].load_state_dict(state)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, TOODError):
                raise
            raise CheckpointError(
                f"The state of {name} in {path} cannot be restored "
                f"({type(error).__name__}: {error}). The config or the program has changed since."
            ) from error

    def _load_dense_detector(
        self, path: str, core: DenseDetectorCore, validate: _Validate
    ) -> dict[str, Any]:
        weights = read_checkpoint(path, TimmNames.of(self.model))
        self._log_contents(weights)
        expected = self.model.state_dict()
        weights, report = compare_with_model(
            self.model, core, weights, allow_exceptions=not self.strict
        )
        self._log_unused(weights)
        if not report.is_match:
            raise CheckpointError(report.format())
        if weights.layout == LAYOUT:
            validate_pixels(self.model, path)
        _validate_values(weights, expected)
        validate(weights.extras)
        if not self.strict:
            listed = class_specific_keys(self.model, core)
            class_names = getattr(self.model, "class_names", ())
            self.class_rows = class_rows(weights, expected, listed, class_names)
        self._log_exceptions(report)
        skipped = {*report.new_classes, *(weights.tensors.keys() - expected.keys())}  # counters
        values = {key: value for key, value in weights.tensors.items() if key not in skipped}
        if self.class_rows is not None:
            values.update(self.class_rows.tensors)
            level = logging.WARNING if self.class_rows.fresh else logging.INFO
            self.logger.log(level, "%s", self.class_rows.describe(path))
        self.model.load_state_dict(values, strict=False)
        self.loaded_info = weights.info
        return weights.extras

    def _load_other_detector(self, path: str, validate: _Validate) -> dict[str, Any]:
        """Load a model without a dense-detector core, by detectron2's rules."""
        local = resolve_path(path)
        data = load_file(local)
        info = read_info(data, path)
        if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping):
            checkpoint = dict(data)
        elif local.endswith(".pkl"):  # Caffe2; detectors keep their weights under "blobs"
            weights = data.get("blobs", data) if isinstance(data, Mapping) else data
            checkpoint = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
        else:
            checkpoint = {"model": data}
        if "matching_heuristics=True" in path.partition("?")[2]:
            checkpoint["matching_heuristics"] = True
        uses_timm = self._rename_timm(checkpoint, path)
        validate(checkpoint)
        if uses_timm:
            validate_pixels(self.model, path)
        incompatible = self._load_model(checkpoint)
        missing = [*incompatible.missing_keys, *(x[0] for x in incompatible.incorrect_shapes)]
        if self.strict and missing:
            raise CheckpointError(
                f"{path} has no value for {len(missing)} parameters of "
                f"{type(self.model).__name__}, for example {missing[0]}. Use the config that the "
                "weights were trained with."
            )
        self._log_incompatible_keys(incompatible)
        self.loaded_info = info
        checkpoint.pop(INFO_KEY, None)
        return checkpoint

    def _rename_timm(self, checkpoint: dict[str, Any], path: str) -> bool:
        """Rename the weights of timm's backbone; False if the file or the model has none.

        Raises:
            CheckpointError: they do not fill the backbone exactly.
        """
        names = TimmNames.of(self.model)
        if names is None or not names.fit(checkpoint["model"]):
            return False
        tensors, _ = extract_state_dict(checkpoint["model"], path)
        tensors, origins = names.rename(tensors)
        weights = LoadedWeights(path, tensors, LAYOUT, origins)
        report = compare_keys(
            self.model.state_dict(), weights, allow_backbone_only=True, allow_new_classes=False
        )
        if not report.is_match:
            raise CheckpointError(report.format())
        _validate_values(weights, self.model.state_dict())
        checkpoint["model"] = tensors
        return True

    def _log_contents(self, weights: LoadedWeights) -> None:
        counts = dict.fromkeys([*_PARTS.values(), "other parts"], 0)
        for name in weights.tensors:
            parts = (part for prefix, part in _PARTS.items() if name.startswith(prefix))
            counts[next(parts, "other parts")] += 1
        self.logger.log(
            # Caffe2's backbones need other config values than the default.
            logging.WARNING if weights.layout == "caffe2-backbone" else logging.INFO,
            "%s is %s%s. Tensors: %s.",
            weights.path,
            LAYOUT_DESCRIPTIONS[weights.layout],
            ", an average over training (EMA)" if weights.info and weights.info.is_average else "",
            ", ".join(f"{part} {count}" for part, count in counts.items() if count),
        )

    def _log_unused(self, weights: LoadedWeights) -> None:
        unused = [
            name for name in weights.ignored if name not in weights.extras or is_average_entry(name)
        ]
        if unused:
            more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
            self.logger.info("Not used: %s%s.", ", ".join(unused[:10]), more)

    def _log_exceptions(self, report: KeyReport) -> None:
        if report.backbone_only:
            self.logger.info(
                "The file holds only a backbone: everything else keeps its initialization%s.",
                ", and the offsets of the backbone's deformable convolutions start at 0"
                if report.untrained_offsets
                else "",
            )
        if report.new_parts:
            modules = sorted({key.rpartition(".")[0] for key in report.new_parts})
            self.logger.info(
                "The file does not have all parts of the model: %s keep their initialization.",
                ", ".join(modules),
            )
        if report.new_classes and self.class_rows is None:
            self.logger.warning(
                "The file has another number of classes: %s keep their initialization.",
                ", ".join(report.new_classes),
            )


def _validate_values(weights: LoadedWeights, expected: Mapping[str, Tensor]) -> None:
    """Raise if the weights are no floating-point numbers, or contain NaN or infinite values."""
    for key, value in weights.tensors.items():
        if key in expected and expected[key].is_floating_point() and not value.is_floating_point():
            raise CheckpointError(
                f"{weights.path} holds {weights.origins[key]} as {str(value.dtype)[6:]}, but the "
                "model needs floating-point numbers. Use a checkpoint before its quantization."
            )
    diverged = [
        weights.origins[key]
        for key, value in weights.tensors.items()
        if value.is_floating_point() and not _is_finite(value)
    ]
    if diverged:
        raise CheckpointError(
            f"{weights.path} has NaN or infinite values in {len(diverged)} parameters, for example "
            f"{diverged[0]}: its training diverged. Use an earlier checkpoint."
        )


def _is_finite(value: Tensor) -> bool:
    """Whether all numbers are finite; a sum, which is several times faster, proves it mostly."""
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())

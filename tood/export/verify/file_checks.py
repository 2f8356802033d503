"""What can be said about a file without the model's predictions: metadata, shapes, form of outputs.

Each check returns sentences about what is wrong; none if all is right.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from detectron2.config import CfgNode
from torch import nn

from tood_runtime.backends.base import INPUT_NAMES, OUTPUT_NAMES
from tood_runtime.model_info import ModelInfo

from ...data.registration import class_info
from ...modeling import size_divisor
from ..onnx import require_onnx
from ..openvino import require_core
from .images import VerificationBatch

Arrays = Mapping[str, npt.NDArray[Any]]
# Size of a dimension, or None if it is symbolic.
Dims = list[int | None]


def check_metadata(info: ModelInfo, model: nn.Module, cfg: CfgNode) -> list[str]:
    """Compare the metadata in a file with the model and its config."""
    names, ids = class_info(cfg)
    expected = {
        "class_names": names,
        "category_ids": list(ids),
        "channel_order": cfg.INPUT.FORMAT,
        "channels": len(cfg.MODEL.PIXEL_MEAN),
        "apply_exif_orientation": cfg.INPUT.APPLY_EXIF_ORIENTATION,
        "min_size": cfg.INPUT.MIN_SIZE_TEST,
        "max_size": cfg.INPUT.MAX_SIZE_TEST,
        "size_divisor": size_divisor(model),
        "level_strides": list(model.level_strides),
        "score_threshold": model.test_score_thresh,
        "nms_threshold": model.test_nms_thresh,
        "topk_candidates": model.test_topk_candidates,
        "max_detections": model.max_detections_per_image,
    }
    problems = []
    for name, value in expected.items():
        found = getattr(info, name)
        if found != value:
            problems.append(
                f"The metadata {name!r} is {_shorten(found)}, but the model has {_shorten(value)}."
            )
    text = cfg.dump()
    if info.config != text:
        try:
            config = yaml.safe_load(info.config)
        except yaml.YAMLError:
            config = None
        different = ", ".join(_different_keys(config, yaml.safe_load(text)))
        problems.append(f"The config in the metadata has other values of {different}.")
    return problems


def _shorten(value: object, length: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def _different_keys(first: Any, second: Any, prefix: str = "") -> list[str]:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [prefix or "all keys"]
    keys = []
    for key in sorted({*first, *second}, key=str):
        name = f"{prefix}.{key}" if prefix else str(key)
        keys += _different_keys(first.get(key), second.get(key), name)
    return keys


def check_shapes(path: Path, info: ModelInfo) -> list[str]:
    """Check that what may vary is symbolic, and that what is fixed is a number.

    Only in ONNX and OpenVINO files. The others have no shapes in them, and it shows when they run.

    Raises:
        ExportError: the package that reads the file is not installed.
    """
    readers = {".onnx": _read_onnx_shapes, ".xml": _read_openvino_shapes}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        return []
    inputs, outputs = reader(path)
    batch, height, width = info.batch, info.height, info.width
    expected_inputs: dict[str, Dims] = {
        "images": [batch, info.channels, height, width],
        **{name: [batch, 2] for name in INPUT_NAMES[1:]},
    }
    problems = [
        f"The input {name!r} has the shape {_show(dims)}: expected {_show(expected)}."
        for name, expected in expected_inputs.items()
        if (dims := inputs.get(name)) is not None and dims != expected
    ]
    # The batch, and the number of points, which follows from the size.
    varies = [batch is None, info.output == "raw" and None in (height, width)]
    for name in OUTPUT_NAMES.get(info.output, ()):
        dims = outputs.get(name, [])
        if any(v and dim is not None for v, dim in zip(varies, dims, strict=False)):
            problems.append(
                f"The output {name!r} has the shape {_show(dims)}, but the file is to take any "
                "batch and size."
            )
    return problems


def _show(dims: Dims) -> str:
    return f"({', '.join('any' if dim is None else str(dim) for dim in dims)})"


def _read_onnx_shapes(path: Path) -> tuple[dict[str, Dims], dict[str, Dims]]:
    graph = require_onnx().load(str(path), load_external_data=False).graph

    def read(values: Any) -> dict[str, Dims]:
        """Sizes of the dimensions, by name."""
        return {
            value.name: [
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            ]
            for value in values
        }

    return read(graph.input), read(graph.output)


def _read_openvino_shapes(path: Path) -> tuple[dict[str, Dims], dict[str, Dims]]:
    model = require_core().read_model(str(path))

    def read(values: Any) -> dict[str, Dims]:
        """Sizes of the dimensions, by name."""
        return {
            value.get_any_name(): [
                None if dim.is_dynamic else dim.get_length() for dim in value.partial_shape
            ]
            for value in values
        }

    return read(model.inputs), read(model.outputs)


def check_outputs(
    outputs: Arrays, info: ModelInfo, batch: VerificationBatch, raw_shapes: Mapping[str, tuple]
) -> list[str]:
    """Check the form of what a file returned for a batch.

    Args:
        outputs: by name.
        info: of the file.
        batch: what the file was given.
        raw_shapes: shapes of raw output, by name.
    """
    count = len(batch.images)
    missing = [name for name in OUTPUT_NAMES[info.output] if name not in outputs]
    if missing:
        return [f"The file has no output {', '.join(missing)}."]
    if info.output == "raw":
        shapes = dict(raw_shapes)
    else:
        rows = outputs["boxes"].shape[1] if outputs["boxes"].ndim == 3 else 0
        shapes = {
            "boxes": (count, rows, 4), "scores": (count, rows), "labels": (count, rows),
            "num_dets": (count,),
        }  # fmt: skip
    for name, shape in shapes.items():
        kind = np.integer if name in ("labels", "num_dets") else np.floating
        array = outputs[name]
        if array.shape != shape or not np.issubdtype(array.dtype, kind):
            return [
                f"The output {name!r} has shape {array.shape} and type {array.dtype}: expected "
                f"{shape} and {'integers' if kind is np.integer else 'floating point'}."
            ]
        if not np.isfinite(array).all():
            return [f"The output {name!r} has values that are NaN or infinite."]
    return [] if info.output == "raw" else _check_detections(outputs, info, batch)


def _check_detections(outputs: Arrays, info: ModelInfo, batch: VerificationBatch) -> list[str]:
    boxes, scores, labels = (outputs[name] for name in ("boxes", "scores", "labels"))
    counts = outputs["num_dets"]
    rows = scores.shape[1]
    if info.max_detections >= 0 and rows > info.max_detections:
        return [f"The outputs have {rows} rows: at most {info.max_detections} expected."]
    if counts.min() < 0 or counts.max() > rows:
        return [f"'num_dets' is {counts.tolist()}: 0 to {rows} expected."]
    used = np.arange(rows) < counts[:, None]
    limits = np.array([image.original_size[::-1] * 2 for image in batch.images], float)
    inside = (boxes >= 0) & (boxes <= limits[:, None] * (1 + 1e-6))
    known = (labels >= 0) & (labels < len(info.class_names))
    sorted_scores = np.where(used, scores, -np.inf)
    checks = {
        "rows from 'num_dets' on that are not 0, or whose label is not -1": (
            (boxes == 0).all(-1) & (scores == 0) & (labels == -1)
        )[~used],
        "boxes outside of the image": inside[used],
        "labels that are no class": known[used],
        "scores of 0 or below": (scores > 0)[used],
        "detections that are not sorted by score": sorted_scores[:, :-1] >= sorted_scores[:, 1:],
    }
    return [f"The file returns {what}." for what, right in checks.items() if not right.all()]

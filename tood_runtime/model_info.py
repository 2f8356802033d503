"""What an exported file says about its model: all that is needed to run it.

It travels as text: ONNX ``metadata_props``, TorchScript and torch.export extra files, and OpenVINO
``rt_info`` hold the same keys with the same values. Values that are not text are JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin

# Raised where a reader of the earlier format would get a file wrong.
FORMAT_VERSION = 1
# As in the validation of configs: what is larger does not fit into memory.
_MAX_SIDE = 100_000


class ModelFileError(ValueError):
    """A file is no exported model, or not one that this version can run."""


@dataclass(frozen=True)
class ModelInfo:
    """The properties of an exported model.

    Attributes:
        model: name of the config that the model was built from.
        output: "detections" for a file with NMS inside, "raw" for boxes and scores of all points.
        precision: "float32", "float16", "bfloat16" or "int8".
        class_names: by class index.
        category_ids: ids in COCO-format files, by class index.
        channel_order: of the input, ``INPUT.FORMAT``: "BGR", "RGB" or "L".
        apply_exif_orientation: whether the orientation in an image's EXIF data is applied.
        min_size: images are resized so that the shorter side has this many pixels; 0 for no resize.
        max_size: limit of the longer side; the shorter side gets smaller then.
        size_divisor: a batch is padded to a multiple of this, on the right and at the bottom.
        level_strides: stride of each level, finest first; the order of the points of a raw file.
        batch: the only batch size that the file takes; None for any.
        height: the only height that the file takes; None for any.
        width: likewise.
        score_threshold: detections score more than this; of a raw file, what the model uses.
        nms_threshold: boxes of one class with a larger IoU suppress each other.
        topk_candidates: maximum number of candidates per level that NMS gets.
        max_detections: maximum number of detections per image; negative for no limit.
        config: the whole config as YAML.
        weights_sha256: of the file of the weights; empty if the model was built without one.
        channels: of the images that the network takes; a gray image is repeated in all of them.
        versions: of the programs that wrote the file, by name.
        created: date and time, ISO 8601 in UTC.
        license: of this project's code, an SPDX name.
        task: what the model does.
        is_average: whether the weights are an average over training (``SOLVER.EMA``).
    """

    model: str
    output: str
    precision: str
    class_names: list[str]
    category_ids: list[int | str]
    channel_order: str
    apply_exif_orientation: bool
    min_size: int
    max_size: int
    size_divisor: int
    level_strides: list[int]
    batch: int | None
    height: int | None
    width: int | None
    score_threshold: float
    nms_threshold: float
    topk_candidates: int
    max_detections: int
    config: str
    weights_sha256: str
    channels: int = 3
    versions: dict[str, str] = field(default_factory=dict)
    created: str = ""
    license: str = "Apache-2.0"
    task: str = "detect"
    is_average: bool = False

    @property
    def lowest_threshold(self) -> float:
        """Detections that do not score more than this are not in the file's output."""
        return 0.0 if self.output == "raw" else self.score_threshold

    def to_strings(self) -> dict[str, str]:
        """The properties as text, by key; the format's version is among them."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        texts = {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in values.items()
        }
        return {"tood_format": str(FORMAT_VERSION), **texts}

    @classmethod
    def from_strings(cls, texts: Mapping[str, str], path: str) -> "ModelInfo":
        """Read what :meth:`to_strings` wrote.

        Args:
            texts: by key; unknown keys are ignored.
            path: the file, for messages.

        Raises:
            ModelFileError: keys are missing or damaged, or a newer version wrote them.
        """
        version = texts.get("tood_format")
        if version is None:
            raise ModelFileError(
                f"{path} has no metadata of this project, so its classes and input size are "
                "unknown. Write it with: tood export"
            )
        if version != str(FORMAT_VERSION):
            raise ModelFileError(
                f"{path} has metadata of format {version}, and this version reads format "
                f"{FORMAT_VERSION}. Update tood-detectron2, or export the model again."
            )
        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name not in texts and item.name in _OPTIONAL:
                continue
            if item.name not in texts:
                raise ModelFileError(f"{path} lacks the metadata {item.name!r}. Export it again.")
            text = texts[item.name]
            try:
                values[item.name] = text if item.type is str else _parse(text, item.type)
                _require_possible(item.name, values[item.name])
            except (ValueError, RecursionError) as error:
                raise _damaged(path, item.name, text) from error
        if len(values["category_ids"]) != len(values["class_names"]):
            raise _damaged(path, "category_ids", texts["category_ids"])
        if values["channel_order"] in ("BGR", "RGB") and values["channels"] != 3:
            raise _damaged(path, "channels", texts["channels"])
        return cls(**values)


# What files of earlier versions do not say.
_OPTIONAL = ("is_average",)

# The least and the largest value of numbers that sizes are computed from; None is allowed for all.
_RANGES = {
    "min_size": (0, _MAX_SIDE),
    "max_size": (1, _MAX_SIDE),
    "size_divisor": (1, _MAX_SIDE),
    "level_strides": (1, _MAX_SIDE),
    "batch": (1, 2**16),
    "height": (1, _MAX_SIDE),
    "width": (1, _MAX_SIDE),
    "topk_candidates": (1, 2**63 - 1),
    "channels": (1, 2**10),
    "score_threshold": (-1e30, 1.0),
    "nms_threshold": (0.0, 1.0),
}


def _require_possible(name: str, value: Any) -> None:
    """Raise a ValueError for a value with which nothing can be computed."""
    if name in ("class_names", "level_strides") and not value:
        raise ValueError("empty")
    low, high = _RANGES.get(name, (None, None))
    for number in value if isinstance(value, list) else [value]:
        # NaN is in no range.
        if low is not None and number is not None and not low <= number <= high:
            raise ValueError("out of range")


def _damaged(path: str, name: str, text: str) -> ModelFileError:
    return ModelFileError(
        f"{path} has damaged metadata: {name!r} is {text[:80]!r}. Export it again."
    )


def _parse(text: str, expected: Any) -> Any:
    """Parse JSON whose value must have the type of a field.

    Raises:
        ValueError: it is no JSON, or has another type.
    """
    value = json.loads(text)
    if not _matches(value, expected):
        raise ValueError(f"expected {expected}")
    return value


def _matches(value: Any, expected: Any) -> bool:
    arguments = get_args(expected)
    kind = get_origin(expected) or expected
    if kind is UnionType:
        return any(_matches(value, choice) for choice in arguments)
    if kind is list:
        return isinstance(value, list) and all(_matches(item, arguments[0]) for item in value)
    if kind is dict:
        return isinstance(value, dict) and all(_matches(v, arguments[1]) for v in value.values())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    # A bool is an int to isinstance.
    return type(value) is kind

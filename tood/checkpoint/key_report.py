"""Compare the keys and shapes of a checkpoint with those of a model."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .key_mapping import is_backbone_only, is_batch_counter
from .key_tables import BACKBONE_PREFIX
from .loading import LoadedWeights
from .roi_classes import have_other_classes

# The convolutions of one level of detectron2's FPN.
_FPN_LEVEL = re.compile(r"backbone\.fpn_(?:lateral|output)(\d+)\.")

# Maximum number of names in a message; the rest are counted.
_MAX_LISTED = 10

_HINT = (
    "Use the config that the weights were trained with. From other detectors, only a file that "
    "holds just a backbone can be loaded."
)
_BACKBONE_HINT = (
    "The file holds only a backbone, and the whole model needs weights. Use the weights of a "
    "trained detector."
)
_NUM_CLASSES_HINT = "The number of classes seems to differ. Set {} to that of the weights."
_KEYS = "MODEL.TOOD.NUM_CLASSES"
_TWO_STAGE_KEYS = f"{_KEYS} and MODEL.ROI_HEADS.NUM_CLASSES"
_AGNOSTIC_HINT = (
    "Only the classes of the first stage differ. MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC seems to "
    "differ from that of the weights."
)
_UNLISTED_HINT = (
    "To fine-tune with another number of classes, list the parameters that have one row per class "
    "in the head's class: class_specific_parameters = {names}. Otherwise, use the config that the "
    "weights were trained with."
)


@dataclass(frozen=True)
class KeyReport:
    """Where a checkpoint and a model differ.

    Attributes:
        path: the checkpoint.
        missing: parameters of the model without a value.
        unexpected: keys of the file without a place in the model.
        mismatched: descriptions of the keys whose shapes differ.
        hint: how to fix the differences above.
        backbone_only: the file holds only a backbone, and this was allowed.
        untrained_offsets: the backbone's deformable convolutions have no offsets in that file.
        new_classes: class-specific parameters that keep their initialization, because the file has
            another number of classes and this was allowed.
        new_parts: parameters that keep their initialization, because the file is of a detector
            without these parts and this was allowed.
    """

    path: str
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    hint: str = ""
    backbone_only: bool = False
    untrained_offsets: bool = False
    new_classes: list[str] = field(default_factory=list)
    new_parts: list[str] = field(default_factory=list)

    @property
    def is_match(self) -> bool:
        """Whether the checkpoint can be loaded."""
        return not (self.missing or self.unexpected or self.mismatched)

    def format(self) -> str:
        """Format what does not match, and how to fix it, for an error message."""
        lines = [f"{self.path} does not match the model:"]
        for description, names in (
            ("parameters of the model have no value in the file", self.missing),
            ("keys of the file have no place in the model", self.unexpected),
            ("keys have another shape", self.mismatched),
        ):
            if names:
                more = len(names) - _MAX_LISTED
                listed = "; ".join(sorted(names)[:_MAX_LISTED])
                rest = f"; and {more} more" if more > 0 else ""
                lines.append(f"  {len(names)} {description}: {listed}{rest}")
        return "\n".join([*lines, f"  {self.hint}"])


def compare_keys(
    expected: Mapping[str, Tensor],
    weights: LoadedWeights,
    *,
    allow_backbone_only: bool,
    allow_new_classes: bool,
    class_specific_parameters: Iterable[str] = (),
    head_prefix: str = "head.",
    roi_class_parameters: Collection[str] = (),
    optional_parts: Sequence[Collection[str]] = (),
) -> KeyReport:
    """Compare weights with a model's state_dict.

    Every key must match. Batch counters are the exception: only some norms keep them, and nothing
    reads them.

    Args:
        expected: the model's state_dict.
        weights: the weights, with the model's names.
        allow_backbone_only: accept a file that holds only a backbone.
        allow_new_classes: accept weights that differ only in the number of classes.
        class_specific_parameters: parameters whose first dimension is the class, relative to the
            head. Names that the head does not have (an optional bias) are skipped.
        head_prefix: prefix of the head's parameters in the model.
        roi_class_parameters: the model's parameters of a second stage that depend on the number of
            classes. See `tood.checkpoint.roi_classes`.
        optional_parts: groups of the model's keys; a file may lack all keys of a group. See
            `parts_without_one_stage_weights`.
    """
    tensors = weights.tensors
    missing = {key for key in expected.keys() - tensors.keys() if not is_batch_counter(key)}
    unexpected = {key for key in tensors.keys() - expected.keys() if not is_batch_counter(key)}
    shared = expected.keys() & tensors.keys()
    mismatched = {k for k in shared if expected[k].shape != tensors[k].shape}

    backbone_only = allow_backbone_only and is_backbone_only(weights.layout)
    offsets: set[str] = set()
    if backbone_only:
        missing = {key for key in missing if BACKBONE_PREFIX in key}
        # Backbones are trained on ImageNet without deformable convolutions.
        offsets = {key for key in missing if ".conv2_offset." in key}
        missing -= offsets

    new_parts = missing & _absent(optional_parts, tensors.keys())
    missing -= new_parts
    listed = {head_prefix + name for name in class_specific_parameters} & expected.keys()
    resized = {key for key in mismatched if _differs_in_rows(expected[key], tensors[key])}
    new_classes: set[str] = set()
    if (
        allow_new_classes
        and mismatched == resized
        and have_other_classes(mismatched, listed, roi_class_parameters)
    ):
        new_classes, mismatched = mismatched, new_classes

    hint, roi_rows = _HINT, mismatched.intersection(roi_class_parameters)
    rows = mismatched - roi_rows
    only_rows = mismatched == resized and not (missing or unexpected)
    in_head = all(key.startswith(head_prefix) for key in rows)
    if is_backbone_only(weights.layout) and not backbone_only:
        hint = _BACKBONE_HINT
    elif only_rows and in_head and not allow_new_classes:
        hint = _classes_hint(bool(roi_class_parameters), bool(roi_rows))
    elif only_rows and in_head and rows - listed:
        names = tuple(key.removeprefix(head_prefix) for key in sorted(rows))
        hint = _UNLISTED_HINT.format(names=names)
    return KeyReport(
        weights.path,
        missing=sorted(missing),
        unexpected=sorted(weights.origins[key] for key in unexpected),
        mismatched=[_describe_shapes(key, expected, weights) for key in sorted(mismatched)],
        hint=hint,
        backbone_only=backbone_only,
        untrained_offsets=bool(offsets),
        new_classes=sorted(new_classes),
        new_parts=sorted(new_parts),
    )


def _describe_shapes(key: str, expected: Mapping[str, Tensor], weights: LoadedWeights) -> str:
    found, wanted = weights.tensors[key].shape, expected[key].shape
    return f"{weights.origins[key]} {tuple(found)}, in the model {tuple(wanted)}"


def _classes_hint(is_two_stage: bool, in_second_stage: bool) -> str:
    if not is_two_stage:
        return _NUM_CLASSES_HINT.format(_KEYS)
    return _NUM_CLASSES_HINT.format(_TWO_STAGE_KEYS) if in_second_stage else _AGNOSTIC_HINT


def parts_without_one_stage_weights(
    expected: Collection[str], core_prefix: str, core_maps: Collection[str]
) -> list[list[str]]:
    """The parts of a two-stage model that the weights of its first stage alone do not fill.

    Args:
        expected: keys of the model.
        core_prefix: prefix of the first stage, such as ``"proposal_generator."``; empty for a
            one-stage detector, which has no such parts.
        core_maps: names of the FPN's maps that the first stage reads, such as "p3".

    Returns:
        Groups of keys: the second stage, and each map of the FPN that only it reads.
    """
    if not core_prefix:
        return []
    shared = ("backbone.", core_prefix)
    groups: dict[str, list[str]] = {}
    for key in expected:
        fpn = _FPN_LEVEL.match(key)
        if fpn is not None and f"p{fpn[1]}" not in core_maps:
            groups.setdefault(fpn[1], []).append(key)
        elif not key.startswith(shared):
            groups.setdefault("second stage", []).append(key)
    return list(groups.values())


def _absent(parts: Sequence[Collection[str]], present: Collection[str]) -> set[str]:
    """The keys of the parts of which no key is present."""
    return {key for part in parts if not any(x in present for x in part) for key in part}


def _differs_in_rows(a: Tensor, b: Tensor) -> bool:
    """Whether two shapes differ only in the first dimension."""
    return a.ndim == b.ndim > 0 and a.shape[1:] == b.shape[1:]

"""Convert checkpoints between the layouts of this project, MMDetection and the authors.

This project's commands read all of these layouts directly; a converted file is for other programs.
Nothing is computed: converting back and forth gives the same bits. Only averages (EMA) and what is
not a tensor are dropped, and batch counters that were missing are written as 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ..errors import CheckpointError
from .checkpointer import TOODCheckpointer
from .info import INFO_KEY, CheckpointInfo
from .key_mapping import from_tood_keys, is_backbone_only
from .key_tables import BACKBONE_PREFIX
from .loading import LoadedWeights, read_checkpoint
from .saving import write_checkpoint


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Weights with the names of another layout.

    Attributes:
        source: the file that was converted.
        state_dict: its weights by their new names.
        contents: what :meth:`save` writes: ``state_dict`` in the form that programs of the layout
            expect.
    """

    source: LoadedWeights
    state_dict: dict[str, Tensor]
    contents: dict[str, Any]

    def save(self, path: str) -> None:
        """Write a new file; its folder is created.

        Raises:
            CheckpointError: the file exists or cannot be written.
        """
        validate_new_file(path)
        write_checkpoint(self.contents, path)


def validate_new_file(path: str) -> None:
    """Raise a CheckpointError if the file exists, so that no checkpoint is overwritten."""
    if Path(path).exists():
        raise CheckpointError(f"{path} already exists. Remove it, or choose another name.")


def convert_checkpoint(path: str, to: str, cfg: CfgNode | None = None) -> ConvertedCheckpoint:
    """Convert a checkpoint to the names of another layout.

    Args:
        path: a file or URL in any layout that :func:`~tood.checkpoint.read_checkpoint` reads.
        to: ``"tood"`` or one of :data:`~tood.checkpoint.key_mapping.EXPORT_LAYOUTS`.
        cfg: if given, the weights must match its model. Its class names are added to a file for
            MMDetection.

    Raises:
        CheckpointError: the file cannot be read or does not match the config's model, or the layout
            has no name for some of its weights.
    """
    source = read_checkpoint(path)
    state_dict = _rename(source, to)
    if cfg is not None:
        checkpointer = TOODCheckpointer(
            build_model(cfg), strict=not is_backbone_only(source.layout)
        )
        checkpointer.load(path)
    info = source.info or CheckpointInfo()
    if to == "tood":
        contents: dict[str, Any] = {"model": state_dict}
        if source.info is not None:
            contents[INFO_KEY] = info.to_dict()
        return ConvertedCheckpoint(source, state_dict, contents)
    meta: dict[str, Any] = {}
    names = tuple(cfg.MODEL.TOOD.CLASS_NAMES if cfg is not None else ()) or tuple(info.class_names)
    if names:
        # MMDetection 2.x reads the first, 3.x the second.
        meta = {"CLASSES": names, "dataset_meta": {"classes": names}}
    if info.is_average:
        meta["is_average"] = True  # nobody reads it but people
    return ConvertedCheckpoint(source, state_dict, {"state_dict": state_dict, "meta": meta})


def _rename(source: LoadedWeights, to: str) -> dict[str, Tensor]:
    if not is_backbone_only(source.layout):
        # Also called for our own names: it raises for names that no TOOD has.
        renamed = from_tood_keys(source.tensors, "mmdet" if to == "tood" else to)
        return source.tensors if to == "tood" else renamed
    if to != "tood":
        raise CheckpointError(
            f"{source.path} holds only a backbone, which can be converted only to this project's "
            f"names (tood), not to {to}."
        )
    return {key.removeprefix(BACKBONE_PREFIX): value for key, value in source.tensors.items()}

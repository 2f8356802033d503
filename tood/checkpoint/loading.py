"""Read a checkpoint of any supported layout: the entry point of all programs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from .info import INFO_KEY, CheckpointInfo, read_info
from .key_mapping import detect_layout, nest_keys, to_tood_keys
from .safe_load import load_file, resolve_path
from .state_dict import extract_state_dict, weights_entry
from .timm_weights import LAYOUT, TimmNames


@dataclass(frozen=True)
class LoadedWeights:
    """The weights in a checkpoint file, with this project's names.

    Attributes:
        path: the file or URL, as the caller wrote it.
        tensors: weights by this project's names. Keys that the layout does not know keep the name
            that they have in the file.
        layout: a key of :data:`~tood.checkpoint.key_mapping.LAYOUT_DESCRIPTIONS`.
        origins: for each key of ``tensors`` its key in the file, without the prefixes of wrapping
            modules.
        ignored: what else the file holds, in words.
        extras: what detectron2's checkpointer saved next to the model, such as the optimizer and
            the iteration; empty for files of other programs.
        info: what the file says about itself; None if it says nothing.
    """

    path: str
    tensors: dict[str, Tensor]
    layout: str
    origins: dict[str, str]
    ignored: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    info: CheckpointInfo | None = None

    def nested(self, core_prefix: str, model_keys: Collection[str]) -> "LoadedWeights":
        """Rename for a model that holds the detector as a submodule; see :func:`nest_keys`."""
        return replace(
            self,
            tensors=nest_keys(self.tensors, core_prefix, model_keys),
            origins=nest_keys(self.origins, core_prefix, model_keys),
        )

    def without(self, prefix: str, what: str) -> "LoadedWeights":
        """Leave out the weights of a part; ``ignored`` then says so, where there were any.

        Args:
            prefix: of their names.
            what: the part is called.
        """
        kept = {key: value for key, value in self.tensors.items() if not key.startswith(prefix)}
        if len(kept) == len(self.tensors):
            return self
        left_out = f"{what} ({len(self.tensors) - len(kept)} tensors)"
        origins = {key: self.origins[key] for key in kept}
        return replace(self, tensors=kept, origins=origins, ignored=[*self.ignored, left_out])


def read_checkpoint(path: str, timm_names: TimmNames | None = None) -> LoadedWeights:
    """Read a checkpoint file and rename its weights to this project's names.

    Nothing in the file is executed.

    Args:
        path: a file or URL with weights of this project, MMDetection, the authors or a backbone.
        timm_names: of the model, if timm made its backbone; else timm's files are not recognized.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    data = load_file(resolve_path(path))
    info = read_info(data, path)
    if isinstance(data, Mapping):
        data = {key: value for key, value in data.items() if key != INFO_KEY}
    tensors, ignored = extract_state_dict(data, path)
    if timm_names is not None and timm_names.fit(tensors):
        layout = LAYOUT
        tensors, origins = timm_names.rename(tensors)
    else:
        layout = detect_layout(tensors, path)
        tensors, origins = to_tood_keys(tensors, layout)
    extras = {}
    if isinstance(data, Mapping) and weights_entry(data) == "model":
        extras = {str(key): value for key, value in data.items() if key != "model"}
    return LoadedWeights(path, tensors, layout, origins, ignored, extras, info)

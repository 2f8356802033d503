"""Weights of timm's networks for a model whose backbone is one: names, and normalization."""

import functools
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from ..errors import ConfigError
from ..modeling.timm_backbone import TimmBackbone

LAYOUT = "timm-backbone"
# Tables that older files of Swin hold, and that timm computes.
_COMPUTED = (".relative_position_index", ".relative_coords_table", ".attn_mask")
# Largest difference, 0 to 255, of two normalizations that are the same: some round 127.5 to 127.
_TOLERANCE = 1.0


def find_timm_backbone(model: nn.Module) -> tuple[str, TimmBackbone] | None:
    """The first backbone of timm in a model, and its name there; None if it has none."""
    return next(
        ((name, m) for name, m in model.named_modules() if isinstance(m, TimmBackbone)), None
    )


class TimmNames:
    """Recognizes and renames the state_dict of the network that a backbone is made of.

    Args:
        prefix: of the backbone's parameters in the model, such as "backbone.bottom_up.".
        backbone: of the model.
    """

    def __init__(self, prefix: str, backbone: TimmBackbone) -> None:
        self._prefix, self._backbone = prefix, backbone

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        # Builds the network once more, so only files that can be timm's get here.
        return self._backbone.weight_names()

    @classmethod
    def of(cls, model: nn.Module) -> "TimmNames | None":
        """The names for a model; None if its backbone is not timm's."""
        found = find_timm_backbone(model)
        return None if found is None else cls(f"{found[0]}.", found[1])

    def fit(self, names: Iterable[str]) -> bool:
        """Whether at least half of a file's names are those of the network."""
        names = list(names)
        if any(name.startswith(self._prefix) for name in names):  # our own checkpoint
            return False
        return 2 * sum(name in self._names for name in names) >= len(names) > 0

    def rename(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Rename a state_dict that fits; the classifier is dropped, unknown names are kept.

        Returns:
            The renamed state_dict, and the original key of each of its keys.
        """
        renamed, origins = {}, {}
        for name, value in tensors.items():
            ours = self._names.get(name, name)
            if not ours or name.endswith(_COMPUTED):
                continue
            ours = self._prefix + ours if name in self._names else name
            renamed[ours], origins[ours] = value, name
        return renamed, origins


def validate_pixels(model: nn.Module, path: str) -> None:
    """Raise if a model normalizes images in another way than timm's weights need.

    Args:
        model: with a backbone of timm, ``pixel_mean``, ``pixel_std`` and ``input_format``.
        path: of the weights.

    Raises:
        ConfigError: another mean or deviation, or an order of the channels other than RGB.
    """
    found = find_timm_backbone(model)
    if found is None or not found[1].check_pixels or not hasattr(model, "pixel_mean"):
        return
    backbone = found[1]
    wanted = (backbone.pixel_mean, backbone.pixel_std)
    actual = tuple(getattr(model, key).flatten().tolist() for key in ("pixel_mean", "pixel_std"))
    order = getattr(model, "input_format", "RGB")
    close = all(
        len(a) == len(b) and all(abs(x - y) <= _TOLERANCE for x, y in zip(a, b, strict=True))
        for a, b in zip(actual, wanted, strict=True)
    )
    if close and order == "RGB":
        return
    mean, std = map(_rounded, wanted)
    raise ConfigError(
        f"{path} holds weights of timm's {backbone.name}, which expect RGB images with other "
        f"normalization than the config: MODEL.PIXEL_MEAN is {_rounded(actual[0])}, PIXEL_STD "
        f"{_rounded(actual[1])}, INPUT.FORMAT {order}. Set MODEL.PIXEL_MEAN {mean}, "
        f"MODEL.PIXEL_STD {std} and INPUT.FORMAT RGB, or MODEL.TIMM.CHECK_PIXELS False if these "
        "weights were trained with the config's."
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]

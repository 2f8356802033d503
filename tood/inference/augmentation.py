"""Test-time augmentation of a detector: images prepared with views of several sizes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from tood_runtime.prediction import OptionError, PredictionSettings, PreparedImage

from ..config.validation import validate_views
from ..data.transforms import convert_format
from ..data.views import TestViews
from ..errors import ConfigError
from ..modeling.views import FLIPPED, VIEWS
from .model_limits import is_dense
from .tensors import image_to_tensor


@dataclass(frozen=True, eq=False)
class PreparedViews(PreparedImage):
    """An image, resized for the network, with its views.

    Attributes:
        views: of each the pixels (h, w, C), and whether it is mirrored.
    """

    views: tuple[tuple[np.ndarray, bool], ...] = ()


def build_views(model: nn.Module, cfg: CfgNode) -> TestViews:
    """Build the views that ``TEST.AUG`` describes, whether or not that is enabled.

    Raises:
        ConfigError: the model has no test-time augmentation, or values that cannot work.
    """
    if not is_dense(model):
        raise ConfigError(
            "Test-time augmentation (tta) is for TOOD models with their weights, not for exported "
            "files and other detectors. Use flip instead, which looks at the mirror image too."
        )
    validate_views(cfg)
    return TestViews.from_config(cfg)


def add_views(
    prepared: PreparedImage, pixels: np.ndarray, views: TestViews, image_format: str
) -> PreparedViews:
    """Add the views of an image.

    Args:
        prepared: the image, resized.
        pixels: (H, W, 3) uint8 RGB, not resized.
        views: what to look at.
        image_format: ``INPUT.FORMAT``.
    """
    found = tuple(views(convert_format(pixels, image_format)))
    return PreparedViews(prepared.pixels, prepared.padded_size, prepared.original_size, found)


def require_no_flip(cfg: CfgNode, settings: PredictionSettings) -> None:
    """Refuse to mirror an image whose views are mirrored already.

    Raises:
        OptionError: flip is asked for.
    """
    if settings.flip and cfg.TEST.AUG.FLIP:
        raise OptionError(
            "Give either flip or tta: test-time augmentation mirrors images already, unless "
            "TEST.AUG.FLIP is False."
        )


def model_input(prepared: PreparedImage) -> dict[str, Any]:
    """What the model gets for an image."""
    x: dict[str, Any] = {
        "image": image_to_tensor(prepared.pixels),
        "height": prepared.original_size[0],
        "width": prepared.original_size[1],
    }
    if isinstance(prepared, PreparedViews):
        x[VIEWS] = [
            {"image": image_to_tensor(pixels), FLIPPED: is_flipped}
            for pixels, is_flipped in prepared.views
        ]
    return x

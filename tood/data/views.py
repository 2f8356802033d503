"""The views of an image that test-time augmentation looks at (``TEST.AUG``)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ..modeling.views import FLIPPED, VIEWS
from .transforms import ResizeShortestEdge


class TestViews:
    """Resizes an image to several sizes, each also mirrored if asked for.

    Sizes that come out equal, such as those above ``max_size`` for a long image, are one view.

    Args:
        min_sizes: of the shorter side; 0 keeps the size of the image.
        max_size: of the longer side.
        flip: whether each is mirrored too.
    """

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(self, min_sizes: Sequence[int], max_size: int, flip: bool) -> None:
        self._resizes = [ResizeShortestEdge([size, size], max_size) for size in min_sizes]
        self._flip = flip

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TestViews":
        """Build the views of ``TEST.AUG``, whether or not that is enabled."""
        node = cfg.TEST.AUG
        return cls(node.MIN_SIZES, node.MAX_SIZE, node.FLIP)

    def __call__(self, pixels: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        """Return the views of an image.

        Args:
            pixels: (H, W, C) in ``INPUT.FORMAT``, not resized.

        Returns:
            For each view its pixels (h, w, C), and whether it is mirrored.
        """
        views: dict[tuple[int, ...], list[tuple[np.ndarray, bool]]] = {}
        for resize in self._resizes:
            resized = resize.get_transform(pixels).apply_image(pixels)
            views[resized.shape] = [(resized, False)]
            if self._flip:
                views[resized.shape].append((resized[:, ::-1], True))
        return [view for both in views.values() for view in both]


def with_views(
    x: dict[str, Any], views: TestViews, pixels: np.ndarray | None = None
) -> dict[str, Any]:
    """Add its views to an input of the model.

    Args:
        x: the input, which is not changed.
        views: what to look at.
        pixels: (H, W, C) of the image before it was resized; by default the input's own, which
            are resized twice then.
    """
    if pixels is None:
        pixels = x["image"].permute(1, 2, 0).numpy()
    return {
        **x,
        VIEWS: [
            {"image": to_tensor(view), FLIPPED: is_flipped} for view, is_flipped in views(pixels)
        ],
    }


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, C) pixels as a tensor (C, H, W) of their own type."""
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(image if image.flags.writeable else image.copy())

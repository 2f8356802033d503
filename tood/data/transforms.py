"""detectron2's augmentations with at least one pixel left, and the pixel formats."""

import detectron2.data.transforms as T
import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from tood_runtime.image_io import RGBImage


class ResizeShortestEdge(T.ResizeShortestEdge):
    """detectron2's resize with at least 1 pixel per side; its own gives 0 for 9000x3 pixels."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, C)."""
        transform = super().get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        return transform


class RandomCrop(T.RandomCrop):
    """detectron2's crop with at least 1 pixel per side."""

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the crop of an image (height, width)."""
        height, width = super().get_crop_size(image_size)
        return max(1, height), max(1, width)


def build_augmentations(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the augmentations that detectron2's ``DatasetMapper`` builds of ``cfg.INPUT``.

    Args:
        cfg: the config.
        is_train: False for evaluation and detection, which only resize.
    """
    node = cfg.INPUT
    if not is_train:
        return [ResizeShortestEdge(node.MIN_SIZE_TEST, node.MAX_SIZE_TEST)]
    augmentations: list[T.Augmentation] = []
    if node.CROP.ENABLED:
        augmentations.append(RandomCrop(node.CROP.TYPE, node.CROP.SIZE))
    augmentations.append(
        ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING)
    )
    if node.RANDOM_FLIP != "none":
        augmentations.append(
            T.RandomFlip(
                horizontal=node.RANDOM_FLIP == "horizontal",
                vertical=node.RANDOM_FLIP == "vertical",
            )
        )
    return augmentations


def convert_format(pixels: RGBImage, image_format: str) -> np.ndarray:
    """Convert an image to ``INPUT.FORMAT``, as detectron2 does.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        image_format: "RGB", "BGR", "L", "YUV-BT.601" or a mode of Pillow.

    Returns:
        (H, W, C) uint8; float64 for YUV-BT.601.
    """
    if image_format == "RGB":
        return pixels
    if image_format == "BGR":
        return pixels[:, :, ::-1]
    return convert_PIL_to_numpy(Image.fromarray(pixels), image_format)

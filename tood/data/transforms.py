"""detectron2's augmentations with at least one pixel left, and the pixel formats."""

from typing import Any

import detectron2.data.transforms as T
import numpy as np
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from tood_runtime.image_io import RGBImage

# The luminance of RGB, as detectron2's RandomSaturation has it.
_LUMINANCE = (0.299, 0.587, 0.114)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """detectron2's resize with at least 1 pixel per side; its own gives 0 for 9000x3 pixels.

    Args:
        short_edge_length: see detectron2.
        max_size: see detectron2.
        sample_style: see detectron2.
        scale: multiplies the sides of the result.
    """

    def __init__(
        self,
        short_edge_length: Any,
        max_size: int,
        sample_style: str = "range",
        scale: float = 1.0,
    ) -> None:
        super().__init__(short_edge_length, max_size, sample_style)
        self.scale = scale

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, C)."""
        transform = super().get_transform(image)
        if not isinstance(transform, T.ResizeTransform):  # a size of 0 does not resize
            if self.scale == 1:
                return transform
            height, width = image.shape[:2]
            transform = T.ResizeTransform(height, width, height, width)
        transform.new_h = max(1, round(transform.new_h * self.scale))
        transform.new_w = max(1, round(transform.new_w * self.scale))
        return transform


class ResizeScale(T.ResizeScale):
    """detectron2's resize to a random fraction of a size, with at least 1 pixel per side."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, C)."""
        transform = super().get_transform(image)
        # detectron2 0.4 has NumPy's integers here.
        transform.new_h = max(1, int(transform.new_h))
        transform.new_w = max(1, int(transform.new_w))
        return transform


class _ClippingCropTransform(T.CropTransform):
    """A crop that clips boxes and polygons to what there is of the image.

    detectron2 clips boxes after all transforms, and polygons to the window, which may be larger
    than the image. If padding follows the crop, an object that ends outside of its image, or that a
    crop before has cut, would then reach into the padding.
    """

    def _end(self) -> tuple[int, int]:
        """Where the window or the image ends: x, y."""
        return min(self.x0 + self.w, self.orig_w), min(self.y0 + self.h, self.orig_h)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Clip and shift boxes (M, 4)."""
        limits = (self.x0, self.y0, self.x0, self.y0), (*self._end(), *self._end())
        return np.asarray(super().apply_box(np.clip(box, *limits)))

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """Cut and shift polygons, each (P, 2)."""
        x2, y2 = self._end()
        crop = T.CropTransform(self.x0, self.y0, x2 - self.x0, y2 - self.y0)
        return list(crop.apply_polygons(polygons))


class FixedSizeCrop(T.FixedSizeCrop):
    """detectron2's crop and padding to one size, whose padding belongs to no box and no mask.

    detectron2's main branch pads masks with 255, which makes the padding a part of every object.
    """

    def get_transform(self, image: np.ndarray) -> T.TransformList:
        """Return the transforms of an image (H, W, C)."""
        crop, pad = super().get_transform(image).transforms
        pad.seg_pad_value = 0
        height, width = image.shape[:2]
        clipping = _ClippingCropTransform(crop.x0, crop.y0, crop.w, crop.h, width, height)
        return T.TransformList([clipping, pad])


class RandomCrop(T.RandomCrop):
    """detectron2's crop with at least 1 pixel per side."""

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of the crop of an image (height, width)."""
        height, width = super().get_crop_size(image_size)
        return max(1, height), max(1, width)


class _TableTransform(T.BlendTransform):
    """detectron2's blend with a number, which is the same for all pixels of a value."""

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Blend an image (H, W, C) uint8."""
        return np.take(super().apply_image(np.arange(256, dtype=np.uint8)), img)


class RandomBrightness(T.RandomBrightness):
    """detectron2's change of brightness, faster by a table of all values, and exact."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, C) uint8."""
        blend = super().get_transform(image)
        return _TableTransform(blend.src_image, blend.src_weight, blend.dst_weight)


class RandomContrast(T.RandomContrast):
    """detectron2's change of contrast, faster by a table of all values, and exact."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, C) uint8."""
        blend = super().get_transform(image)
        return _TableTransform(blend.src_image, blend.src_weight, blend.dst_weight)


class _Float32Blend(T.BlendTransform):
    """detectron2's blend with an image, in float32."""

    def apply_image(self, img: np.ndarray, interp: str | None = None) -> np.ndarray:
        """Blend an image (H, W, C) uint8."""
        blended = img * np.float32(self.dst_weight)
        # Values are rounded down, and gray pixels must not become darker by a rounding error.
        blended += self.src_image * np.float32(self.src_weight) + np.float32(1e-3)
        return np.clip(blended, 0, 255, out=blended).astype(np.uint8)


class RandomSaturation(T.RandomSaturation):
    """detectron2's change of saturation, for images in BGR too.

    It is computed in float32, in a quarter of the time of detectron2's float64; values differ by at
    most 1.

    Args:
        intensity_min: see detectron2.
        intensity_max: see detectron2.
        is_bgr: the order of the channels; detectron2's takes all images for RGB.
    """

    def __init__(self, intensity_min: float, intensity_max: float, is_bgr: bool = False) -> None:
        super().__init__(intensity_min, intensity_max)
        self.is_bgr = is_bgr

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the transform of an image (H, W, 3) uint8."""
        factor = np.random.uniform(self.intensity_min, self.intensity_max)
        weights = np.array(_LUMINANCE[::-1] if self.is_bgr else _LUMINANCE, np.float32)
        gray = (np.ascontiguousarray(image) @ weights)[:, :, np.newaxis]
        return _Float32Blend(src_image=gray, src_weight=1 - factor, dst_weight=factor)


def build_augmentations(cfg: CfgNode, is_train: bool, scale: float = 1.0) -> list[T.Augmentation]:
    """Build the augmentations of ``cfg.INPUT``.

    With the defaults of TOOD's keys, they are those that detectron2's ``DatasetMapper`` builds.

    Args:
        cfg: the config.
        is_train: False for evaluation and detection, which only resize.
        scale: multiplies the sides of the result, of a part of a mosaic.
    """
    node = cfg.INPUT
    if not is_train:
        return [ResizeShortestEdge(node.MIN_SIZE_TEST, node.MAX_SIZE_TEST)]
    augmentations: list[T.Augmentation] = []
    if node.CROP.ENABLED:
        augmentations.append(RandomCrop(node.CROP.TYPE, node.CROP.SIZE))
    if node.LSJ.ENABLED:
        augmentations += _large_scale_jitter(node.LSJ, scale)
    else:
        augmentations.append(
            ResizeShortestEdge(
                node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, node.MIN_SIZE_TRAIN_SAMPLING, scale
            )
        )
    if node.RANDOM_FLIP != "none":
        augmentations.append(
            T.RandomFlip(
                horizontal=node.RANDOM_FLIP == "horizontal",
                vertical=node.RANDOM_FLIP == "vertical",
            )
        )
    if node.COLOR_JITTER.ENABLED:
        augmentations += _color_jitter(node.COLOR_JITTER, node.FORMAT)
    return augmentations


def _large_scale_jitter(node: CfgNode, scale: float) -> list[T.Augmentation]:
    height, width = (max(1, round(side * scale)) for side in node.SIZE)
    return [
        ResizeScale(node.MIN_SCALE, node.MAX_SCALE, height, width),
        FixedSizeCrop((height, width)),
    ]


def _color_jitter(node: CfgNode, image_format: str) -> list[T.Augmentation]:
    jitter: list[T.Augmentation] = []
    for strength, kind in (
        (node.BRIGHTNESS, RandomBrightness),
        (node.CONTRAST, RandomContrast),
    ):
        if strength:
            jitter.append(kind(1 - strength, 1 + strength))
    if node.SATURATION and image_format != "L":  # gray has none
        low, high = 1 - node.SATURATION, 1 + node.SATURATION
        jitter.append(RandomSaturation(low, high, image_format == "BGR"))
    return jitter


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

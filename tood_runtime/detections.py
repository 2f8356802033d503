"""The result of detection on one image."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from . import conversions
from .drawing import draw_detections, require_own_image
from .image_io import ImageInput, read_image
from .masks import Masks

Index: TypeAlias = int | slice | Sequence[int] | npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects found in one image, best first.

    xyxy, confidence, class_id, tracker_id and mask are named as in ``supervision.Detections``.

    Attributes:
        xyxy: (D, 4) float32, the corners x1, y1, x2, y2 in pixels of the image.
        confidence: (D,) float32, scores from 0 to 1.
        class_id: (D,) int64, class indices from 0.
        class_names: D names, one per detection.
        image_size: (height, width) of the image in pixels.
        path: file, URL or camera of the image, or None for an array or a PIL image.
        apply_orientation: whether the EXIF orientation of that file was applied.
        channel_order: of the array that the image was given as: "RGB" or "BGR".
        frame: number of the image in a video, from 0; None for an image.
        time: when it is shown in a video, in seconds from the start; None for an image.
        tracker_id: (D,) int64, the same for one object in all frames, -1 for objects that are not
            followed yet; None without a tracker.
        mask: (D, H, W) bool, the pixels of the objects in the image; None of models that predict
            boxes only. A (D, H, W) array is packed into :class:`~tood_runtime.masks.Masks`, which
            can be indexed like it and needs a fraction of its memory; ``np.asarray(mask)`` unpacks
            it.

    Raises:
        ValueError: a field has another type, shape or length.
    """

    xyxy: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int64]
    class_names: list[str]
    image_size: tuple[int, int]
    path: str | None = None
    apply_orientation: bool = True
    channel_order: str = "RGB"
    frame: int | None = None
    time: float | None = None
    tracker_id: npt.NDArray[np.int64] | None = None
    mask: Masks | None = None

    def __post_init__(self) -> None:
        _validate_array("xyxy", self.xyxy, np.float32, (None, 4))
        num = len(self.xyxy)
        _validate_array("confidence", self.confidence, np.float32, (num,))
        _validate_array("class_id", self.class_id, np.int64, (num,))
        if self.tracker_id is not None:
            _validate_array("tracker_id", self.tracker_id, np.int64, (num,))
        if num and self.class_id.min() < 0:
            raise ValueError(f"class_id must not be negative, got {self.class_id.min()}.")
        names = self.class_names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("class_names must be a list of str, one per detection.")
        if len(names) != num:
            raise ValueError(f"class_names has {len(names)} names for {num} detections.")
        _validate_image_size(self.image_size)
        if self.path is not None and not isinstance(self.path, str):
            raise ValueError(f"path must be a str or None, got {type(self.path).__name__}.")
        if self.mask is not None:
            object.__setattr__(self, "mask", _packed(self.mask, num, self.image_size))

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: Index) -> "Detections":
        """Select detections.

        Args:
            index: an int (which gives one detection), a slice, a sequence or array of ints, or a
                (D,) boolean mask, for example ``detections[detections.confidence > 0.5]``.

        Raises:
            IndexError: out of range, or a mask of another length.
        """
        rows = np.arange(len(self))
        if isinstance(index, slice):
            rows = rows[index]
        elif np.ndim(index) == 0:
            rows = rows[[operator.index(index)]]  # type: ignore[arg-type]
        else:
            chosen = np.asarray(index)
            rows = rows[chosen if chosen.size else chosen.astype(np.int64)]
        return replace(
            self,
            xyxy=self.xyxy[rows],
            confidence=self.confidence[rows],
            class_id=self.class_id[rows],
            class_names=[self.class_names[row] for row in rows],
            tracker_id=None if self.tracker_id is None else self.tracker_id[rows],
            mask=None if self.mask is None else self.mask[rows],
        )

    def __iter__(self) -> Iterator["Detections"]:
        return (self[i] for i in range(len(self)))

    def draw(self, image: ImageInput | None = None, scale: float | None = None) -> Image.Image:
        """Draw the detections on their image.

        Args:
            image: a path, a PIL image or a (H, W, 3) uint8 array in :attr:`channel_order`; by
                default the file that the detections come from.
            scale: size of the drawing relative to the image; by default small images are enlarged
                so that labels can be read.

        Returns:
            A new RGB image.

        Raises:
            ValueError: there is no image, or it has another size than the detections' image.
            ImageReadError: the image cannot be decoded.
        """
        return draw_detections(self._image_or_file(image, "draw"), self, scale)

    def crops(self, image: ImageInput | None = None, margin: float = 0.0) -> list[Image.Image]:
        """Cut the detections out of their image.

        Args:
            image: see :meth:`draw`.
            margin: added on each side, as a fraction of the box's width and height.

        Returns:
            One RGB image per detection, of at least one pixel. Boxes are rounded outward.

        Raises:
            ValueError: see :meth:`draw`, or a negative margin.
            ImageReadError: the image cannot be decoded.
        """
        if not margin >= 0:
            raise ValueError(f"margin must not be negative, got {margin}.")
        pixels = require_own_image(self._image_or_file(image, "crops"), self)
        height, width = self.image_size
        boxes = self.xyxy.astype(np.float64)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2) * margin
        boxes += sides * (-1, -1, 1, 1)
        low = np.floor(boxes[:, :2]).clip(0, (width - 1, height - 1)).astype(int)
        high = np.ceil(boxes[:, 2:]).clip(low + 1, (width, height)).astype(int)
        return [
            Image.fromarray(pixels[y1:y2, x1:x2])
            for (x1, y1), (x2, y2) in zip(low, high, strict=True)
        ]

    def _image_or_file(self, image: ImageInput | None, method: str) -> ImageInput:
        if image is not None:
            return image
        is_url = "://" in str(self.path)  # paths have no two slashes in a row
        if self.path is None or self.frame is not None or is_url:
            origin = "an array or a PIL image"
            if self.frame is not None or is_url:
                origin = "a video" if self.frame is not None else "a URL"
            raise ValueError(
                f"These detections come from {origin}, which they do not keep. Pass the image: "
                f"detections.{method}(image)."
            )
        return read_image(self.path, self.apply_orientation)

    def to_supervision(self) -> Any:
        """Convert to ``supervision.Detections``, with names in ``data["class_name"]``.

        Masks become a (D, H, W) array, which needs D bytes per pixel of the image.

        Raises:
            ImportError: supervision is not installed.
        """
        return conversions.to_supervision(self)

    def to_instances(self) -> dict[str, Any]:
        """Convert to what a detector of detectron2 returns for an image.

        Returns:
            ``{"instances": Instances}`` with pred_boxes, scores, pred_classes and, if there are
            masks, pred_masks on the CPU, which ``Visualizer`` and
            ``supervision.Detections.from_detectron2`` take.

        Raises:
            ImportError: PyTorch or detectron2 is not installed.
        """
        return conversions.to_instances(self)

    def to_dataframe(self) -> Any:
        """Convert to a ``pandas.DataFrame``, one row per detection.

        Columns: path, frame, time, tracker_id (the last three of videos), class_id, class_name,
        confidence, x1, y1, x2, y2, image_width, image_height (the last six in pixels). Masks add
        the column segmentation: COCO's RLE as the text of a JSON object.

        Raises:
            ImportError: pandas is not installed; or pycocotools is not, and there are masks.
        """
        return conversions.to_dataframe(self)

    def to_yolo(self, confidence: bool = True) -> str:
        """Convert to the lines of a YOLO label file, which hold boxes and no masks.

        Args:
            confidence: append it to each line, as in predictions; ground truth has none.

        Returns:
            One line per detection: class index, center x and y, width and height as fractions of
            the image's, and the confidence. Empty without detections.
        """
        return conversions.to_yolo(self, confidence)

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int | str]
    ) -> list[dict[str, Any]]:
        """Convert to COCO's result format.

        Args:
            image_id: the image's id.
            category_ids: category id of each class index.

        Returns:
            One dict per detection: image_id, category_id, bbox ([x, y, width, height] in pixels,
            rounded to 3 decimals) and score (rounded to 6); with masks also segmentation, COCO's
            compressed RLE.

        Raises:
            ValueError: a class index has no category id.
            ImportError: pycocotools is not installed, and there are masks.
        """
        if len(self) and self.class_id.max() >= len(category_ids):
            raise ValueError(
                f"class_id {self.class_id.max()} has no category id: category_ids has "
                f"{len(category_ids)} entries, one per class."
            )
        return conversions.to_coco(self, image_id, category_ids)


def _validate_array(
    name: str, array: object, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Check type and shape; None in ``shape`` is any length."""
    expected = f"({', '.join('D' if side is None else str(side) for side in shape)}"
    expected += ",)" if len(shape) == 1 else ")"
    expected = f"{name} must be a {expected} array of {np.dtype(dtype)}"
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{expected}, got {type(array).__name__}.")
    matches = array.ndim == len(shape) and all(
        side is None or side == actual for side, actual in zip(shape, array.shape, strict=True)
    )
    if not matches or array.dtype != dtype:
        raise ValueError(f"{expected}, got shape {array.shape} of {array.dtype}.")


def _packed(mask: object, num: int, image_size: tuple[int, int]) -> Masks:
    """Masks of a field, which may be an array."""
    expected = (num, *image_size)
    if not isinstance(mask, Masks):
        _validate_array("mask", mask, np.bool_, expected)
        return Masks.from_arrays(cast(npt.NDArray[np.bool_], mask), image_size)
    if mask.shape != expected:
        raise ValueError(f"mask must have the shape {expected}, got {mask.shape}.")
    return mask


def _validate_image_size(size: object) -> None:
    valid = isinstance(size, tuple) and len(size) == 2
    if not valid or not all(isinstance(side, int) and side > 0 for side in size):  # type: ignore
        raise ValueError(f"image_size must be (height, width), two positive ints, got {size!r}.")

"""Masks of the objects of one image. Shapes: **D** masks of **H** x **W** pixels."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .missing_packages import import_optional

Mask = npt.NDArray[np.bool_]
Window = tuple[int, int, int, int]
Rows = slice | Sequence[int] | npt.NDArray[Any]


class Masks:
    """(D, H, W) booleans in an eighth of the memory of the boxes around them.

    As an array, 100 masks of a 4000x3000 image are 1.2 GB, and several images are on their way
    through a program at a time. So each mask is kept as the bits of the window around its pixels:
    12 MB for 100 objects of 1000x1000 pixels. It behaves as the array where
    ``supervision.CompactMask`` does: ``shape``, ``dtype``, ``len``, iteration, indexing and
    ``np.asarray``. ``masks[3]`` is an (H, W) array, and ``masks[rows]`` are masks again.

    Args:
        windows: x1, y1, x2, y2 in pixels, of each mask.
        bits: of each window the pixels, row by row, as ``np.packbits`` gives them.
        image_size: (height, width) of the image.
    """

    ndim = 3
    dtype = np.dtype(np.bool_)

    def __init__(
        self,
        windows: Sequence[Window],
        bits: Sequence[npt.NDArray[np.uint8]],
        image_size: tuple[int, int],
    ) -> None:
        self.windows = list(windows)
        self.image_size = image_size
        self._bits = list(bits)

    @classmethod
    def from_arrays(cls, masks: Iterable[Mask], image_size: tuple[int, int]) -> "Masks":
        """Pack masks.

        Args:
            masks: (H, W) bool each, one by one or as a (D, H, W) array.
            image_size: (H, W).

        Raises:
            ValueError: a mask has another shape or type.
        """
        windows, bits = [], []
        for mask in masks:
            if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != image_size:
                found = getattr(mask, "shape", ""), getattr(mask, "dtype", type(mask).__name__)
                raise ValueError(
                    "mask must be a (D, H, W) array of bool, of the image's size "
                    f"{image_size}; one of its masks has the shape {found[0]} and type {found[1]}."
                )
            window = _window_of(mask)
            x1, y1, x2, y2 = window
            windows.append(window)
            bits.append(np.packbits(mask[y1:y2, x1:x2]))
        return cls(windows, bits, image_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return len(self), *self.image_size

    @property
    def area(self) -> npt.NDArray[np.int64]:
        """(D,) number of pixels."""
        return np.array([self.crop(i).sum() for i in range(len(self))], np.int64)

    def crop(self, index: int) -> Mask:
        """The pixels of a mask in its window, ``windows[index]``."""
        x1, y1, x2, y2 = self.windows[index]
        pixels = np.unpackbits(self._bits[index], count=(y2 - y1) * (x2 - x1))
        return pixels.view(np.bool_).reshape(y2 - y1, x2 - x1)

    def to_array(self) -> Mask:
        """All masks as a (D, H, W) array."""
        masks = np.zeros(self.shape, np.bool_)
        for index, (x1, y1, x2, y2) in enumerate(self.windows):
            masks[index, y1:y2, x1:x2] = self.crop(index)
        return masks

    def to_coco(self) -> list[dict[str, Any]]:
        """Convert to COCO's compressed RLE.

        Returns:
            Of each mask ``{"size": [H, W], "counts": str}``, which JSON can hold.

        Raises:
            ImportError: pycocotools is not installed.
        """
        if not len(self):
            return []
        mask_util = import_optional("pycocotools.mask", "Writing masks")
        height, width = self.image_size
        found = []
        for index in range(len(self)):
            counts = _run_lengths(self.crop(index), self.windows[index], self.image_size)
            rle = mask_util.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            found.append({"size": [height, width], "counts": rle["counts"].decode("ascii")})
        return found

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Mask]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: Rows) -> "Masks": ...
    def __getitem__(self, index: Any) -> Any:
        """Select masks.

        Args:
            index: an int, which gives an (H, W) array; or a slice, ints or (D,) booleans, which
                give masks. Anything else, such as a tuple, indexes the whole (D, H, W) array.

        Raises:
            IndexError: out of range, or booleans of another length.
        """
        if isinstance(index, tuple) or index is None or index is Ellipsis:
            return self.to_array()[index]
        rows = np.arange(len(self))[index]
        if np.ndim(rows) == 0:
            return Masks([self.windows[rows]], [self._bits[rows]], self.image_size).to_array()[0]
        return Masks(
            [self.windows[row] for row in rows], [self._bits[row] for row in rows], self.image_size
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("Masks are unpacked, so there is no array without a copy.")
        array = self.to_array()
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


def _window_of(mask: Mask) -> Window:
    """x1, y1, x2, y2 around the pixels of a mask (H, W); zeros where it has none."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        return 0, 0, 0, 0
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _run_lengths(crop: Mask, window: Window, image_size: tuple[int, int]) -> list[int]:
    """COCO's run lengths of a mask: down the columns of the image, zeros first."""
    height, width = image_size
    x1, y1, x2, y2 = window
    columns = np.zeros((x2 - x1, height), np.bool_)
    columns[:, y1:y2] = crop.T
    # Where the pixels change, with those outside of the window's columns, which are zeros.
    padded = np.concatenate([[False], columns.ravel(), [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1]) + x1 * height
    runs = np.diff(np.concatenate([[0], changes, [height * width]])).tolist()
    # The mask may end with the image's last pixel.
    return runs[:-1] if runs[-1] == 0 and len(runs) > 1 else runs

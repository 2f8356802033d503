"""One color per class: stable, and as distinct from all before it as colors can be."""

import functools

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Color = tuple[int, int, int]

# Candidates: 16 values of each channel, neither grayish nor too dark or too light for most images
# (lightness and chroma of OKLab).
_LEVELS = 16
_LIGHTNESS, _MIN_CHROMA = (0.5, 0.87), 0.08
_FIRST: Color = (238, 34, 34)

# Few models have more classes than the first number; all colors repeat after the second.
_SIZES = (100, 1500)


def class_color(index: int) -> Color:
    """Return the color of a class as (red, green, blue), 0 to 255.

    Each is the candidate that is farthest from those of all classes before it, so it depends on the
    index alone: the first 20 differ clearly, the first 80 can be told apart, and 1500 are distinct.
    """
    index %= _SIZES[-1]
    size = next(size for size in _SIZES if index < size)
    return _palette(size)[index]


@functools.cache
def _palette(size: int) -> list[Color]:
    """Choose candidates one by one, each with the largest distance to its nearest chosen one."""
    values = np.arange(_LEVELS) * 255 // (_LEVELS - 1)
    grid = np.stack(np.meshgrid(values, values, values, indexing="ij"), axis=-1).reshape(-1, 3)
    points = to_oklab(grid)
    chroma = np.hypot(points[:, 1], points[:, 2])
    lowest, highest = _LIGHTNESS
    usable = (points[:, 0] >= lowest) & (points[:, 0] <= highest) & (chroma >= _MIN_CHROMA)
    grid, points = grid[usable], points[usable]
    chosen = [int((grid == _FIRST).all(axis=1).argmax())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < size:
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return [(int(red), int(green), int(blue)) for red, green, blue in grid[chosen].tolist()]


def to_linear(rgb: npt.ArrayLike) -> FloatArray:
    """Linear light, 0 to 1, of sRGB values from 0 to 255."""
    c = np.asarray(rgb, dtype=np.float64) / 255
    linear: FloatArray = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear


def to_oklab(rgb: npt.ArrayLike) -> FloatArray:
    """Convert sRGB (N, 3) to OKLab, where distances are about those that one sees.

    Matrices from Björn Ottosson, "A perceptual color space for image processing" (2020).
    """
    cones = np.cbrt(to_linear(rgb) @ _RGB_TO_CONES.T)
    lab: FloatArray = cones @ _CONES_TO_LAB.T
    return lab


_RGB_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_CONES_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)

"""What an array must be like to be an image, and how to fix one that is not."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

RGBImage: TypeAlias = npt.NDArray[np.uint8]

_EXPECTED = "Expected a path, a PIL image or a (height, width, 3) uint8 array"


def require_image_array(image: object) -> RGBImage:
    """Return an array that is an image, as a plain NumPy array with the same memory.

    Any memory layout is taken: other strides, negative ones, read-only memory.

    Raises:
        TypeError: no array, or one of another dtype; the message says how to convert it.
        ValueError: another shape; likewise. Or the image is empty.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{_EXPECTED}, got {_describe(image)}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{_EXPECTED}, got an array of shape {image.shape}.{_shape_hint(image.shape)}"
        )
    if image.dtype != np.uint8:
        raise TypeError(f"{_EXPECTED}, got an array of {image.dtype}.{_dtype_hint(image)}")
    if isinstance(image, np.ma.MaskedArray):
        if np.ma.is_masked(image):
            raise TypeError(
                f"{_EXPECTED}, got a masked array. Fill its masked pixels: image.filled(0)."
            )
        image = image.data
    require_pixels(image)
    return np.asarray(image)


def require_pixels(image: RGBImage) -> None:
    """Raise a ValueError for an image without pixels."""
    if image.size == 0:
        raise ValueError(f"The image is empty: its shape is {image.shape}.")


def _describe(image: object) -> str:
    """What was given instead, and the fix."""
    if image is None:
        return "None, which cv2.imread returns for a file that it cannot read."
    name, hint = type(image).__name__, ""
    if isinstance(image, (bytes, bytearray, memoryview)):
        hint = " If it is an encoded image, open it: PIL.Image.open(io.BytesIO(data))."
    elif hasattr(image, "read"):
        hint = " Open it first: PIL.Image.open(file)."
    elif isinstance(image, (list, tuple)):
        hint = (
            " Give several images to predict, or the rows of one as an array: "
            "np.array(image, dtype=np.uint8)."
        )
    elif hasattr(image, "keys"):
        hint = " Pass the image in it."
    elif hasattr(image, "numpy"):  # a tensor, where only arrays are taken
        hint = " Convert it, with the channels at the end: image.permute(1, 2, 0).cpu().numpy()."
    return f"{name}.{hint}"


def _shape_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 4:
        return " Pass a batch to predict, as it is and not in a list."
    if len(shape) == 2:
        return " Repeat a gray image for the three channels: np.stack([image] * 3, axis=2)."
    if len(shape) != 3:
        return ""
    if shape[2] == 1:
        return " Repeat a gray image for the three channels: np.repeat(image, 3, axis=2)."
    if shape[2] == 2:
        return " Repeat the gray channel, without alpha: np.repeat(image[:, :, :1], 3, axis=2)."
    if shape[2] == 4:
        return " Drop the alpha channel: image[:, :, :3]."
    if shape[0] == 3:
        return " Move the channels to the end: image.transpose(1, 2, 0)."
    if shape[0] == 1:
        return " Repeat a gray image for the three channels: np.stack([image[0]] * 3, axis=2)."
    stack = "for a stack of gray images, pass np.stack([images] * 3, axis=3) to predict"
    if shape[0] == 4:
        return f" With alpha as the fourth channel: image[:3].transpose(1, 2, 0); {stack}."
    return f" It has {shape[2]} channels; {stack}."


def _dtype_hint(image: npt.NDArray[Any]) -> str:
    """How to get 8 bits, by the range that the values seem to have."""
    if image.dtype == bool:
        return " Scale it to 0..255: image.astype(np.uint8) * 255."
    if image.dtype.kind not in "fiu" or image.size == 0:
        return ""
    highest = image.max()
    if image.dtype.kind == "f":
        if highest <= 1:
            return " Scale 0..1 to 0..255: (image * 255).round().astype(np.uint8)."
        return " Convert values of 0..255: image.round().clip(0, 255).astype(np.uint8)."
    if highest <= 255:
        return " Convert values of 0..255: image.clip(0, 255).astype(np.uint8)."
    return " Of 16 bits, keep the high byte: (image >> 8).astype(np.uint8)."

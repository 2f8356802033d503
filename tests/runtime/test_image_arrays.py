"""Every array is an image, or is refused with what makes it one."""

import io

import numpy as np
import pytest

from tood_runtime.image_arrays import require_image_array
from tood_runtime.image_io import as_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


class Tensor:
    """Where there is no PyTorch to ask."""

    def numpy(self):
        return RGB


# The message ends with the fix.
REFUSED = {
    "gray": (RGB[:, :, 0], ValueError, "np.stack([image] * 3, axis=2)."),
    "gray, (H, W, 1)": (RGB[:, :, :1], ValueError, "np.repeat(image, 3, axis=2)."),
    "gray, (1, H, W)": (RGB[None, :, :, 0], ValueError, "np.stack([image[0]] * 3, axis=2)."),
    "stack of grays": (
        np.zeros((5, 6, 8), np.uint8),
        ValueError,
        "for a stack of gray images, pass np.stack([images] * 3, axis=3) to predict.",
    ),
    "gray and alpha": (RGB[:, :, :2], ValueError, "np.repeat(image[:, :, :1], 3, axis=2)."),
    "RGBA": (np.dstack([RGB, RGB[:, :, 0]]), ValueError, "image[:, :, :3]."),
    "channels first": (RGB.transpose(2, 0, 1), ValueError, "image.transpose(1, 2, 0)."),
    "RGBA, channels first": (
        np.zeros((4, 6, 8), np.uint8),
        ValueError,
        "image[:3].transpose(1, 2, 0); for a stack of gray images, pass np.stack([images] * 3, "
        "axis=3) to predict.",
    ),
    "batch": (RGB[None], ValueError, "Pass a batch to predict, as it is and not in a list."),
    "no dimension": (np.array(3, np.uint8), ValueError, "of shape ()."),
    "bytes of a file": (np.frombuffer(b"abc", np.uint8), ValueError, "of shape (3,)."),
    "empty": (RGB[:0], ValueError, "The image is empty: its shape is (0, 8, 3)."),
    "0..1": (RGB / 255, TypeError, "(image * 255).round().astype(np.uint8)."),
    "0..1 in float16": ((RGB / 255).astype(np.float16), TypeError, "0..255: (image * 255)."),
    "0..255 in float": (
        RGB.astype(float), TypeError, "image.round().clip(0, 255).astype(np.uint8)."
    ),
    "uint16": (RGB * np.uint16(257), TypeError, "high byte: (image >> 8).astype(np.uint8)."),
    "int64": (RGB.astype(int), TypeError, "image.clip(0, 255).astype(np.uint8)."),
    "bool": (RGB > 9, TypeError, "image.astype(np.uint8) * 255."),
    "complex": (RGB * 1j, TypeError, "an array of complex128."),
    "text": (RGB.astype(str).astype(object), TypeError, "an array of object."),
    "masked": (np.ma.masked_array(RGB, RGB > 9), TypeError, "image.filled(0)."),
    "None": (None, TypeError, "None, which cv2.imread returns for a file that it cannot read."),
    "list of lists": (RGB.tolist(), TypeError, "as an array: np.array(image, dtype=np.uint8)."),
    "tuple of images": ((RGB, RGB), TypeError, "got tuple. Give several images to predict, or the"),
    "bytes": (b"\x89PNG", TypeError, "open it: PIL.Image.open(io.BytesIO(data))."),
    "file": (io.BytesIO(), TypeError, "Open it first: PIL.Image.open(file)."),
    "dict": ({"image": RGB}, TypeError, "got dict. Pass the image in it."),
    "tensor": (Tensor(), TypeError, "image.permute(1, 2, 0).cpu().numpy()."),
    "number": (3, TypeError, "got int."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_fix(name):
    image, error, fix = REFUSED[name]
    with pytest.raises(error) as caught:
        as_rgb(image)
    message = str(caught.value)
    assert fix.rstrip(".") in message and "\n" not in message
    assert message.endswith(".") and not message.endswith("..")


@pytest.mark.parametrize(
    "name",
    ["gray", "gray, (H, W, 1)", "gray, (1, H, W)", "gray and alpha", "RGBA", "channels first",
     "RGBA, channels first", "0..1", "0..255 in float", "uint16", "int64", "bool", "masked",
     "list of lists"],
)  # fmt: skip
def test_the_fix_works(name):
    """The code in the message makes an image of the right values."""
    image, _, fix = REFUSED[name]
    code = fix.split(";")[0].rstrip(".")
    code = code.rpartition(": ")[2] if ": " in code and not code.startswith("image[") else code
    fixed = require_image_array(eval(code, {"np": np, "image": image}))
    assert fixed.dtype == np.uint8 and fixed.shape == (6, 8, 3)
    if name in ("RGBA", "channels first", "0..1", "0..255 in float", "uint16", "int64",
                "list of lists"):  # fmt: skip
        np.testing.assert_array_equal(fixed, RGB)


@pytest.mark.parametrize(
    "image",
    [RGB[::-1, :, ::-1], RGB[::2, ::2], np.asfortranarray(RGB), np.ma.masked_array(RGB),
     np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape), RGB.view(np.recarray),
     np.broadcast_to(RGB[:1, :1], RGB.shape), RGB.astype(">u1")],
    ids=["negative", "steps", "Fortran", "masked", "read-only", "subclass", "broadcast", "order"],
)  # fmt: skip
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_any_memory_layout(image, order):
    found = as_rgb(image, order)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, np.array(image)[:, :, :: 1 if order == "RGB" else -1])

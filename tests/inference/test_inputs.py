"""What a detector is given: the same detections from any form of an image, or the fix."""

import numpy as np
import pytest
import torch
from PIL import Image

from tood.inference.tensors import tensor_to_image


def forms_of(image: np.ndarray) -> dict[str, object]:
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    read_only = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    return {
        "negative strides": np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1],
        "steps": np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)[::2, ::2],
        "Fortran": np.asfortranarray(image),
        "read-only": read_only,
        "tensor": tensor,
        "channels-last tensor": torch.from_numpy(image).permute(2, 0, 1),
        "tensor with a gap": torch.cat([tensor, tensor], dim=2)[:, :, : image.shape[1]],
        "PIL": Image.fromarray(image),
        "PIL with alpha": Image.fromarray(image).convert("RGBA"),
    }


@pytest.mark.parametrize("form", forms_of(np.zeros((2, 2, 3), np.uint8)))
def test_same_detections_from_any_form(detector, image, assert_same, form):
    given = forms_of(image)[form]
    assert_same(detector(given), detector(image))
    (found,) = detector.predict([given])
    assert_same(found, detector(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "I;16", "CMYK", "YCbCr", "HSV"])
def test_modes_of_pillow(detector, image, assert_same, mode):
    """As Pillow converts them; of 16 bits the high byte."""
    gray = Image.fromarray(image).convert("L")
    if mode == "I;16":
        given, expected = Image.fromarray(np.array(gray).astype(np.uint16) << 8), gray
    elif mode == "PA":
        given = Image.fromarray(image).convert("P").convert("PA")
        expected = given
    else:
        given = expected = Image.fromarray(image).convert(mode)
    assert_same(detector(given), detector(np.array(expected.convert("RGB"))))


BYTES = torch.arange(90, dtype=torch.uint8).reshape(3, 5, 6)
REFUSED = {
    "gray": (BYTES[0], ValueError, "image.expand(3, -1, -1)."),
    "gray, (1, H, W)": (BYTES[:1], ValueError, "image.expand(3, -1, -1)."),
    "RGBA": (torch.cat([BYTES, BYTES[:1]]), ValueError, "as the fourth channel: image[:3]; for a "),
    "stack of grays": (
        torch.zeros(7, 5, 6, dtype=torch.uint8),
        ValueError,
        "pass images[:, None].expand(-1, 3, -1, -1) to predict.",
    ),
    "channels last": (BYTES.permute(1, 2, 0), ValueError, "image.permute(2, 0, 1)."),
    "batch": (BYTES[None], ValueError, "Pass a batch to predict, as it is and not in a list."),
    "number": (torch.tensor(3), ValueError, "got the shape ()."),
    "0..1": (BYTES / 255, TypeError, "(image * 255).round().byte()."),
    "half": ((BYTES / 255).half(), TypeError, "(image * 255).round().byte()."),
    "with a gradient": ((BYTES / 255).requires_grad_(), TypeError, "got float32. Scale 0..1"),
    "0..255 in float": (BYTES.float(), TypeError, "image.round().clamp(0, 255).byte()."),
    "int64": (BYTES.long(), TypeError, "image.clamp(0, 255).byte()."),
    "int32 of 16 bits": (BYTES.int() * 256, TypeError, "(image.int() >> 8).byte()."),
    "bool": (BYTES > 3, TypeError, "image.byte() * 255."),
    "meta": (BYTES.to("meta"), TypeError, "got a meta tensor. Pass a dense tensor with values."),
    "sparse": (BYTES.to_sparse(), TypeError, "got a sparse_coo tensor. Pass a dense tensor"),
    "complex": (BYTES * 1j, TypeError, "got complex64."),
    "empty": (BYTES[:, :0], ValueError, "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tensors_are_refused_with_the_fix(detector, name):
    image, error, fix = REFUSED[name]
    with pytest.raises(error) as caught:
        detector(image)
    assert fix.rstrip(".") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["gray", "gray, (1, H, W)", "channels last", "0..1", "half", "0..255 in float", "int64",
             "int32 of 16 bits", "bool"]
)  # fmt: skip
def test_the_fix_works(name):
    image, _, fix = REFUSED[name]
    fixed = tensor_to_image(eval(fix.rstrip("."), {"image": image}))
    assert fixed.dtype == np.uint8 and fixed.shape == (5, 6, 3)
    if "gray" not in name and name != "bool":
        np.testing.assert_array_equal(fixed, BYTES.permute(1, 2, 0))


@pytest.mark.parametrize(
    "source, shape",
    [
        (np.zeros((5, 40, 50), np.uint8), "(5, 40, 50)"),
        (torch.zeros(5, 40, 50, dtype=torch.uint8), "(5, 40, 50)"),
    ],
)
def test_stack_of_grays_as_a_source(detector, source, shape):
    """Three dimensions are one image to `predict`; with its advice the stack is a batch."""
    with pytest.raises(ValueError, match="for a stack of gray images, pass ") as caught:
        list(detector.predict(source))
    assert shape in str(caught.value)
    code = str(caught.value).rpartition("pass ")[2].removesuffix(" to predict.")
    batch = eval(code, {"np": np, "images": source})
    assert [x.image_size for x in detector.predict(batch, batch_size=5)] == [(40, 50)] * 5

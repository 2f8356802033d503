"""What a runtime has to offer, and the checks that all of them share.

Shapes: **N** images, **H, W** the batch's size with padding.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..image_io import printable_path
from ..model_info import ModelFileError, ModelInfo

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int64]
Outputs: TypeAlias = dict[str, npt.NDArray[Any]]

INPUT_NAMES = ("images", "image_sizes", "original_sizes")
OUTPUT_NAMES: Mapping[str, tuple[str, ...]] = {
    "detections": ("boxes", "scores", "labels", "num_dets"),
    "raw": ("boxes", "scores"),
}


class BackendError(ModelFileError):
    """A file cannot be run here: its runtime is missing or too old, or lacks a device or option."""


class Backend(Protocol):
    """An exported model that a runtime has loaded.

    Attributes:
        info: what the file says about its model.
        name: of the runtime.
    """

    @property
    def info(self) -> ModelInfo:
        """What the file says about its model."""

    @property
    def name(self) -> str:
        """Name of the runtime."""

    def run(self, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray) -> Outputs:
        """Run the model on a batch.

        Args:
            images: (N, C, H, W) float32, 0 to 255, of ``info.channels`` in ``info.channel_order``.
                Each image is in the top-left corner; what lies outside of it has no effect.
            image_sizes: (N, 2) int64, height and width of each image without padding.
            original_sizes: (N, 2) int64, height and width that boxes refer to. Files with raw
                output ignore it.

        Returns:
            Arrays by output name. "detections": ``boxes`` (N, D, 4) float32 in pixels of the
            original images, best first, ``scores`` (N, D), ``labels`` (N, D) int64 and ``num_dets``
            (N,) int64; from ``num_dets`` on boxes and scores are 0, and labels -1. "raw": ``boxes``
            (N, R, 4) in pixels of the network's input, not clipped, and ``scores`` (N, R, K).

        Raises:
            ValueError: an array has another type or shape, or a size that the file does not take.
            ModelFileError: the runtime fails.
        """


def find_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file that exists.

    Raises:
        ModelFileError: there is no such file, or it is a folder.
    """
    file = Path(path)
    if file.is_dir():
        raise ModelFileError(f"{printable_path(file)} is a folder. Name the model file in it.")
    if not file.is_file():
        raise ModelFileError(
            f"There is no model file {printable_path(file)}. Write one with: tood export"
        )
    return file


def check_names(path: Path, info: ModelInfo, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Check that a file has the inputs and outputs that its metadata promises.

    Raises:
        ModelFileError: it has others.
    """
    expected = OUTPUT_NAMES.get(info.output)
    if expected is None:
        raise ModelFileError(
            f"{printable_path(path)} has the unknown output {info.output!r} in its metadata. "
            f"Available: {', '.join(OUTPUT_NAMES)}. Export it again."
        )
    inputs, outputs = list(inputs), list(outputs)
    if "images" not in inputs or set(inputs) - set(INPUT_NAMES) or set(expected) - set(outputs):
        raise ModelFileError(
            f"{printable_path(path)} has the inputs {', '.join(inputs)} and the outputs "
            f"{', '.join(outputs)}, which do not belong to its metadata. Export it again."
        )


def read_info(path: Path, read: Callable[[], Mapping[str, str]]) -> ModelInfo:
    """Read the metadata of a file that a runtime has loaded.

    Raises:
        ModelFileError: they are missing or damaged.
    """
    try:
        texts = read()
    except Exception as error:  # such as bytes that are not UTF-8
        raise ModelFileError(
            f"{printable_path(path)} has damaged metadata ({one_line(error)}). Export it again."
        ) from error
    return ModelInfo.from_strings(texts, printable_path(path))


@contextmanager
def running(path: Path, runtime: str, index: int = 0) -> Iterator[None]:
    """Turn whatever a runtime raises while it runs a file into an error that names the file.

    Args:
        path: of the file.
        runtime: its name, for messages.
        index: which line of its messages has the reason.

    Raises:
        ModelFileError: the runtime fails.
    """
    try:
        yield
    except Exception as error:
        raise ModelFileError(
            f"{runtime} cannot run {printable_path(path)}: {one_line(error, index)}. Use smaller "
            "images or batches if there is too little memory; else export the model again."
        ) from error


def validate_inputs(
    info: ModelInfo, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray
) -> None:
    """Check the arrays that are given to :meth:`Backend.run`.

    Raises:
        ValueError: an array has another type or shape, or a size that the file does not take.
    """
    channels = info.channels
    _validate_array("images", images, np.float32, f"(N, {channels}, H, W)", 4)
    count, given_channels, height, width = images.shape
    if given_channels != channels or 0 in images.shape:
        raise ValueError(
            f"images must be a (N, {channels}, H, W) array with at least one image and one pixel, "
            f"got shape {images.shape}."
        )
    for name, fixed, given in (
        ("images", info.batch, count),
        ("pixels in height", info.height, height),
        ("pixels in width", info.width, width),
    ):
        if fixed is not None and fixed != given:
            raise ValueError(
                f"The file takes exactly {fixed} {name}, got {given}. Pad the batch to it, or "
                "export the model without --batch and --size."
            )
    for name, sizes in (("image_sizes", image_sizes), ("original_sizes", original_sizes)):
        _validate_array(name, sizes, np.int64, "(N, 2)", 2)
        if sizes.shape != (count, 2):
            raise ValueError(f"{name} must have shape ({count}, 2), got {sizes.shape}.")
        if sizes.min() < 1:
            raise ValueError(f"{name} must be positive, got {int(sizes.min())}.")
    if (image_sizes > (height, width)).any():
        largest = tuple(image_sizes.max(axis=0).tolist())
        raise ValueError(
            f"image_sizes are (height, width) without padding, at most {(height, width)}, the size "
            f"of the batch; got {largest}."
        )


def named_inputs(
    info: ModelInfo, images: FloatArray, image_sizes: IntArray, original_sizes: IntArray
) -> dict[str, npt.NDArray[Any]]:
    """The arrays that are given to :meth:`Backend.run`, by name.

    Raises:
        ValueError: see :func:`validate_inputs`.
    """
    validate_inputs(info, images, image_sizes, original_sizes)
    return dict(zip(INPUT_NAMES, (images, image_sizes, original_sizes), strict=True))


def _validate_array(name: str, array: object, dtype: type, shape: str, ndim: int) -> None:
    expected = f"{name} must be a {shape} array of {np.dtype(dtype)}"
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{expected}, got {type(array).__name__}.")
    if array.dtype != dtype:
        raise ValueError(f"{expected}, got {array.dtype}. Convert it with astype.")
    if array.ndim != ndim:
        raise ValueError(f"{expected}, got shape {array.shape}.")


def one_line(error: BaseException, index: int = 0) -> str:
    """One line of an error's message, by default the first, or its type where it has none.

    Some libraries quote the file; 500 characters are enough.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[index].rstrip(".")[:500] if lines else type(error).__name__

"""Calibration images: what the ranges of activations are measured on."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tood_runtime.image_io import ImageReadError, read_image
from tood_runtime.model_info import ModelInfo
from tood_runtime.preprocessing import prepare_batch

from ...errors import ExportError

logger = logging.getLogger(__name__)

Feed: TypeAlias = dict[str, npt.NDArray[np.generic]]

#: Below this, a warning says that ranges may be wrong.
FEW_IMAGES = 8


def select_images(paths: Sequence[str | os.PathLike[str]], count: int) -> list[Path]:
    """Choose images evenly from a list, the same ones each time.

    Args:
        paths: image files.
        count: how many; all of them if there are fewer.

    Raises:
        ExportError: there is no image, or ``count`` is less than 1.
    """
    if count < 1:
        raise ExportError(f"Calibration needs at least 1 image, but {count} were asked for.")
    if not paths:
        raise ExportError(
            "int8 needs images to calibrate with, like those that the model will see. Name a "
            "folder with 32 or more of them."
        )
    count = min(count, len(paths))
    if count < FEW_IMAGES:
        logger.warning(
            "Only %d image(s) for calibration: values that they do not show are cut off. Use 32 or "
            "more images like those that the model will see.",
            count,
        )
    return [Path(paths[i * len(paths) // count]) for i in range(count)]


class CalibrationBatches(Sequence[Feed]):
    """The network's inputs for calibration images, read when they are asked for.

    Args:
        paths: image files.
        info: of the model, whose preprocessing is applied.
        input_names: inputs of the file.

    Raises:
        ExportError: (when indexed) an image cannot be read.
    """

    def __init__(self, paths: Sequence[Path], info: ModelInfo, input_names: Sequence[str]) -> None:
        self._info, self._input_names = info, tuple(input_names)
        size = info.batch or 1
        self._groups = [paths[i : i + size] for i in range(0, len(paths), size)]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: Any) -> Any:
        try:
            images = [
                read_image(path, self._info.apply_exif_orientation) for path in self._groups[index]
            ]
        except ImageReadError as error:
            raise ExportError(f"{error} Remove it from the calibration images.") from error
        batch = prepare_batch(images, self._info)._asdict()
        return {name: batch[name] for name in self._input_names}

    def __iter__(self) -> Iterator[Feed]:
        return (self[i] for i in range(len(self)))

"""Folders with a file per image or object: YOLO labels and crops."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..image_detector import ImageDetector
from ..image_io import printable_path
from ..image_writing import save_image
from ..output_files import OutputError, make_output_folder
from ..sources import Input
from .base import Output, Result
from .naming import folder_name, frame_path, output_paths

logger = logging.getLogger(__name__)


class YoloFolder(Output):
    """A YOLO label file per image or frame, empty where nothing was found.

    Args:
        folder: for the files.
        inputs: everything that is detected in, so that each label file has a name of its own.

    Raises:
        SourceError: a label file would overwrite an input.
    """

    def __init__(self, folder: str, inputs: Sequence[Input]) -> None:
        self._paths = output_paths(
            [item.path for item in inputs], folder, lambda path: f"{path.stem}.txt"
        )
        self._folder = folder

    def open(self, detector: ImageDetector[Any]) -> None:
        """Create the folder."""
        make_output_folder(self._folder, "--yolo")
        if detector.predicts_masks:
            logger.warning("--yolo writes boxes only. --json, --csv and --parquet have the masks.")
        for path in self._paths:
            if path.is_file() and _is_ground_truth(path):
                raise OutputError(
                    f"{printable_path(path)} has labels without confidences, as ground truth has. "
                    "Choose another --yolo folder."
                )

    def add(self, result: Result) -> None:
        """Write the labels of an image."""
        path = frame_path(self._paths[result.index], result.found.frame)
        try:
            path.write_text(result.found.to_yolo(), encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"Cannot write {printable_path(path)}: {error.strerror}. Choose another folder."
            ) from error


def _is_ground_truth(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return len(file.readline().split()) == 5


class CropsFolder(Output):
    """An image of each object, in a folder for its class.

    Args:
        folder: for the folders.
        inputs: see :class:`YoloFolder`.
    """

    needs_pixels = True

    def __init__(self, folder: str, inputs: Sequence[Input]) -> None:
        self._folder = Path(folder)
        self._names = [
            path.stem
            for path in output_paths(
                [item.path for item in inputs], folder, lambda path: f"{path.stem}.jpg"
            )
        ]

    def open(self, detector: ImageDetector[Any]) -> None:
        """Create the folder."""
        make_output_folder(str(self._folder), "--crops")

    def add(self, result: Result) -> None:
        """Write the crops of an image."""
        assert result.pixels is not None
        stem = frame_path(Path(self._names[result.index]), result.found.frame).name
        crops = result.found.crops(result.pixels)
        for number, (crop, name) in enumerate(zip(crops, result.found.class_names, strict=True)):
            folder = self._folder / folder_name(name)
            folder.mkdir(exist_ok=True)
            save_image(crop, folder / f"{stem}_{number}.jpg")

"""What a detection program collects: COCO's results, drawings and a summary."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .detections import Detections
from .drawing import draw_detections
from .image_io import ImageWriteError, RGBImage, printable_path, save_image
from .output_files import write_json

logger = logging.getLogger(__name__)


@dataclass
class DetectionResults:
    """What was found so far.

    Attributes:
        category_ids: COCO category id of each class index.
        images: one COCO image record per image, in order.
        detections: COCO results of all images.
        counts: number of objects by class name.
        problems: one sentence for each file that could not be read or drawn.
    """

    category_ids: list[int | str]
    images: list[dict[str, Any]] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, path: Path, image_id: int, found: Detections) -> None:
        """Add the detections of one image."""
        height, width = found.image_size
        name = printable_path(path)
        self.images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        self.detections += found.to_coco(image_id, self.category_ids)
        self.counts.update(found.class_names)

    def draw(self, image: RGBImage, found: Detections, target: Path) -> None:
        """Write a drawing. A failure is recorded, not raised, so that no detections are lost."""
        try:
            save_image(draw_detections(image, found), target)
        except (ImageWriteError, MemoryError) as error:
            reason = str(error) or f"Not enough memory to draw {printable_path(target)}"
            self.problems.append(reason)

    def save_json(self, file: str) -> None:
        """Write the results in COCO's format, and next to them which image has which id.

        Raises:
            OutputError: a file cannot be written.
        """
        path = Path(file)
        index = path.with_name(f"{path.stem}_images.json")
        write_json(path, self.detections)
        write_json(index, self.images)
        logger.info("%d detections in %s; image ids in %s", len(self.detections), path, index)

    def log_summary(self, num_files: int, output: Path | None, score_threshold: float) -> None:
        """Log the problems and what was found.

        Args:
            num_files: how many files were to be read.
            output: folder of the drawings; None if there are none.
            score_threshold: that detections were found with.
        """
        for problem in self.problems:
            logger.warning("%s", problem)
        num_images, num_objects = len(self.images), sum(self.counts.values())
        by_class = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        logger.info(
            "%d objects in %d images%s.%s",
            num_objects,
            num_images,
            f" ({by_class})" if by_class else "",
            "" if output is None else f" Drawings: {output}",
        )
        if num_images < num_files:
            logger.warning("%d of %d files skipped.", num_files - num_images, num_files)
        if num_images and not num_objects:
            logger.warning(
                "Nothing scored above %g. Lower --score-threshold to see weaker detections.",
                score_threshold,
            )

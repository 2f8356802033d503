"""``tood detect`` and ``demo/demo.py``: detect objects in images, draw them, write the results."""

import argparse
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tood_runtime.cli.parser import EXIT_NOTHING_DONE, EXIT_OK
from tood_runtime.detections import Detections
from tood_runtime.drawing import draw_detections
from tood_runtime.image_io import (
    ImageReadError,
    ImageWriteError,
    RGBImage,
    printable_path,
    read_image,
    save_image,
)
from tood_runtime.sources import collect_images, make_image_ids, output_paths

from ..inference.detector import Detector
from .common import (
    load_model_config,
    make_output_folder,
    start_logging,
    validate_output_file,
    write_json,
)

logger = logging.getLogger(__name__)


@dataclass
class Results:
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


def main(args: argparse.Namespace) -> int:
    """Run detection on all images.

    Args:
        args: the options of ``tood detect``.

    Returns:
        0, or 1 if no image could be read.
    """
    start_logging()
    validate_output_file("--json", args.json)
    images = collect_images(args.inputs, args.output)
    targets = output_paths(images, args.output)
    cfg = load_model_config(args, exported=True)
    output = make_output_folder(args.output)
    detector = Detector.from_config(cfg)
    results = Results(detector.category_ids)
    work = list(zip(images, targets, make_image_ids(images), strict=True))
    try:
        for path, target, image_id in tqdm(work, unit="image"):
            try:
                image = read_image(path, cfg.INPUT.APPLY_EXIF_ORIENTATION)
            except ImageReadError as error:
                results.problems.append(str(error))
                continue
            found = detector(image, score_threshold=args.score_threshold)
            results.add(path, image_id, found)
            _draw(image, found, target, results)
    finally:  # whatever ends the loop, the results so far are kept
        if args.json is not None:
            _save_json(args.json, results)
        _log_summary(results, len(images), output, args.score_threshold)
    return EXIT_OK if results.images else EXIT_NOTHING_DONE


def _draw(image: RGBImage, found: Detections, target: Path, results: Results) -> None:
    """Write one drawing. A failure is recorded, not raised, so that no detections are lost."""
    try:
        save_image(draw_detections(image, found), target)
    except (ImageWriteError, MemoryError) as error:
        results.problems.append(str(error) or f"Not enough memory to draw {printable_path(target)}")


def _save_json(file: str, results: Results) -> None:
    """Write the results in COCO's format, and next to them which image has which id."""
    path = Path(file)
    index = path.with_name(f"{path.stem}_images.json")
    write_json(path, results.detections)
    write_json(index, results.images)
    logger.info("%d detections in %s; image ids in %s", len(results.detections), path, index)


def _log_summary(results: Results, num_files: int, output: Path, threshold: float) -> None:
    for problem in results.problems:
        logger.warning("%s", problem)
    num_images, num_objects = len(results.images), sum(results.counts.values())
    by_class = ", ".join(f"{count} {name}" for name, count in results.counts.most_common())
    logger.info(
        "%d objects in %d images%s. Drawings: %s",
        num_objects,
        num_images,
        f" ({by_class})" if by_class else "",
        output,
    )
    if num_images < num_files:
        logger.warning("%d of %d files skipped.", num_files - num_images, num_files)
    if num_images and not num_objects:
        logger.warning(
            "Nothing scored above %g. Lower --score-threshold to see weaker detections.",
            threshold,
        )

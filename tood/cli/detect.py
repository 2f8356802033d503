"""``tood detect`` and ``demo/demo.py``: detect objects in images, draw them, write the results."""

import argparse

from tqdm import tqdm

from tood_runtime.cli.common import detection_options
from tood_runtime.cli.parser import EXIT_NOTHING_DONE, EXIT_OK
from tood_runtime.detection_results import DetectionResults
from tood_runtime.detection_run import ImageFile, detect_files
from tood_runtime.output_files import make_output_folder, validate_output_file
from tood_runtime.sources import collect_images, make_image_ids, output_paths

from ..inference.detector import Detector
from .common import load_model_config, start_logging


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
    options = detection_options(args)
    detector.validate_options(**options)
    results = DetectionResults(detector.category_ids)
    files = map(ImageFile, images, targets, make_image_ids(images))
    try:
        with tqdm(total=len(images), unit="image") as bar:
            detect_files(detector, files, results, on_image=bar.update, **options)
    finally:  # whatever ends the loop, the results so far are kept
        if args.json is not None:
            results.save_json(args.json)
        results.log_summary(len(images), output, args.score_threshold)
    return EXIT_OK if results.images else EXIT_NOTHING_DONE

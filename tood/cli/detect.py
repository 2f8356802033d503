"""Detect objects in pictures and draw them.

demo/demo.py --config-file configs/TOOD-R50-1x.yaml --input *.jpg --output out/ \
    --opts MODEL.WEIGHTS <file or URL>
"""

import argparse
import glob
import json
import logging
import sys
from collections import Counter
from pathlib import Path

import tood  # noqa: F401  (before the others: it explains what is missing)

# isort: split
import cv2
import numpy as np
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from tood.config.loading import load_config
from tood.data.registration import class_info
from tood.errors import ConfigError, exit_on_user_error
from tood.inference.detector import Predictor, to_coco_results
from tood.inference.drawing import display_scale, draw_detections

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

logger = logging.getLogger("tood.demo")


def parse_args() -> argparse.Namespace:
    """The command line."""
    description, example = __doc__.split("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="the config of the model")
    parser.add_argument(
        "--input", nargs="+", required=True, help="pictures, folders of pictures, or glob patterns"
    )
    parser.add_argument("--output", required=True, help="folder for the drawn pictures")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        default=0.3,
        help="least score of a detection that is drawn or saved (default: 0.3)",
    )
    parser.add_argument("--save-json", metavar="FILE", help="also write COCO-format results")
    parser.add_argument(
        "--opts",
        nargs="*",
        default=[],
        help="config options, KEY VALUE ...: MODEL.WEIGHTS FILE at least",
    )
    args = parser.parse_args()
    if not 0 <= args.confidence_threshold <= 1:
        parser.error("--confidence-threshold must be between 0 and 1")
    return args


def collect_images(inputs: list[str], output: Path) -> list[Path]:
    """The files that the arguments of ``--input`` name, each once.

    What lies in the output folder is left out of searched folders and patterns: it was drawn by an
    earlier run.

    Raises:
        ConfigError: there is none.
    """
    found: dict[Path, None] = {}
    drawn = output.resolve()
    for name in inputs:
        path = Path(name)
        if path.is_file():
            found[path] = None
            continue
        if path.is_dir():
            files = [f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES]
        else:
            files = [f for f in map(Path, glob.glob(name, recursive=True)) if f.is_file()]
        files = sorted(f for f in files if drawn not in f.resolve().parents)
        if not files:
            logger.warning("%s: no such file, or no pictures there.", name)
        found.update(dict.fromkeys(files))
    if not found:
        raise ConfigError(
            "--input names no picture at all (what lies in the folder --output is not looked at)"
        )
    return list(found)


def output_paths(pictures: list[Path], folder: Path) -> list[Path]:
    """Where each drawn picture goes; pictures of one name from several folders stay apart.

    Raises:
        ConfigError: a drawn picture would take the place of its original.
    """
    names = [p.name if p.suffix.lower() in IMAGE_SUFFIXES else f"{p.name}.png" for p in pictures]
    counts = Counter(names)
    targets = [
        folder / (name if counts[name] == 1 else f"{picture.parent.name}_{i}_{name}")
        for i, (picture, name) in enumerate(zip(pictures, names, strict=True))
    ]
    originals = {picture.resolve() for picture in pictures}
    for target in targets:
        if target.resolve() in originals:
            raise ConfigError(f"--output would overwrite the picture {target}: name another folder")
    return targets


def make_image_ids(pictures: list[Path]) -> list[int]:
    """Ids for the results: the file names where all are numbers, as COCO's are, else 1, 2, ..."""
    stems = [picture.stem for picture in pictures]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return [int(stem) for stem in stems]
    return list(range(1, len(pictures) + 1))


def read_image(path: Path) -> np.ndarray | None:
    """BGR pixels, or None where the file is no picture that OpenCV can read."""
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None


def run() -> int:
    """Run the demo; the exit code is 1 if no picture could be processed."""
    args = parse_args()
    setup_logger(name="tood")
    setup_logger(name="fvcore")
    output = Path(args.output)
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file, and must be a folder")
    if args.save_json and Path(args.save_json).is_dir():
        raise ConfigError(f"--save-json {args.save_json} is a folder, and must be a file")
    pictures = collect_images(args.input, output)
    targets = output_paths(pictures, output)
    cfg = load_config(args.config_file, args.opts)
    # The model drops what the threshold does not want, so that it also counts in
    # TEST.DETECTIONS_PER_IMAGE.
    cfg.MODEL.TOOD.SCORE_THRESH_TEST = args.confidence_threshold
    predictor = Predictor(cfg)
    names, ids = class_info(cfg)

    output.mkdir(parents=True, exist_ok=True)
    results, images, skipped, drawn = [], [], [], 0
    work = zip(pictures, targets, make_image_ids(pictures), strict=True)
    for path, target, image_id in tqdm(list(work), unit="picture"):
        picture = read_image(path)
        if picture is None:
            skipped.append(path)
            continue
        instances = predictor(picture)
        if not cv2.imwrite(
            str(target), draw_detections(picture, instances, names, display_scale(picture))
        ):
            skipped.append(path)
            continue
        drawn += 1
        height, width = picture.shape[:2]
        images.append({"id": image_id, "file_name": str(path), "height": height, "width": width})
        results += to_coco_results(instances, image_id, ids)
    for path in skipped:
        logger.warning("Skipped %s: it cannot be read or written as a picture.", path)
    if args.save_json:
        save_json(Path(args.save_json), images, results)
    logger.info(
        "%d of %d pictures drawn into %s, %d skipped.", drawn, len(pictures), output, len(skipped)
    )
    return 0 if drawn else 1


def save_json(path: Path, images: list[dict], results: list[dict]) -> None:
    """Write the results in COCO's format, and beside them which image has which id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results), encoding="utf-8")
    index = path.with_name(f"{path.stem}_images.json")
    index.write_text(json.dumps(images), encoding="utf-8")
    logger.info("%d detections in %s; image ids in %s.", len(results), path, index)


def main() -> int:
    """Run the demo, with errors in one line."""
    with exit_on_user_error():
        return run()


if __name__ == "__main__":
    sys.exit(main())

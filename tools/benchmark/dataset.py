r"""CPU time and peak memory until a COCO dataset is read and its training loader is ready.

python -m tools.benchmark.dataset --images 200000 --boxes 2000000

The annotation file and the images, one-byte files of which only the names are looked at, are made
up in a temporary folder. Reading runs in a process of its own, so that writing does not count.
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tood  # noqa: F401  # imported first: reports missing dependencies

# isort: split
from tood.config.loading import load_config
from tood.data import build_train_loader, setup_datasets

NUM_CLASSES = 80
WIDTH, HEIGHT = 640, 480


def write_dataset(folder: Path, num_images: int, num_boxes: int, polygon_points: int) -> None:
    """Write ``annotations.json`` and a folder of images, with all fields that COCO has.

    Args:
        folder: where to.
        num_images: N.
        num_boxes: M, at random images.
        polygon_points: corners of the polygon of each box; 0 writes no segmentation.
    """
    rng = random.Random(0)
    images = folder / "images"
    images.mkdir()
    with (folder / "annotations.json").open("w") as file:
        file.write('{"images": [')
        for i in range(num_images):
            name = f"{i:012d}.jpg"
            (images / name).write_bytes(b"x")
            image = {
                "license": 1, "file_name": name, "coco_url": f"http://images.example.org/{name}",
                "height": HEIGHT, "width": WIDTH, "date_captured": "2013-11-14 17:02:52", "id": i,
            }  # fmt: skip
            file.write(f"{', ' if i else ''}{json.dumps(image)}")
        categories = [{"id": i + 1, "name": f"class {i}"} for i in range(NUM_CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}, "annotations": [')
        for i in range(num_boxes):
            box = [
                round(x, 2)
                for x in (
                    rng.uniform(0, WIDTH / 2), rng.uniform(0, HEIGHT / 2),
                    rng.uniform(2, WIDTH / 2), rng.uniform(2, HEIGHT / 2),
                )
            ]  # fmt: skip
            annotation: dict[str, Any] = {
                "area": round(box[2] * box[3] / 2, 4), "iscrowd": 0,
                "image_id": rng.randrange(num_images), "bbox": box,
                "category_id": rng.randrange(NUM_CLASSES) + 1, "id": i,
            }  # fmt: skip
            if polygon_points:
                points = [round(rng.uniform(2, HEIGHT), 2) for _ in range(2 * polygon_points)]
                annotation["segmentation"] = [points]
            file.write(f"{', ' if i else ''}{json.dumps(annotation)}")
        file.write("]}")


def measure(folder: str, results: Any) -> None:
    """Read the dataset, build the loader, and put seconds and GB into a queue."""
    opts = [
        "DATASETS.TRAIN_ANNOTATIONS", f"{folder}/annotations.json",
        "DATASETS.TRAIN_IMAGES", f"{folder}/images", "DATASETS.TEST", "()",
        "DATALOADER.NUM_WORKERS", "0",
    ]  # fmt: skip
    cfg = load_config("TOOD-R50-1x", opts)
    imported = _peak_gb()
    start, cpu = time.perf_counter(), time.process_time()
    setup_datasets(cfg, ("TRAIN",))
    read = time.perf_counter(), time.process_time()
    loader = build_train_loader(cfg)
    results.put(
        {
            "images": loader.num_images,
            "s to read": read[0] - start,
            "CPU s to read": read[1] - cpu,
            "s until the loader is ready": time.perf_counter() - start,
            "CPU s until the loader is ready": time.process_time() - cpu,
            "GB after importing": imported,
            "GB at the peak": _peak_gb(),
        }
    )


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: the command line; None for this process's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.dataset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--polygon-points", type=int, default=0, help="per box; 0 for no polygons")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), args.images, args.boxes, args.polygon_points)
        size = os.path.getsize(f"{folder}/annotations.json") / 1e6
        print(f"{args.boxes} boxes in {args.images} images, {size:.0f} MB of JSON")
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        process = context.Process(target=measure, args=(folder, results))
        process.start()
        while process.is_alive() and results.empty():
            process.join(0.2)
        if results.empty():
            raise SystemExit("Reading failed; see above.")
        for what, value in results.get().items():
            print(f"{what}: {value:.4g}")
        process.join()


if __name__ == "__main__":
    main()

"""Time COCO evaluation with faster-coco-eval and pycocotools, and compare all their numbers.

python -m tools.benchmark.coco_eval --images 5000      # the size of val2017; half a minute
"""

import argparse
import contextlib
import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def random_dataset(num_images: int) -> tuple[COCO, COCO]:
    """Ground truth and detections: 80 classes; per image about 7 objects and 60 detections.

    1 % of the objects are crowds, and half of the detections are near an object.
    """
    random = np.random.RandomState(0)
    images = [{"id": i + 1, "width": 640, "height": 480} for i in range(num_images)]
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in images:
        count = random.poisson(7)
        size = np.exp(random.uniform(np.log(8), np.log(400), (count, 2)))
        boxes = np.concatenate([random.rand(count, 2) * (450, 340), size], axis=1)
        classes = random.randint(1, 81, count)
        for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": image["id"], "bbox": box})
            annotations[-1] |= {"category_id": label, "area": box[2] * box[3]}
            annotations[-1]["iscrowd"] = int(random.rand() < 0.01)
        for _ in range(random.poisson(60)):
            box = np.concatenate([random.rand(2) * (640, 480), np.exp(random.uniform(2, 5, 2))])
            label = random.randint(1, 81)
            if count and random.rand() < 0.5:
                i = random.randint(count)
                box, label = boxes[i] + 0.1 * np.tile(size[i], 2) * random.randn(4), classes[i]
            detections.append({"image_id": image["id"], "category_id": int(label)})
            detections[-1] |= {"bbox": box.tolist(), "score": round(random.rand(), 3)}
    ground_truth = COCO()
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    ground_truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    ground_truth.createIndex()
    return ground_truth, ground_truth.loadRes(detections)


def evaluate(
    evaluator: type[COCOeval], ground_truth: COCO, detections: COCO
) -> tuple[np.ndarray, np.ndarray, float]:
    """The 12 summary metrics, all precisions, and the seconds that an evaluator takes."""
    start = time.perf_counter()
    evaluation = evaluator(ground_truth, detections, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    seconds = time.perf_counter() - start
    return np.array(evaluation.stats[:12]), evaluation.eval["precision"], seconds


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark.coco_eval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=5000)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print times and the largest difference.

    Args:
        argv: command line; None for that of the process.
    """
    args = make_parser().parse_args(argv)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth, detections = random_dataset(args.images)
        slow = evaluate(COCOeval, ground_truth, detections)
        fast = evaluate(COCOeval_faster, ground_truth, detections)
    difference = max(np.abs(a - b).max() for a, b in zip(slow[:2], fast[:2], strict=True))
    print(
        f"{args.images} images, {len(detections.anns)} detections: pycocotools {slow[2]:.1f} s, "
        f"faster-coco-eval {fast[2]:.1f} s, ratio {fast[2] / slow[2]:.2f}; AP {slow[0][0]:.4f}; "
        f"largest difference of any AP, AR or precision {difference:.0e}"
    )


if __name__ == "__main__":
    main()

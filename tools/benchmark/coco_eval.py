"""Time COCO evaluation by faster-coco-eval beside pycocotools, and compare every number.

tools/benchmark_evaluation.py --images 5000      # as many as val2017 has; half a minute
"""

import argparse
import contextlib
import io
import time

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def synthetic(num_images: int) -> tuple[COCO, COCO]:
    """Ground truth of 80 classes, 7 objects an image, 1 % crowds; and 60 detections an image."""
    random = np.random.RandomState(0)
    images = [{"id": i + 1, "width": 640, "height": 480} for i in range(num_images)]
    annotations, detections = [], []
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
    truth = COCO()
    categories = [{"id": i, "name": str(i)} for i in range(1, 81)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": categories}
    truth.createIndex()
    return truth, truth.loadRes(detections)


def main() -> None:
    """Evaluate by both, print times and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth, detections = synthetic(args.images)
    numbers, seconds = [], []
    for evaluator in (COCOeval, COCOeval_faster):
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            evaluation = evaluator(truth, detections, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            seconds.append(time.perf_counter() - start)
        numbers.append((np.array(evaluation.stats[:12]), evaluation.eval["precision"]))
    difference = max(np.abs(a - b).max() for a, b in zip(*numbers, strict=True))
    print(
        f"{args.images} images, {len(detections.anns)} detections: pycocotools {seconds[0]:.1f} s, "
        f"faster-coco-eval {seconds[1]:.1f} s, ratio {seconds[1] / seconds[0]:.2f}; AP "
        f"{numbers[0][0][0]:.4f}; largest difference of any AP, AR or precision {difference:.0e}"
    )


if __name__ == "__main__":
    main()

"""Post-processing of one image: selection of candidates, clipping and NMS."""

from collections.abc import Callable, Iterator

import torch

from tood.modeling.structures import DensePredictions
from tools import STRIDES, level_shapes
from tools.benchmark.cases.common import build_models
from tools.benchmark.harness import Case, Settings
from tools.reference.mmdet import MMDetTOOD

SIZE = (800, 1344)


def postprocessing_cases(settings: Settings) -> Iterator[Case]:
    """Few and very many candidates of one 800x1344 image."""
    model, reference = build_models("TOOD-R50-1x", settings)
    total = sum(rows * columns for rows, columns in level_shapes(*SIZE)) * model.num_classes
    for title, count in (("999", 999), ("1.6 million", 1_600_000)):
        predictions = random_predictions(count / total, settings.device)

        def candidate(predictions: DensePredictions = predictions) -> object:
            return model.detect(predictions, [SIZE], score_thresh=0.05)

        yield Case(
            f"post-processing, {title} candidates",
            candidate,
            None if reference is None else _mmdet_postprocessing(reference, predictions),
            bytes=4 * total,
        )


def random_predictions(share: float, device: str) -> DensePredictions:
    """Predictions of one image, 80 classes, of which a share scores above 0.05.

    Boxes have sides of 2 to 8 strides and are centered on their points.
    """
    scores, boxes = [], []
    for (rows, columns), stride in zip(level_shapes(*SIZE), STRIDES, strict=True):
        values = torch.rand(1, 80, rows, columns, device=device)
        scores.append(torch.where(values < share, 0.05 + 0.9 * torch.rand_like(values), 0.01))
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        center = torch.stack([x, y]).float().to(device)
        side = 1 + 3 * torch.rand_like(center)
        boxes.append(stride * torch.cat([center - side, center + side])[None])
    return DensePredictions(scores, boxes)


def _mmdet_postprocessing(
    reference: MMDetTOOD, predictions: DensePredictions
) -> Callable[[], object]:
    boxes = [level / stride for level, stride in zip(predictions.boxes, STRIDES, strict=True)]
    metas = [{"img_shape": SIZE, "scale_factor": (1, 1)}]
    return lambda: reference.head.predict_by_feat(predictions.scores, boxes, batch_img_metas=metas)

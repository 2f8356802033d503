"""Post-processing of a fixed size against the model's own."""

import pytest
import torch
from torchvision.ops import batched_nms

from tood.export.nms import nms_mask
from tood.export.postprocessing import BatchDetections, finalize, select_candidates
from tood.modeling import postprocessing as eager

SIZES = ((6, 8), (3, 4), (1, 1))


def random_levels(num_images=2, num_classes=4, spread=60.0):
    """Scores, boxes and centerness of three levels."""
    scores = [torch.rand(num_images, num_classes, *size) ** 3 for size in SIZES]
    boxes = []
    for size in SIZES:
        corner = torch.rand(num_images, 2, *size) * spread - 10
        boxes.append(torch.cat([corner, corner + torch.rand(num_images, 2, *size) * 30], dim=1))
    return scores, boxes, [torch.rand(num_images, 1, *size) for size in SIZES]


def rows(level, index):
    return level[index].flatten(1).t()


@pytest.mark.parametrize("with_centerness", [False, True])
@pytest.mark.parametrize("topk", [5, 1000])
def test_detections_are_the_models(with_centerness, topk):
    scores, boxes, centerness = random_levels()
    image_sizes, original_sizes = [(40, 60), (50, 33)], [(80, 61), (25, 99)]
    parts = zip(scores, boxes, centerness, strict=True)
    levels = [
        select_candidates(s, b, c if with_centerness else None, 0.1, topk) for s, b, c in parts
    ]
    found = finalize(
        levels, torch.tensor(image_sizes), torch.tensor(original_sizes),
        nms_thresh=0.5, max_detections=20, num_classes=4, nms_form="portable",
    )  # fmt: skip
    assert found.scores.shape == (2, min(20, 3 * topk))
    for i, (size, original) in enumerate(zip(image_sizes, original_sizes, strict=True)):
        expected = eager.postprocess_single_image(
            [rows(s, i) for s in scores], [rows(b, i) for b in boxes],
            [rows(c, i) for c in centerness] if with_centerness else None,
            score_thresh=0.1, topk_candidates=topk, nms_thresh=0.5, max_detections=20,
            image_size=size,
        )  # fmt: skip
        count = len(expected.scores)
        assert 5 < count <= 20
        scale = torch.tensor([original[1] / size[1], original[0] / size[0]] * 2)
        assert (found.scores[i, count:] == -1).all()
        torch.testing.assert_close(found.scores[i, :count], expected.scores)
        torch.testing.assert_close(found.boxes[i, :count], expected.boxes * scale)
        assert torch.equal(found.classes[i, :count], expected.classes)


def test_nothing_above_the_threshold():
    scores, boxes, _ = random_levels()
    levels = [select_candidates(s, b, None, 1.0, 7) for s, b in zip(scores, boxes, strict=True)]
    sizes = torch.tensor([[40, 60], [50, 33]])
    found = finalize(
        levels, sizes, sizes, nms_thresh=0.5, max_detections=-1, num_classes=4, nms_form="portable"
    )
    assert found.scores.shape == (2, 21) and (found.scores == -1).all()


def test_empty_boxes_and_values_that_are_not_numbers():
    """Boxes that are empty, outside of the image or NaN, and NaN scores, are no detections."""
    boxes = torch.tensor([[5.0, 5, 9, 9], [7, 7, 7, 9], [90, 5, 99, 9], [9, 9, 5, 5], [0, 0, 9, 9]])
    boxes[4, 2] = torch.nan
    boxes = torch.cat([boxes, torch.tensor([[20.0, 20, 30, 30]])])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, torch.nan])
    level = select_candidates(
        scores.reshape(1, 1, 1, 6), boxes.t().reshape(1, 4, 1, 6), None, 0.1, 6
    )
    sizes = torch.tensor([[40, 60]])
    found = finalize(
        [level], sizes, sizes, nms_thresh=0.5, max_detections=3, num_classes=1, nms_form="portable"
    )
    torch.testing.assert_close(found.scores[0], torch.tensor([0.9, -1.0, -1.0]))
    assert found.boxes[0, 0].tolist() == [5, 5, 9, 9]


def test_box_that_vanishes_in_the_original_image_is_dropped_after_the_limit():
    """As detectron2's detector_postprocess: the next best does not take its place."""
    # 1e-45 is the smallest float32, so half of this width is 0.
    boxes = torch.tensor([[[0.0, 0, 1e-45, 9], [5, 5, 9, 9], [20, 20, 29, 29]]])
    level = BatchDetections(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0, 0, 0]]))
    found = finalize(
        [level], torch.tensor([[40, 60]]), torch.tensor([[20, 30]]),
        nms_thresh=0.5, max_detections=2, num_classes=1, nms_form="portable",
    )  # fmt: skip
    torch.testing.assert_close(found.scores, torch.tensor([[0.8, -1.0]]))


@pytest.mark.parametrize("num_images", [1, 3])
def test_nms_of_a_batch_is_that_of_each_image(num_images):
    corner = torch.rand(num_images, 60, 2) * 40 - 20
    boxes = torch.cat([corner, corner + 5 + torch.rand(num_images, 60, 2) * 20], dim=2)
    scores, classes = torch.rand(num_images, 60), torch.randint(0, 3, (num_images, 60))
    scores[:, ::7] = -1
    scores[-1] = -1 if num_images > 1 else scores[-1]
    mask = nms_mask(boxes, scores, classes, 0.4, 3, "portable")
    for i in range(num_images):
        valid = scores[i] > 0
        idxs = valid.nonzero().squeeze(1)
        keep = batched_nms(boxes[i][valid], scores[i][valid], classes[i][valid], 0.4)
        assert torch.equal(mask[i].nonzero().squeeze(1), idxs[keep].sort().values)
    assert 0 < mask.sum() < (scores > 0).sum()

"""Sizes after resizing as detectron2's transforms give them, and points as assigners need them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import transform_instance_annotations
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from tests.data.builders import make_dataset
from tood.data.model_input import (
    ModelInput,
    PointGrid,
    contains_point,
    resized_boxes,
    resized_sizes,
)
from tood.data.transforms import ResizeShortestEdge
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner
from tood.modeling.structures import AnchorGrid, AssignerInput

STRIDES = (8, 16, 32, 64, 128)


def assigner_input(height: int, width: int, offset: float) -> AssignerInput:
    """The points of one image padded to 32, as the model makes them."""
    generator = DefaultAnchorGenerator(
        sizes=[[8.0 * s] for s in STRIDES],
        aspect_ratios=[[1.0]],
        strides=list(STRIDES),
        offset=offset,
    )
    padded = [-(-side // 32) * 32 for side in (height, width)]
    shapes = [tuple(-(-side // stride) for side in padded) for stride in STRIDES]
    maps = [torch.zeros(1, 1, *shape) for shape in shapes]
    anchors = [boxes.tensor for boxes in generator(maps)]
    grid = AnchorGrid.from_levels(anchors, shapes, list(STRIDES))
    inside, counts = grid.indices_inside(*padded)
    assert len(inside) == len(grid.anchors)
    assert counts == [len(level) for level in anchors]
    return AssignerInput.from_anchors(anchors, STRIDES)


@pytest.mark.parametrize("size", [(9000, 3), (3, 9000), (3000, 1), (640, 480)])
def test_sizes_are_those_of_the_augmentations(size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    transform = ResizeShortestEdge([120], 200, "choice").get_transform(image)
    heights, widths = resized_sizes([height], [width], 120, 200)
    assert (heights[0], widths[0]) == (transform.new_h, transform.new_w)
    assert (min(size) > 3) or min(heights[0], widths[0]) == 1


@pytest.mark.parametrize("flip", ["none", "horizontal", "vertical"])
@pytest.mark.parametrize("offset, min_gt_size", [(0.0, 0.0), (0.5, 0.0), (0.0, 6.0)])
def test_points_are_those_of_the_assigners(flip, offset, min_gt_size):
    rng = np.random.default_rng(0)
    grid = PointGrid(STRIDES, tuple(8.0 * s for s in STRIDES), offset, 32, min_gt_size)
    found = []
    for _ in range(20):
        width, height = (int(x) for x in rng.integers(60, 160, 2))
        x, y = rng.uniform(0, width - 2), rng.uniform(0, height - 2)
        box = (x, y, *rng.uniform(1, 14, 2))
        if rng.random() < 0.3:  # edges on points, and on the edge of the image
            box = tuple(float(round(v / 4) * 4 + (0 if i < 2 else 4)) for i, v in enumerate(box))
        dataset = make_dataset([(0, 0, *box)], size=(width, height))

        steps = [T.ResizeShortestEdge([120], 200, "choice")]
        if flip != "none":
            kinds = {"horizontal": flip == "horizontal", "vertical": flip == "vertical"}
            steps.append(T.RandomFlip(1.0, **kinds))
        image, transforms = T.apply_transform_gens(steps, np.zeros((height, width, 3), np.uint8))
        annotation = dict(dataset.record(0)["annotations"][0])
        expected = transform_instance_annotations(annotation, transforms, image.shape[:2])["bbox"]
        heights, widths = resized_sizes(dataset.heights, dataset.widths, 120, 200)
        assert (heights[0], widths[0]) == image.shape[:2]
        boxes = resized_boxes(dataset, heights, widths, flip)
        np.testing.assert_array_equal(boxes[0], expected.astype(np.float32))

        inputs = assigner_input(*image.shape[:2], offset)
        gt = torch.from_numpy(boxes)
        classes = torch.zeros(1, dtype=torch.int64)
        num_points = len(inputs.centers)
        # Predictions that are right everywhere: what is inside becomes positive.
        perfect = replace(inputs, scores=torch.ones(num_points, 1), boxes=gt.repeat(num_points, 1))
        tal = TaskAlignedAssigner(topk=num_points, min_gt_size=min_gt_size)
        positive = bool((tal.assign(perfect, gt, classes).matched_idxs >= 0).any())
        found.append(positive)
        assert contains_point(boxes, heights, widths, grid).tolist() == [positive]
        atss = ATSSAssigner().assign(inputs, gt, classes)
        if min_gt_size == 0 and (atss.matched_idxs >= 0).any():
            assert positive
    assert 3 < sum(found) < 18  # both happen


def test_points_in_a_box_by_hand():
    grid = PointGrid((8, 16), (64.0, 128.0), 0.0, 1)
    side = np.array([100])

    def contains(*box: float) -> bool:
        return bool(contains_point(np.array([box], np.float32), side, side, grid)[0])

    assert contains(7.9, 7.9, 8.1, 8.1)
    assert not contains(8.0, 7.9, 8.1, 8.1)  # on the edge
    assert not contains(7.995, 7.9, 8.1, 8.1)  # 0.005 px inside
    assert not contains(8.1, 8.1, 15.9, 15.9)
    assert not contains(8.1, 1, 15.9, 99)  # between two columns
    assert contains(95, 95, 100, 100)  # 96 is the last point
    assert not contains(96.5, 95, 100, 100)


def test_extended_boxes_reach_points_in_the_padding():
    """A box at the right edge, extended to 6 px: 99.5 to 105.5 contains 104."""
    box = np.array([[102, 7.5, 103, 8.5]], np.float32)
    height, width = np.array([100]), np.array([103])
    for divisor, expected in ((32, True), (1, False)):
        grid = PointGrid((8,), (64.0,), 0.0, divisor, min_gt_size=6)
        assert contains_point(box, height, width, grid).tolist() == [expected]


def test_resized_sizes_follow_detectron2():
    rng = np.random.default_rng(0)
    heights, widths = rng.integers(1, 3000, (2, 300))
    for min_size, max_size in ((800, 1333), (480, 640), (0, 100)):
        new_heights, new_widths = resized_sizes(heights, widths, min_size, max_size)
        step = T.ResizeShortestEdge([min_size], max_size, "choice")
        for h, w, nh, nw in zip(heights, widths, new_heights, new_widths, strict=True):
            transform = step.get_transform(np.empty((h, w, 3), np.uint8))
            size = getattr(transform, "new_h", h), getattr(transform, "new_w", w)
            assert (nh, nw) == size


def test_from_config(tiny_cfg):
    tiny_cfg.INPUT.MIN_SIZE_TRAIN = (480, 640)
    model_input = ModelInput.from_config(tiny_cfg)
    assert model_input.train_sizes == (480, 640)
    assert model_input.grid.strides == STRIDES
    assert model_input.grid.size_divisor == 32
    tiny_cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    assert ModelInput.from_config(tiny_cfg).train_sizes[:2] == (480, 496)
    tiny_cfg.MODEL.TOOD.ASSIGNERS.TAL.MIN_GT_SIZE = 4.0
    assert ModelInput.from_config(tiny_cfg).grid.min_gt_size == 4
    tiny_cfg.MODEL.TOOD.ASSIGNERS.TAL.MIN_POSITIVES = 1
    assert ModelInput.from_config(tiny_cfg).grid is None

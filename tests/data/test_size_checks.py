"""Sizes of objects as a model sees them, against numbers computed by hand."""

import numpy as np

from tests.data.builders import make_dataset
from tood.data.model_input import ModelInput, PointGrid
from tood.data.size_checks import check_sizes, summarize_sizes

GRID = PointGrid((8, 16, 32), (64.0, 128.0, 256.0), 0.0, 32)
# Images of 640x480 become 320x240 in evaluation; training uses that and 640x480.
MODEL_INPUT = ModelInput(
    train_sizes=(240, 480),
    max_train_size=800,
    test_size=240,
    max_test_size=400,
    flip="horizontal",
    grid=GRID,
)


def kinds(dataset, is_train=True, model_input=MODEL_INPUT) -> dict[str, int]:
    return {f.kind.name: f.count for f in check_sizes(dataset, model_input, is_train)}


def test_summary():
    boxes = [
        (0, 0, 0, 0, 40, 40),  # 20 px at 240: small
        (0, 0, 100, 100, 128, 128),  # 64 px: medium, the anchors of stride 8
        (0, 0, 100, 100, 280, 256),  # 140x128 px: large, stride 16
        (0, 0, 0, 0, 640, 480),  # 320x240 px: large, stride 32
        (0, 0, 1, 1, 0.5, 30),  # training skips it
        (0, 0, 1, 1, 60, 60),  # crowd
    ]
    dataset = make_dataset(boxes, is_crowd=[False] * 5 + [True])
    assert dataset.is_object.tolist() == [True] * 4 + [False] * 2
    [summary] = summarize_sizes(dataset, MODEL_INPUT, is_train=False)
    assert (summary.name, summary.num_objects) == ("240 px", 4)
    assert (summary.small, summary.medium, summary.large) == (1, 1, 2)
    assert summary.per_level == {8: 2, 16: 1, 32: 1}
    np.testing.assert_allclose(summary.percentiles[3], (64 + (140 * 128) ** 0.5) / 2)
    assert summary.without_point == 0
    train = summarize_sizes(dataset, MODEL_INPUT, is_train=True)
    assert [s.name for s in train] == ["240 px", "480 px"]
    assert (train[1].small, train[1].medium, train[1].large) == (0, 1, 3)


def test_objects_without_an_anchor_point():
    boxes = [
        (0, 0, 17, 17, 6, 6),  # 8.5 to 11.5 at 240, 17 to 23 at 480: never; nor flipped
        (0, 0, 15, 15, 3, 3),  # contains 16 at 480
        (0, 0, 18, 18, 12, 12),  # 9 to 15 at 240, but contains 24 at 480
    ]
    dataset = make_dataset(boxes)
    assert kinds(dataset) == {"no-anchor-point": 1}
    summaries = summarize_sizes(dataset, MODEL_INPUT, is_train=True)
    # 7.5 to 9 contains 8; of 9 to 15 there is nothing.
    assert [s.without_point for s in summaries] == [2, 1]
    [finding] = check_sizes(dataset, MODEL_INPUT, True)
    assert finding.examples == ("a [17, 17, 6, 6] in 0.jpg (6.0x6.0 after resizing)",)
    assert kinds(dataset, is_train=False) == {}
    assert kinds(dataset, model_input=ModelInput(grid=None)) == {}


def test_flipped_images_count():
    # 644 is 4 more than a multiple of 8: 17 to 22 becomes 622 to 627, with 624 in it.
    dataset = make_dataset([(0, 0, 17, 15, 5, 5)], size=(644, 480))
    fixed = ModelInput(train_sizes=(480,), max_train_size=800, flip="none", grid=GRID)
    assert kinds(dataset, model_input=fixed) == {"no-anchor-point": 1}
    flipped = ModelInput(train_sizes=(480,), max_train_size=800, grid=GRID)
    assert kinds(dataset, model_input=flipped) == {}
    [summary] = summarize_sizes(dataset, flipped, is_train=True)
    assert (summary.without_point, summary.without_point_flipped) == (1, 0)


def test_min_gt_size_reaches_small_objects():
    grid = PointGrid((8,), (64.0,), 0.0, 32, min_gt_size=9)
    dataset = make_dataset([(0, 0, 17, 17, 6, 6)])
    model_input = ModelInput(train_sizes=(480,), max_train_size=800, grid=grid)
    assert kinds(dataset, model_input=model_input) == {}


def test_extreme_aspect_ratios():
    boxes = [(0, 0, 0, 0, 300, 1)]
    # One pixel high after resizing, so the edge lies on the only row of points.
    assert kinds(make_dataset(boxes, size=(3000, 1))) == {"no-anchor-point": 1}
    # 640x480 at 240: half a pixel high; at 480 it is a pixel.
    assert "thin-boxes" not in kinds(make_dataset([(0, 0, 0, 0, 300, 1)]))
    assert kinds(make_dataset(boxes), is_train=False) == {"thin-boxes": 1}


def test_images_with_many_objects():
    boxes = [(0, 0, 16 * i, 10, 40, 40) for i in range(6)] + [(1, 0, 10, 10, 40, 40)] * 6
    crowd = [False] * 6 + [True] * 6
    dataset = make_dataset(boxes, num_images=2, is_crowd=crowd)
    for most, expected in ((5, {"many-objects": 1}), (6, {}), (-1, {})):
        model_input = ModelInput(detections_per_image=most)
        assert kinds(dataset, False, model_input) == expected

"""The views of an image, from the config and from the test loader."""

import numpy as np
import pytest
import torch

from tood.data.mapper import DetectionMapper
from tood.data.views import TestViews, with_views
from tood_runtime.image_writing import save_image


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 200, 3)).astype(np.uint8)


def test_sizes_and_mirror_images(tiny_cfg, pixels):
    node = tiny_cfg.TEST.AUG
    node.MIN_SIZES, node.MAX_SIZE, node.FLIP = (60, 90, 0), 4000, True
    views = TestViews.from_config(tiny_cfg)(pixels)
    assert [x.shape for x, _ in views[::2]] == [(60, 100, 3), (90, 150, 3), (120, 200, 3)]
    assert [flipped for _, flipped in views] == [False, True] * 3
    for (plain, _), (mirrored, _) in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    np.testing.assert_array_equal(views[4][0], pixels)
    node.FLIP = False
    assert [flipped for _, flipped in TestViews.from_config(tiny_cfg)(pixels)] == [False] * 3


def test_equal_sizes_are_one_view(pixels):
    """The longer side limits both."""
    views = TestViews([100, 400, 800], 150, flip=False)(pixels)
    assert [x.shape for x, _ in views] == [(90, 150, 3)]


def test_test_images_have_views_of_their_original_size(tiny_cfg, pixels, tmp_path):
    """Resized once, not from the image that is resized already."""
    save_image(pixels, tmp_path / "1.png")
    tiny_cfg.INPUT.MIN_SIZE_TEST, tiny_cfg.INPUT.FORMAT = 30, "BGR"
    record = {"file_name": str(tmp_path / "1.png"), "height": 120, "width": 200}
    mapper = DetectionMapper(tiny_cfg, is_train=False, views=TestViews([30, 120], 4000, True))
    x = mapper(record)
    plain = DetectionMapper(tiny_cfg, is_train=False)(record)
    assert "views" not in plain and torch.equal(x["image"], plain["image"])
    views = x["views"]
    assert [view["flipped"] for view in views] == [False, True, False, True]
    assert torch.equal(views[0]["image"], plain["image"])  # the same size is the same view
    assert torch.equal(views[1]["image"], plain["image"].flip(-1))
    expected = torch.from_numpy(pixels[:, :, ::-1].transpose(2, 0, 1).copy())  # BGR
    assert torch.equal(views[2]["image"], expected) and views[2]["image"].dtype == torch.uint8


def test_views_of_an_input_that_is_resized(pixels):
    x = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "image_id": 3}
    added = with_views(x, TestViews([60], 4000, False))
    assert "views" not in x and added["image_id"] == 3 and added["image"] is x["image"]
    assert [view["image"].shape for view in added["views"]] == [(3, 60, 100)]

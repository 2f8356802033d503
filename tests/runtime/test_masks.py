"""Masks, packed and unpacked, and what detections do with them."""

import json
import pickle

import numpy as np
import pytest
from pycocotools import mask as mask_util

from tests.runtime.test_detections import make
from tood_runtime import missing_packages
from tood_runtime.dataset.rows import COLUMNS, detection_row, to_coco
from tood_runtime.masks import Masks
from tood_runtime.nms import Candidates, concatenate

SIZE = (50, 60)


def random_masks(num: int = 4, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Pixels all over the image, in a corner, nowhere, and in the last column."""
    rng = np.random.default_rng(0)
    masks = rng.random((num, *size)) < 0.5
    for mask, part in zip(masks, ("all", "corner", "none", "last"), strict=False):
        if part == "corner":
            mask[10:] = mask[:, 7:] = False
        elif part == "none":
            mask[:] = False
        elif part == "last":
            mask[:, :-1], mask[:, -1] = False, True
    return masks


@pytest.fixture
def arrays() -> np.ndarray:
    return random_masks()


@pytest.fixture
def masks(arrays) -> Masks:
    return Masks.from_arrays(arrays, SIZE)


# ---- The class -------------------------------------------------------------------------------


def test_they_are_the_array(arrays, masks):
    assert (masks.shape, masks.ndim, masks.dtype, len(masks)) == ((4, 50, 60), 3, bool, 4)
    np.testing.assert_array_equal(masks, arrays)
    np.testing.assert_array_equal(masks.to_array(), arrays)
    np.testing.assert_array_equal(np.asarray(masks, np.float32), arrays.astype(np.float32))
    np.testing.assert_array_equal(masks.area, arrays.sum(axis=(1, 2)))
    np.testing.assert_array_equal(np.stack(list(masks)), arrays)
    np.testing.assert_array_equal(~arrays & masks, np.zeros_like(arrays))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(masks)), arrays)
    with pytest.raises(ValueError, match="no array without a copy"):
        masks.__array__(copy=False)  # as NumPy 2 calls it


def test_windows_are_around_the_pixels(masks):
    mask = np.zeros(SIZE, bool)
    mask[3, 5] = mask[9, 20] = True
    packed = Masks.from_arrays([mask, ~mask & False], SIZE)
    assert packed.windows == [(5, 3, 21, 10), (0, 0, 0, 0)]
    assert packed.crop(0).shape == (7, 16) and packed.crop(0).sum() == 2
    assert packed.crop(1).shape == (0, 0)


def test_they_are_small():
    """100 objects of 100x100 pixels in a large image: 1250 bytes each, instead of 12 MB."""
    masks = np.zeros((1, 3000, 4000), bool)
    masks[0, 100:200, 300:400] = True
    packed = Masks.from_arrays(np.broadcast_to(masks, (100, 3000, 4000)), (3000, 4000))
    assert len(pickle.dumps(packed)) < 100 * 1500
    assert packed.shape == (100, 3000, 4000) and packed.area.tolist() == [10000] * 100


@pytest.mark.parametrize("index", [0, -1, np.int64(3)])
def test_an_int_gives_an_array(arrays, masks, index):
    assert isinstance(masks[index], np.ndarray)
    np.testing.assert_array_equal(masks[index], arrays[index])


@pytest.mark.parametrize(
    "index", [slice(1, 3), slice(None, None, -1), [2, 0], np.array([True, False, True, False]), []]
)
def test_rows_give_masks(arrays, masks, index):
    chosen = masks[index]
    assert isinstance(chosen, Masks) and len(chosen) == len(np.arange(4)[index])
    np.testing.assert_array_equal(chosen, arrays[np.arange(4)[index]])


def test_anything_else_indexes_the_array(arrays, masks):
    np.testing.assert_array_equal(masks[:, 3:5, 7], arrays[:, 3:5, 7])
    for index in (4, [9], np.zeros(3, bool)):
        with pytest.raises(IndexError):
            masks[index]


@pytest.mark.parametrize("size", [(50, 60), (1, 1), (1, 9), (9, 1)])
def test_rle_is_pycocotools_own(size):
    arrays = random_masks(4, size)
    arrays[3] = True
    found = Masks.from_arrays(arrays, size).to_coco()
    for rle, mask in zip(found, arrays, strict=True):
        expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle == {"size": list(size), "counts": expected["counts"].decode()}
    json.dumps(found)


def test_missing_pycocotools_is_named(monkeypatch, masks):
    def import_module(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(missing_packages, "import_module", import_module)
    assert Masks([], [], SIZE).to_coco() == []
    with pytest.raises(ImportError, match="Writing masks needs the package pycocotools.*Install"):
        masks.to_coco()


def test_candidates_keep_their_masks(arrays, masks):
    boxes = np.zeros((4, 4), np.float32)
    found = Candidates(boxes, np.ones(4, np.float32), np.arange(4), masks)
    np.testing.assert_array_equal(found.take(np.array([3, 1])).masks, arrays[[3, 1]])
    with pytest.raises(ValueError, match="without masks"):
        concatenate([found, found])


# ---- Detections ------------------------------------------------------------------------------


def test_detections_take_an_array_or_masks(arrays, masks):
    for given in (arrays, masks):
        found = make(mask=given)
        assert isinstance(found.mask, Masks)
        np.testing.assert_array_equal(found.mask, arrays)
    assert make().mask is None


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.zeros((3, 50, 60), bool), r"mask must be a \(4, 50, 60\) array of bool"),
        (np.zeros((4, 60, 50), bool), "got shape .4, 60, 50. of bool"),
        (np.zeros((4, 50, 60), np.uint8), "of uint8"),
        ([[1]], "got list"),
        (Masks.from_arrays(np.zeros((4, 60, 50), bool), (60, 50)), "shape .*, got .4, 60, 50"),
        (Masks.from_arrays(np.zeros((3, 50, 60), bool), SIZE), "shape .*, got .3, 50, 60"),
    ],
)
def test_other_masks_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        make(mask=mask)


def test_masks_follow_their_detections(arrays):
    found = make(mask=arrays)
    np.testing.assert_array_equal(found[[2, 0]].mask, arrays[[2, 0]])
    np.testing.assert_array_equal(found[found.class_id == 0].mask, arrays[[0, 3]])
    for one, mask in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(one.mask, mask[None])
    assert found[[]].mask.shape == (0, 50, 60) == make(0, mask=arrays[:0]).mask.shape


def test_coco_results(arrays):
    results = make(mask=arrays).to_coco(1, [7, 8, 9])
    masks = mask_util.decode([result["segmentation"] for result in results])
    np.testing.assert_array_equal(np.moveaxis(masks, 2, 0), arrays)
    assert "segmentation" not in make().to_coco(1, [7, 8, 9])[0]


def test_rows_of_a_data_set(arrays):
    found = make(mask=arrays)
    rows = [detection_row("a", 1, found), detection_row("b", 2, make())]
    assert all(tuple(row) == COLUMNS for row in rows)
    expected = found.to_coco(1, [7, 8, 9]) + make().to_coco(2, [7, 8, 9])
    assert to_coco(rows, [7, 8, 9]) == expected


@pytest.mark.parametrize("num", [0, 4])
def test_dataframe(num):
    pytest.importorskip("pandas")
    table = make(num, mask=random_masks(num)).to_dataframe()
    assert table.columns[-1] == "segmentation" and len(table) == num
    for text, mask in zip(table["segmentation"], random_masks(num), strict=True):
        np.testing.assert_array_equal(mask_util.decode(json.loads(text)), mask)


@pytest.mark.parametrize("num", [0, 4])
def test_instances(num):
    from detectron2.utils.visualizer import Visualizer

    instances = make(num, mask=random_masks(num)).to_instances()["instances"]
    np.testing.assert_array_equal(instances.pred_masks.numpy(), random_masks(num))
    Visualizer(np.zeros((50, 60, 3), np.uint8)).draw_instance_predictions(instances)


@pytest.mark.parametrize("num", [0, 4])
def test_supervision(num):
    supervision = pytest.importorskip("supervision")
    converted = make(num, mask=random_masks(num)).to_supervision()
    np.testing.assert_array_equal(converted.mask, random_masks(num))
    image = np.zeros((50, 60, 3), np.uint8)
    supervision.MaskAnnotator().annotate(image, converted)

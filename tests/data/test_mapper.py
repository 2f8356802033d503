"""The mapper returns what detectron2's does; its errors name the image and the fix."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from PIL import Image

from tests.data.builders import make_dataset
from tood.data import build_test_loader, build_train_loader, setup_datasets
from tood.data.mapper import BadImageError, DetectionMapper, ErrorContextMapper
from tood.errors import ConfigError, DataError


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.INPUT.MIN_SIZE_TRAIN, tiny_cfg.INPUT.MAX_SIZE_TRAIN = (40, 50, 60), 90
    tiny_cfg.INPUT.MIN_SIZE_TEST = 45
    return tiny_cfg


@pytest.fixture
def record(tmp_path):
    """A photo-like JPEG of 100x64 pixels; box 1 is a crowd, box 2 ends outside, with masks."""
    y, x = np.mgrid[:64, :100]
    pixels = np.stack([2 * x, 3 * y, x + y], axis=2) + np.random.default_rng(0).integers(
        0, 30, (64, 100, 3)
    )
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "x.jpg", quality=92)
    boxes = [(0, 0, 10, 10, 30, 20), (0, 1, 0, 0, 90, 60), (0, 2, 80, 40, 40, 15)]
    masks = [[[x, y, x + w, y, x + w, y + h]] for *_, x, y, w, h in boxes]
    dataset = make_dataset(
        boxes,
        (100, 64),
        file_names=[str(tmp_path / "x.jpg")],
        is_crowd=[False, True, False],
        segmentations=masks,
    )
    return dataset.record(0)


def assert_same(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    assert ours["image"].dtype == theirs["image"].dtype
    assert torch.equal(ours["image"], theirs["image"])
    for key in ("file_name", "image_id", "height", "width"):
        assert ours[key] == theirs[key]
    if "instances" in ours:
        a, b = ours["instances"], theirs["instances"]
        assert a.image_size == b.image_size and set(a.get_fields()) == set(b.get_fields())
        assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
        assert torch.equal(a.gt_classes, b.gt_classes)
        if a.has("gt_masks"):
            for ours_mask, theirs_mask in zip(a.gt_masks, b.gt_masks, strict=True):
                np.testing.assert_array_equal(np.asarray(ours_mask), np.asarray(theirs_mask))


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L", "YUV-BT.601"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"INPUT.CROP.ENABLED": True, "INPUT.RANDOM_FLIP": "vertical"},
        {"MODEL.MASK_ON": True},
        {"MODEL.MASK_ON": True, "INPUT.CROP.ENABLED": True},
        {"MODEL.MASK_ON": True, "INPUT.MASK_FORMAT": "bitmask"},
    ],
)
def test_same_as_detectron2s(cfg, record, image_format, keys):
    if "MODEL.MASK_ON" in keys and "INPUT.CROP.ENABLED" in keys:
        pytest.importorskip("shapely", reason="fvcore crops polygons with it")
    cfg.merge_from_list([x for pair in keys.items() for x in pair])
    cfg.INPUT.FORMAT = image_format
    for is_train in (True, False):
        results = []
        for build in (DetectionMapper, DatasetMapper):
            mapper = build(cfg, is_train)
            np.random.seed(4)
            results.append([mapper(record) for _ in range(4)])
        for ours, theirs in zip(*results, strict=True):
            assert_same(ours, theirs)
    assert len(record["annotations"]) == 3  # not changed


def test_what_the_model_gets(cfg, record):
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.FORMAT = (0,), "none", "BGR"
    mapped = DetectionMapper(cfg, is_train=True)(record)
    expected = np.asarray(Image.open(record["file_name"]))[:, :, ::-1]
    np.testing.assert_array_equal(mapped["image"].numpy(), expected.transpose(2, 0, 1))
    assert mapped["image"].dtype == torch.uint8
    boxes = mapped["instances"].gt_boxes.tensor.tolist()
    assert boxes == [[10, 10, 40, 30], [80, 40, 100, 55]]  # no crowd, clipped
    assert mapped["instances"].gt_classes.tolist() == [0, 2]
    assert not mapped["instances"].has("gt_masks") and "annotations" not in mapped


@pytest.mark.parametrize("lsj", [False, True])
def test_crowds_on_request(cfg, record, lsj):
    """They are transformed like boxes, and change nothing else."""
    cfg.INPUT.LSJ.ENABLED, cfg.INPUT.LSJ.SIZE, cfg.INPUT.LSJ.MAX_SCALE = lsj, (64, 64), 1.0
    cfg.INPUT.LSJ.MIN_SCALE = 0.5
    np.random.seed(4)
    expected = [DetectionMapper(cfg, is_train=True)(record) for _ in range(3)]
    np.random.seed(4)
    mapper = DetectionMapper(cfg, is_train=True, with_crowds=True)
    for plain in expected:
        mapped = mapper(record)
        crowds = mapped.pop("crowds")
        assert_same(mapped, plain)
        assert crowds.gt_classes.tolist() == [1]
        (crowd,), box = crowds.gt_boxes.tensor.tolist(), mapped["instances"].gt_boxes.tensor[0]
        assert (crowd[2] - crowd[0]) / (box[2] - box[0]) == pytest.approx(90 / 30, rel=0.1)


def test_padding_is_in_no_box(cfg, record):
    """Box 2 ends outside of its image: it must not reach into the gray next to it."""
    lsj = cfg.INPUT.LSJ
    cfg.INPUT.RANDOM_FLIP = "none"
    lsj.ENABLED, lsj.SIZE, lsj.MIN_SCALE, lsj.MAX_SCALE = True, (96, 96), 0.5, 0.5
    mapped = DetectionMapper(cfg, is_train=True)(record)
    assert mapped["image"].shape == (3, 96, 96)
    # 100x64 fits 48x48 at 0.48.
    boxes = mapped["instances"].gt_boxes.tensor
    expected = np.array([80, 40, 100, 55]) * ([0.48, 0.484] * 2)
    np.testing.assert_allclose(boxes[1], expected, atol=0.2)
    assert mapped["image"][:, 31:].min() == mapped["image"][:, :, 48:].max() == 128
    # Nor what a crop has cut off: both boxes are wider than it.
    record["annotations"][0]["bbox"] = [0, 0, 100, 64]
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, "relative"
    cfg.INPUT.CROP.SIZE = [0.5, 0.5]
    mapper = DetectionMapper(cfg, is_train=True)
    for _ in range(5):
        mapped = mapper(record)
        assert mapped["instances"].gt_boxes.tensor[0].tolist() == [0, 0, 48, 31]
        assert mapped["image"][:, 31:].min() == mapped["image"][:, :, 48:].max() == 128


def test_16_bits_and_gray(cfg, record, tmp_path):
    """Training and evaluation see what detection sees: the high byte."""
    ramp = np.linspace(0, 65535, 100 * 64).reshape(64, 100).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    cfg.INPUT.MIN_SIZE_TEST = cfg.INPUT.MIN_SIZE_TEST * 0
    record["file_name"] = str(tmp_path / "x.png")
    image = DetectionMapper(cfg, is_train=False)(record)["image"].numpy()
    np.testing.assert_array_equal(image, np.stack([ramp >> 8] * 3))
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "x.tif")
    record["file_name"] = str(tmp_path / "x.tif")
    with pytest.raises(BadImageError, match=r"x\.tif: its pixels are floating-point"):
        ErrorContextMapper(DetectionMapper(cfg, is_train=False))(record)


def test_long_images_keep_a_pixel(cfg, record, tmp_path):
    Image.new("RGB", (3, 9000)).save(tmp_path / "x.png")
    record.update(file_name=str(tmp_path / "x.png"), width=3, height=9000)
    for is_train in (True, False):
        image = DetectionMapper(cfg, is_train)(record)["image"]
        assert image.shape[2] == 1 and image.shape[1] <= 1333


def test_what_datasets_do_not_hold(cfg):
    cfg.MODEL.LOAD_PROPOSALS = True
    with pytest.raises(ConfigError, match=r"MODEL\.LOAD_PROPOSALS is not supported"):
        DetectionMapper(cfg, is_train=True)
    cfg.MODEL.LOAD_PROPOSALS, cfg.MODEL.META_ARCHITECTURE = False, "PanopticFPN"
    with pytest.raises(ConfigError, match=r"PanopticFPN, which learns from a segmentation"):
        DetectionMapper(cfg, is_train=True)
    DetectionMapper(cfg, is_train=False)


# ---- orientation -----------------------------------------------------------------------------


def turned_photo(tmp_path, width: int, height: int):
    """Stored as 100x64 with a white square at (60, 10); upright it has 64x100 pixels."""
    pixels = np.zeros((64, 100, 3), np.uint8)
    pixels[10:40, 60:90] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    return make_dataset(
        [(0, 0, 60, 10, 30, 30)], (width, height), file_names=[str(tmp_path / "x.jpg")]
    ).record(0)


def test_boxes_on_the_stored_pixels(cfg, tmp_path):
    """The error says what is the matter; its advice trains on the boxes as they were drawn."""
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "none"
    record = turned_photo(tmp_path, 100, 64)
    with pytest.raises(BadImageError, match=r"x\.jpg has 64x100 pixels.*100x64.*stored") as error:
        DetectionMapper(cfg, is_train=True)(record)
    assert "INPUT.APPLY_EXIF_ORIENTATION False" in str(error.value)
    cfg.INPUT.APPLY_EXIF_ORIENTATION = False
    mapped = DetectionMapper(cfg, is_train=True)(record)
    x1, y1, x2, y2 = mapped["instances"].gt_boxes.tensor[0].int().tolist()
    assert mapped["image"][:, y1:y2, x1:x2].float().mean() > 250


def test_boxes_on_the_upright_pixels(cfg, tmp_path):
    record = turned_photo(tmp_path, 64, 100)
    assert DetectionMapper(cfg, is_train=False)(record)["image"].shape[2] == 45
    cfg.INPUT.APPLY_EXIF_ORIENTATION = False
    with pytest.raises(BadImageError, match="upright .*INPUT.APPLY_EXIF_ORIENTATION True"):
        DetectionMapper(cfg, is_train=False)(record)


@pytest.mark.parametrize("size", [(64, 101), (200, 64)])
def test_sizes_that_no_orientation_explains(cfg, tmp_path, size):
    record = turned_photo(tmp_path, *size)
    with pytest.raises(BadImageError, match=rf"64x100 pixels, but .*{size[0]}x{size[1]}") as error:
        DetectionMapper(cfg, is_train=True)(record)
    assert "EXIF" not in str(error.value) and "Correct its width" in str(error.value)


def test_swapped_sides_without_a_tag(cfg, record):
    record.update(width=64, height=100)
    with pytest.raises(BadImageError, match="has 100x64 pixels") as error:
        DetectionMapper(cfg, is_train=True)(record)
    assert "EXIF" not in str(error.value)


# ---- through the loaders ---------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not an image", b"P6 9", None])
def test_unreadable_image(shapes_cfg, shapes, tmp_path, content):
    """None: a PNG that breaks off in the middle."""
    images = tmp_path / "images"
    images.mkdir()
    for path in (shapes / "images").glob("*.png"):
        data = path.read_bytes()
        (images / path.name).write_bytes(data[: len(data) // 2] if content is None else content)
    shapes_cfg.DATASETS.TRAIN_IMAGES = shapes_cfg.DATASETS.TEST_IMAGES = str(images)
    setup_datasets(shapes_cfg)
    for loader in (
        build_train_loader(shapes_cfg),
        build_test_loader(shapes_cfg, shapes_cfg.DATASETS.TEST[0]),
    ):
        with pytest.raises(DataError, match=r"Cannot read the image .*\.png: .*Replace it") as e:
            next(iter(loader))
        assert "\n" not in str(e.value)


def test_too_many_pixels(shapes_cfg, shapes, tmp_path):
    """An orthophoto: Pillow's error is no OSError."""
    Image.new("1", (20000, 10000)).save(tmp_path / "slide.png")
    record = make_dataset(
        [(0, 0, 5, 5, 9, 9)], (20000, 10000), file_names=[str(tmp_path / "slide.png")]
    ).record(0)
    mapper = ErrorContextMapper(DetectionMapper(shapes_cfg, is_train=False))
    with pytest.raises(DataError, match=r"slide\.png: it has too many pixels; cut it"):
        mapper(record)


# ---- mappers of your own ---------------------------------------------------------------------


def test_detectron2s_mapper_has_the_same_errors(cfg, record, tmp_path):
    mapper = ErrorContextMapper(DatasetMapper(cfg, True))
    with pytest.raises(BadImageError, match=r"x\.jpg differs from the annotations"):
        mapper({**record, "width": 99})
    (tmp_path / "x.jpg").write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"x\.jpg cannot be read"):
        mapper(record)


def test_other_errors_pass_through():
    def fail(record):
        raise KeyError("a bug in your own mapper")

    with pytest.raises(KeyError, match="a bug"):
        ErrorContextMapper(fail)({"file_name": "x.png"})

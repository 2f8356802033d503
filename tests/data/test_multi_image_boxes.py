"""Boxes and pixels of mosaics and mix-up, from the files to what the model gets."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.builders import make_dataset
from tests.data.test_batches import take
from tood.data import build_train_loader
from tood.data.mapper import DetectionMapper


def colored(tmp_path, sizes, crowds=()):
    """Gray images, each with one rectangle of its own color; returns the dataset and the colors."""
    names, boxes, colors = [], [], []
    for index, (width, height) in enumerate(sizes):
        pixels = np.full((height, width, 3), 128, np.uint8)
        color = [255 * (index + 1 >> bit & 1) for bit in range(3)]
        x, y, w, h = width // 5, height // 4, width // 2, height // 2
        pixels[y : y + h, x : x + w] = color
        names.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(pixels).save(names[-1])
        boxes.append((index, index % 3, x, y, w, h))
        colors.append(color)
    dataset = make_dataset(
        boxes,
        num_images=len(sizes),
        file_names=names,
        widths=[size[0] for size in sizes],
        heights=[size[1] for size in sizes],
        is_crowd=[index in crowds for index in range(len(sizes))],
    )
    return dataset, colors


def batches_of(cfg, dataset, monkeypatch, count: int) -> list:
    monkeypatch.setattr("tood.data.loaders.load_dataset", lambda name: dataset)
    cfg.DATASETS.TRAIN = ("a set",)
    loader = build_train_loader(cfg, DetectionMapper(cfg, is_train=True, with_crowds=True))
    return [sample for batch in itertools.islice(loader, count) for sample in batch]


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("lsj", [False, True])
def test_boxes_are_where_their_pixels_are(loader_cfg, tmp_path, monkeypatch, crop, lsj):
    """Through reading, cropping, resizing, flipping and the mosaic, to a pixel."""
    cfg = loader_cfg
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (80, 120), 200
    cfg.INPUT.MOSAIC.ENABLED, cfg.INPUT.MOSAIC.PROB, cfg.INPUT.MOSAIC.MIN_VISIBLE = True, 1.0, 0.0
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = crop, [0.7, 0.7]
    cfg.INPUT.LSJ.ENABLED, cfg.INPUT.LSJ.SIZE = lsj, (110, 150)
    cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE = 0.6, 1.5
    dataset, colors = colored(
        tmp_path, [(90, 60), (60, 90), (64, 64), (100, 70), (50, 80), (80, 50)]
    )
    found = 0
    for sample in batches_of(cfg, dataset, monkeypatch, 12):
        image, instances = sample["image"].numpy(), sample["instances"]
        for box in instances.gt_boxes.tensor.tolist():
            assert box[0] >= 0 and box[1] >= 0
            assert box[2] <= image.shape[2] and box[3] <= image.shape[1]
            x1, y1, x2, y2 = (round(value) for value in box)
            inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].astype(int)
            if not inside.size:
                continue
            # BGR, one of the colors, up to what resizing blurs.
            distances = [np.abs(inside - np.array(c[::-1])[:, None, None]).max() for c in colors]
            assert min(distances) < 40
            color = np.array(colors[int(np.argmin(distances))][::-1])[:, None, None]
            around = np.pad(image.astype(int), ((0, 0), (4, 4), (4, 4)), constant_values=128)
            for edge in (
                around[:, y1 + 1, x1 + 4 : x2 + 4],
                around[:, y2 + 6, x1 + 4 : x2 + 4],
                around[:, y1 + 4 : y2 + 4, x1 + 1],
                around[:, y1 + 4 : y2 + 4, x2 + 6],
            ):
                # Not the box's color any more, three pixels away.
                assert (np.abs(edge[:, :, None] - color).max(0) > 40).mean() > 0.7
            found += 1
    assert found > 40


def test_crowds_are_carried_along(loader_cfg, tmp_path, monkeypatch):
    cfg = loader_cfg
    cfg.INPUT.MOSAIC.ENABLED, cfg.INPUT.MOSAIC.PROB = True, 1.0
    cfg.INPUT.MIXUP.ENABLED, cfg.INPUT.MIXUP.PROB = True, 0.5
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    dataset, _ = colored(tmp_path, [(60, 40)] * 6, crowds=(0, 2, 4))  # of classes 0, 2, 1
    dataset = dataset.select_boxes(np.array([True, True, True, False, True, True]))
    samples = batches_of(cfg, dataset, monkeypatch, 12)
    objects = torch.cat([sample["instances"].gt_classes for sample in samples])
    crowds = torch.cat([sample["crowds"].gt_classes for sample in samples])
    assert set(objects.tolist()) == {1, 2} and set(crowds.tolist()) == {0, 1, 2}
    assert any(len(sample["instances"]) == 0 for sample in samples)
    for sample in samples:
        assert sample["instances"].gt_boxes.tensor.shape[1] == 4


def test_cut_objects_are_counted(loader_cfg, build_loader, caplog):
    caplog.set_level("INFO", logger="detectron2.data.tood")
    cfg = loader_cfg
    cfg.INPUT.MOSAIC.ENABLED, cfg.INPUT.MOSAIC.PROB, cfg.INPUT.MOSAIC.MIN_VISIBLE = True, 1.0, 0.9
    loader = build_loader(NUM_WORKERS=1)
    batches = take(loader, 8)
    drops = loader.loader.drops
    left = sum(len(boxes) for batch in batches for _, _, boxes, _ in batch)
    assert drops.num_objects == 4 * 16 and drops.num_dropped == 64 - left > 10
    lines = [m for m in caplog.messages if "has cut away" in m]
    assert len(lines) == 2 and "of 32 objects in the last 8 images" in lines[0]
    plain = build_loader()
    plain.start_at(0, 0)
    take(plain, 8)
    assert plain.loader.drops.num_objects == 16 and not plain.loader.drops.num_dropped


# ---- pixels ----------------------------------------------------------------------------------


def test_channel_orders(multi_cfg, build_loader):
    """BGR is RGB turned around, also where saturation changes."""
    multi_cfg.INPUT.COLOR_JITTER.ENABLED = True
    results = []
    for name in ("RGB", "BGR"):
        multi_cfg.INPUT.FORMAT = name
        iterator = iter(build_loader())
        results.append([x for _ in range(8) for x in next(iterator)])
    for rgb, bgr in zip(*results, strict=True):
        assert torch.equal(rgb["instances"].gt_boxes.tensor, bgr["instances"].gt_boxes.tensor)
        difference = rgb["image"].int() - bgr["image"].int().flip(0)
        assert difference.abs().max() <= 1  # sums of three numbers in another order


def test_gray_and_16_bit_images(multi_cfg, build_loader, images):
    """They reach a mosaic as they reach the model alone."""
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(ramp).save(images.file_names[0])
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(images.file_names[1])
    multi_cfg.INPUT.COLOR_JITTER.ENABLED = True
    multi_cfg.INPUT.FORMAT = "L"
    for batch in itertools.islice(build_loader(), 8):
        for sample in batch:
            assert sample["image"].shape[0] == 1 and sample["image"].dtype == torch.uint8
    # As 16 bits or as the high byte: all batches are the same.
    expected = take(build_loader(), 8)
    Image.fromarray((ramp >> 8).astype(np.uint8)).save(images.file_names[0])
    assert take(build_loader(), 8) == expected


def test_tiny_images(multi_cfg, tmp_path, monkeypatch):
    """Extreme shapes leave at least a pixel of each part."""
    sizes = [(400, 33), (33, 400), (32, 32), (640, 32)]
    dataset, _ = colored(tmp_path, sizes)
    multi_cfg.INPUT.MIN_SIZE_TRAIN, multi_cfg.INPUT.MAX_SIZE_TRAIN = (1, 2), 8
    multi_cfg.INPUT.MOSAIC.PROB = 1.0
    for sample in batches_of(multi_cfg, dataset, monkeypatch, 12):
        assert min(sample["image"].shape) >= 1

"""tood show-batch: what it draws, the same each time, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from PIL import Image

from tood.analysis.batch_figures import draw_batch
from tood_runtime.colors import class_color


@pytest.fixture
def show(tood, config, options, tmp_path):
    """Runs the command on the shapes; returns the exit code and the drawings by name."""

    def run(*arguments: object, folder: str = "drawings"):
        output = tmp_path / folder
        words = [*options, "DATASETS.TEST_ANNOTATIONS", "", "DATASETS.TEST_IMAGES", ""]
        words += ["SOLVER.MAX_ITER", "12", "SEED", "1"]
        code = tood("show-batch", config, *words, "--output", output, *arguments)
        images = {path.name: np.asarray(Image.open(path)) for path in sorted(output.glob("*"))}
        return code, images

    return run


def test_drawings(show, capsys):
    code, images = show("--num-batches", 2)
    assert code == 0 and list(images) == ["batch-000000.png", "batch-000001.png"]
    first, second = images.values()
    assert not np.array_equal(first, second)
    # Two images side by side, 640 pixels each.
    assert first.shape == (640 + 22 + 2 * 8, 2 * 640 + 3 * 8, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed 1" and lines[1].split(": ")[1].startswith("2 images, ")
    assert lines[1].endswith(" boxes, 0 crowds")


def test_batches_of_a_later_iteration(show):
    """With the same seed the same, whichever is the first; without mosaic in the last epoch."""
    mosaic = [
        "INPUT.MOSAIC.ENABLED",
        "True",
        "INPUT.MOSAIC.PROB",
        "1.0",
        "DATALOADER.NUM_WORKERS",
        2,
    ]
    _, whole = show(*mosaic, "--num-batches", 12, folder="whole")
    _, part = show(*mosaic, "--iteration", 9, "--num-batches", 2, folder="part")
    assert list(part) == ["batch-000009.png", "batch-000010.png"]
    for name, image in part.items():
        np.testing.assert_array_equal(image, whole[name])
    _, plain = show("--num-batches", 12, folder="plain")
    # 4 images, batches of 2: the last epoch is the last two iterations.
    assert [np.array_equal(whole[name], plain[name]) for name in whole] == [False] * 10 + [True] * 2


def test_refused(show, errors):
    code, images = show("--iteration", 12)
    assert code == 2 and not images
    assert errors()[0].startswith("error: --iteration is 12, but training ends after 12 iterations")
    code, _ = show("INPUT.MIXUP.ENABLED", "True", "INPUT.MULTI_IMAGE_OFF_EPOCHS", "6")
    assert code == 2 and "INPUT.MULTI_IMAGE_OFF_EPOCHS is 6, 12 iterations" in errors()[0]
    code, _ = show("INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.SIZE", "(1, 2)")
    assert code == 2 and "INPUT.LSJ.SIZE is (1, 2)" in errors()[0]


def test_crowds_are_counted(tood, config, options, shapes, tmp_path, capsys):
    content = json.loads((shapes / "train.json").read_text())
    for annotation in content["annotations"][1:]:
        annotation["iscrowd"] = 1
    (tmp_path / "train.json").write_text(json.dumps(content))
    words = [*options, "SEED", "-1", "DATASETS.TRAIN_ANNOTATIONS", tmp_path / "train.json"]
    code = tood("show-batch", config, *words, "--output", tmp_path / "o", "--num-batches", 1)
    assert code == 0
    out = capsys.readouterr().out
    assert "(SEED is negative, so training draws another one)" in out
    assert "2 images, 2 boxes, 2 crowds" in out


def sample(height: int, width: int, channels: int = 3) -> dict:
    """A white object in black, and a crowd."""
    image = torch.zeros(channels, height, width, dtype=torch.uint8)
    image[:, 20:40, 30:60] = 255
    groups = {}
    for name, box, class_id in (("instances", [30, 20, 60, 40], 0), ("crowds", [5, 5, 25, 45], 1)):
        groups[name] = Instances((height, width))
        groups[name].gt_boxes = Boxes(torch.tensor([box], dtype=torch.float32))
        groups[name].gt_classes = torch.tensor([class_id])
    return {"image": image, "file_name": "a/b.png", **groups}


@pytest.mark.parametrize("image_format, channels", [("RGB", 3), ("BGR", 3), ("L", 1)])
def test_boxes_and_crowds(image_format, channels):
    """An image of half the height is drawn at the same scale; below it is padding."""
    batch = [sample(64, 80, channels), sample(32, 80, channels)]
    drawing = np.asarray(draw_batch(batch, image_format, ["a", "$b$ $"]))
    scale = 640 / 80
    x, y = (int(8 + value * scale) for value in (30, 20))
    assert tuple(drawing[y + 80, x]) == class_color(0)  # left side of the box
    assert tuple(drawing[y + 80, x + 100]) == (255, 255, 255)
    left = drawing[8 + 40 : 8 + 360, 8 + 40]  # left side of the crowd
    is_line = (left == class_color(1)).all(1)
    assert 0.3 < is_line.mean() < 0.8
    second = drawing[8 : 8 + 512, 648 + 8 :]
    assert (second[300] == 60).all(1).mean() > 0.9
    assert (second[:256, :640] == 60).all(2).mean() < 0.02


def test_channel_order():
    """Red is red in both."""
    batch = [sample(40, 40)]
    batch[0]["image"][0] = 255
    for image_format, color in (("RGB", (255, 0, 0)), ("BGR", (0, 0, 255))):
        drawing = np.asarray(draw_batch(batch, image_format, ["a", "b"]))
        assert tuple(drawing[300, 300]) == color


@pytest.mark.parametrize("kind", ["polygons", "bitmask"])
def test_masks(kind):
    """A triangle in its box is tinted, and the other half of the box is not."""
    x = sample(80, 80)
    x["image"][:] = 255
    bits = torch.zeros(1, 80, 80, dtype=torch.bool)
    for row in range(20, 40):
        bits[0, row, 30 : 30 + int(1.5 * (row - 20))] = True
    triangle = np.array([30.0, 20, 60, 40, 30, 40])
    masks = PolygonMasks([[triangle]]) if kind == "polygons" else BitMasks(bits)
    x["instances"].gt_masks = masks
    drawing = np.asarray(draw_batch([x], "RGB", ["a", "b"]))
    tint = np.array(class_color(0)) * 128 / 255 + 255 * 127 / 255
    assert np.abs(drawing[8 + 8 * 35, 8 + 8 * 35].astype(float) - tint).max() < 2
    assert tuple(drawing[8 + 8 * 23, 8 + 8 * 55]) == (255, 255, 255)


def test_keypoints():
    """Seen ones are dots, hidden ones rings, and those without a label are not drawn."""
    x = sample(80, 80)
    x["instances"].gt_keypoints = Keypoints(
        torch.tensor([[[20.0, 60.0, 2.0], [40.0, 60.0, 1.0], [60.0, 60.0, 0.0]]])
    )
    drawing = np.asarray(draw_batch([x], "RGB", ["a", "b"]))
    center, edge = [tuple(drawing[8 + 8 * 60, 8 + 8 * 20 + right]) for right in (0, 4)]
    assert center == edge == class_color(0)
    center, edge = [tuple(drawing[8 + 8 * 60, 8 + 8 * 40 + right]) for right in (0, 4)]
    assert center == (0, 0, 0) and edge == class_color(0)
    assert not drawing[8 + 8 * 55 : 8 + 8 * 65, 8 + 8 * 55 : 8 + 8 * 65].any()

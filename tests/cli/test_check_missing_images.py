"""tood check-data reports images that are missing or unreadable, all of them; training refuses."""

import json

import pytest

from tests.data.coco_files import coco_content, write_coco, write_images
from tests.data.formats.builders import make_dataset, write_open_images, write_voc, write_yolo
from tests.helpers import CONFIGS

CONFIG = str(CONFIGS / "TOOD-R50-1x.yaml")
TINY = ("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64")


@pytest.fixture
def check(tood, tmp_path):
    """Runs the command on a training set; returns the exit code and the report."""

    def run(annotations, *pairs) -> tuple[int, dict]:
        report = tmp_path / "report.json"
        options = ["DATASETS.TRAIN_ANNOTATIONS", annotations, *TINY, *pairs]
        code = tood("check-data", CONFIG, "--json", report, *options)
        return code, json.loads(report.read_text())["train"] if report.exists() else {}

    return run


def found(report, severity="error") -> dict[str, tuple[int, list[str]]]:
    """Counts and examples by kind."""
    return {
        finding["kind"]: (finding["count"], finding["examples"])
        for finding in report["findings"]
        if finding["severity"] == severity
    }


@pytest.mark.parametrize("with_sizes", [True, False])
def test_coco(check, tmp_path, with_sizes):
    content = coco_content(5)
    images = tmp_path / "images"
    write_images(images, content)
    (images / "1.png").unlink()
    (images / "2.png").unlink()
    (images / "4.png").write_bytes(b"no image")
    for image in content["images"]:
        if not with_sizes:
            del image["width"], image["height"]
    path = write_coco(tmp_path, content)
    code, report = check(path, "DATASETS.TRAIN_IMAGES", images)
    assert code == 1
    errors = found(report)
    assert errors["missing-image"] == (2, [f"{images}/1.png", f"{images}/2.png"])
    assert errors["unreadable-image"][0] == 1
    assert errors["unreadable-image"][1][0].startswith(f"{images}/4.png (it is not an image")
    # Boxes of images without any size are left out, and nothing else is.
    assert report["num_boxes"] == (10 if with_sizes else 4)
    assert report["num_images"] == (5 if with_sizes else 2)
    notes = [f["what"] for f in report["findings"] if "left out" in f["what"]]
    assert notes == ([] if with_sizes else ["boxes of images that cannot be read left out"])


@pytest.mark.parametrize("write", [write_yolo, write_voc, write_open_images])
def test_unreadable_image(check, tmp_path, write):
    data = make_dataset(tmp_path / "made", whole=True)
    path = write(tmp_path / "set", {"train": data})
    (tmp_path / "made" / "0_1.png").write_bytes(b"no image")
    code, report = check(path)
    assert code == 1
    count, examples = found(report)["unreadable-image"]
    assert count == 1 and "0_1.png (it is not an image" in examples[0]
    # Pascal VOC's files have the size of the image.
    assert report["num_images"] == (3 if write is write_voc else 2)


def test_missing_image_of_voc(check, tmp_path):
    data = make_dataset(tmp_path / "made", whole=True)
    path = write_voc(tmp_path / "set", {"train": data})
    (path / "JPEGImages" / "0_1.png").unlink()
    code, report = check(path)
    assert code == 1 and report["num_images"] == 3
    assert found(report) == {"missing-image": (1, [f"{path}/JPEGImages/0_1.png"])}


def test_missing_image_of_a_yolo_list(check, tmp_path):
    data = make_dataset(tmp_path / "made")
    path = write_yolo(tmp_path / "set", {"train": data})
    names = ["train/images/0_0.png", "train/images/0_1.png", "train/images/9.png"]
    (tmp_path / "set" / "train.txt").write_text("\n".join(names))
    path.write_text(path.read_text().replace("../train/images", "train.txt"))
    code, report = check(path)
    assert code == 1 and report["num_images"] == 2
    assert found(report) == {"missing-image": (1, [f"{tmp_path}/set/train/images/9.png"])}


def test_set_without_any_image(check, tmp_path, capsys):
    """No size is known, so there is nothing to report about."""
    data = make_dataset(tmp_path / "made")
    path = write_yolo(tmp_path / "set", {"train": data})
    for image in (tmp_path / "made").iterdir():
        image.write_bytes(b"no image")
    assert check(path) == (2, {})
    assert "none of its 3 images can be read, for example" in capsys.readouterr().err

"""tood check-data: what it prints and writes, and its exit codes."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.data.builders import photo
from tests.helpers import CONFIGS


@pytest.fixture
def data(tmp_path) -> Path:
    """Two sets of two images each, without anything wrong."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for split, seeds in (("train", (1, 2)), ("val", (3, 4))):
        images, annotations = [], []
        for seed in seeds:
            photo(seed).save(folder / "images" / f"{seed}.jpg")
            images.append({"id": seed, "file_name": f"{seed}.jpg", "width": 160, "height": 120})
            for category in (1, 2):
                box = [20 * category, 10, 50, 60]
                annotations.append(
                    {
                        **{"id": 2 * seed + category, "image_id": seed, "bbox": box},
                        **{"category_id": category, "area": 3000, "iscrowd": 0},
                    }
                )
        names = ("cell", "nucleus")
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
        }
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def config(tmp_path) -> str:
    """COCO's config with a small backbone."""
    path = tmp_path / "small.yaml"
    backbone = "RESNETS: {DEPTH: 18, RES2_OUT_CHANNELS: 64}, FPN: {OUT_CHANNELS: 16}"
    path.write_text(f"_BASE_: {CONFIGS / 'TOOD-R50-1x.yaml'}\nMODEL: {{{backbone}}}\n")
    return str(path)


@pytest.fixture
def check(tood, config, data):
    """Runs the command on the data; ``splits`` are those that are named."""

    def run(*arguments, splits=("TRAIN", "TEST")) -> int:
        pairs = ["INPUT.MIN_SIZE_TRAIN", "(120,)", "INPUT.MIN_SIZE_TEST", "120"]
        for split, name in (("TRAIN", "train"), ("TEST", "val")):
            if split in splits:
                pairs += [f"DATASETS.{split}_ANNOTATIONS", data / f"{name}.json"]
                pairs += [f"DATASETS.{split}_IMAGES", data / "images"]
        return tood("check-data", config, *pairs, *arguments)

    return run


class TagCounter(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_good_data(check, data, tmp_path, capsys):
    assert check("--output", tmp_path / "out", "--json", tmp_path / "x.json", "--strict") == 0
    out = capsys.readouterr().out
    assert re.search(r"\| train +\| +2 \| +4 \| +0 \| +0 \| +2 \|", out)
    assert re.search(r"\| cell +\| +2 \| +2 \|", out)
    assert out.count("  none\n") == 3
    content = json.loads((tmp_path / "x.json").read_text())
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == content
    assert content["train"]["class_counts"] == {"cell": 2, "nucleus": 2}
    assert content["compared"] == content["train"]["findings"] == []
    page = TagCounter((tmp_path / "out" / "index.html").read_text())
    assert page.tags.count("img") == 4
    assert "cell 1, nucleus 1" in " ".join(page.text.split())


def test_broken_images_are_errors(check, data, capsys, tmp_path):
    (data / "images" / "1.jpg").write_text("no image")
    broken = data / "images" / "4.jpg"
    broken.write_bytes(broken.read_bytes()[:1000])
    assert check("--output", tmp_path / "out") == 1
    out = capsys.readouterr().out
    assert out.count("error    images that cannot be read: 1\n") == 2
    assert f"{data}/images/1.jpg (it is not an image" in out
    assert f"{broken} (image file is truncated" in out
    # The page shows the reason instead of the image.
    page = TagCounter((tmp_path / "out" / "index.html").read_text())
    assert page.tags.count("img") == 2 and "it is not an image" in page.text
    # Headers alone do not show that an image is cut.
    shutil.copy(data / "images" / "2.jpg", data / "images" / "1.jpg")
    capsys.readouterr()
    assert check("--no-decode") == 0
    assert "cannot be read" not in capsys.readouterr().out


def test_classes_may_be_called_like_numbers(check, data, capsys):
    for split in ("train", "val"):
        for index, name in enumerate(["007", "1e5"]):
            edit(
                data / f"{split}.json",
                lambda content, i=index, n=name: content["categories"][i].update(name=n),
            )
    assert check("--no-decode") == 0
    out = capsys.readouterr().out
    assert "| 007 " in out and "| 1e5 " in out


def test_leaks(check, data, capsys):
    photo(1).resize((160, 120)).save(data / "images" / "3.jpg", quality=40)
    assert check() == 0
    assert "warning  test images that look like a training image" in capsys.readouterr().out
    assert check("--strict") == 1
    shutil.copy(data / "images" / "1.jpg", data / "images" / "3.jpg")
    assert check("--no-decode") == 1
    assert "error    test images that are training images too" in capsys.readouterr().out


def test_what_stops_training_is_in_the_report(check, data, capsys):
    """Other classes, an explicit number of classes, and a test set without boxes."""

    def rename(content):
        content["categories"][1]["name"] = "wall"
        content["annotations"].clear()

    edit(data / "val.json", rename)
    assert check("MODEL.TOOD.NUM_CLASSES", "3", "--output", data / "out") == 1
    report = json.loads((data / "out" / "report.json").read_text())
    errors = {
        name: [(f["kind"], f["count"]) for f in findings if f["severity"] == "error"]
        for name, findings in (
            ("train", report["train"]["findings"]),
            ("test", report["test"]["findings"]),
            ("compared", report["compared"]),
        )
    }
    assert errors == {
        "train": [("not-usable", 1)],
        "test": [("no-boxes", 2)],
        "compared": [("different-classes", 2)],
    }
    text = capsys.readouterr().out
    assert "MODEL.TOOD.NUM_CLASSES is 3, but" in text and "no boxes at all" in text


def test_one_set_alone(check, data, capsys):
    shutil.copy(data / "images" / "1.jpg", data / "images" / "3.jpg")
    for split, name in (("TRAIN", "train"), ("TEST", "test")):
        assert check(splits=(split,)) == 0
        out = capsys.readouterr().out
        assert re.findall(r"^\| (train|test) .* 2 \|$", out, re.M)[0] == name
        assert "compared" not in out


def test_boxes_that_get_no_positive(check, data, capsys):
    def shrink(content):
        content["annotations"][0]["bbox"] = [17, 17, 5, 5]

    edit(data / "train.json", shrink)
    assert check("--strict") == 1
    out = capsys.readouterr().out
    assert "warning  objects that contain no anchor point at any size to train at" in out
    assert f"cell [17, 17, 5, 5] in {data}/images/1.jpg (5.0x5.0 after resizing)" in out


def test_hostile_names_are_text(check, data, tmp_path, capsys):
    name, file_name = "<script>alert(1)</script>", "</style><img src=x onerror=alert(2)>.jpg"
    (data / "images" / "1.jpg").rename(data / "images" / "x.jpg")
    edit(
        data / "train.json",
        lambda content: (
            content["categories"][0].update(name=name),
            content["images"][0].update(file_name="a\x1b[2J'\"&<b>.jpg"),
        ),
    )
    edit(data / "val.json", lambda content: content["categories"][0].update(name=name))
    for split in ("train", "val"):
        edit(
            data / f"{split}.json", lambda content: content["categories"][1].update(name="1e5|007")
        )
    (data / "images" / "x.jpg").rename(data / "images" / "a\x1b[2J'\"&<b>.jpg")
    assert check("--output", tmp_path / "out") == 0
    page = TagCounter((tmp_path / "out" / "index.html").read_text())
    assert not {"script", "b"} & set(page.tags)
    assert page.tags.count("img") == 4
    assert name in page.text and "a\\x1b[2J'\"&<b>.jpg" in page.text
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out and "| 1e5\\|007 " in out
    assert file_name not in page.text


def test_orientation(check, data, capsys):
    exif = Image.Exif()
    exif[274] = 6
    photo(1).save(data / "images" / "1.jpg", exif=exif)
    assert check() == 1
    out = capsys.readouterr().out
    assert "error    images annotated with the size that they have before their EXIF" in out
    assert "set INPUT.APPLY_EXIF_ORIENTATION False" in out
    assert check("INPUT.APPLY_EXIF_ORIENTATION", "False") == 0


def test_data_that_cannot_be_read_is_a_user_error(check, tood, config, data, errors):
    (data / "train.json").write_text("{")
    assert check() == 2
    [line] = errors()
    assert "train.json" in line
    assert tood("check-data", config, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()") == 2
    assert "nothing to check" in errors()[0]
    assert tood("check-data") == 2


def test_output_that_is_a_file(check, data, tmp_path, errors):
    (tmp_path / "file").touch()
    assert check("--output", tmp_path / "file") == 2
    assert "it is a file" in errors()[0]

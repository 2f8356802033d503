"""``tood report``: a page about a run or about result files; wrong files are one line."""

import json
import shutil

import pytest

from tests.data.builders import photo
from tests.report.builders import random_scene, write_results


@pytest.fixture
def files(tmp_path):
    """Results, annotations with ids of their own, and images of which one is missing."""
    dataset, rows = random_scene(1, num_images=4, num_classes=3)
    content = dataset.to_coco()
    for image in content["images"]:
        image["id"] += 100
        if image["id"] > 101:
            photo(image["id"], (640, 480)).save(tmp_path / image["file_name"])
    for category, category_id in zip(content["categories"], dataset.category_ids, strict=True):
        category["id"] = category_id
    for annotation in content["annotations"]:
        annotation["image_id"] += 100
        annotation["category_id"] = dataset.category_ids[annotation["category_id"] - 1]
    dataset.image_ids[:] = [image["id"] for image in content["images"]]
    (tmp_path / "val.json").write_text(json.dumps(content))
    write_results(tmp_path / "results.json", dataset, rows)
    return tmp_path


@pytest.fixture
def line(files) -> list[object]:
    return ["--detections", files / "results.json", "--annotations", files / "val.json"]


def test_result_files(tood, files, line, monkeypatch):
    monkeypatch.chdir(files)
    (files / "config.yaml").write_text("SEED: 7")
    (files / "metrics.json").write_text('{"iteration": 9, "total_loss": 2.0}')
    assert tood("report", *line, "--metrics", "metrics.json", "--config-file", "config.yaml") == 0
    page = (files / "report.html").read_text()
    assert "SEED: 7" in page and "Losses by iteration" in page and 'class="missing"' in page
    assert page.count("data:image/jpeg") == 3


def test_several_sets(tood, files, line):
    two = [word for word in line for word in ([word, word] if word in line[1::2] else [word])]
    output = files / "new" / "page.html"
    assert tood("report", *two, "--images", files, files, "--output", output) == 0
    page = output.read_text()
    assert page.count("What goes wrong</h3>") == 2


def test_run(tood, errors, run_folder, shapes):
    assert tood("report", run_folder) == 2
    assert "There is no report of" in errors()[0]
    content = json.loads((shapes / "val.json").read_text())
    results = [{**x, "score": 0.9 - 0.01 * i} for i, x in enumerate(content["annotations"][1:])]
    (run_folder / "inference").mkdir()
    (run_folder / "inference/coco_instances_results.json").write_text(json.dumps(results))
    (run_folder / "metrics.json").write_text('{"iteration": 9, "bbox/AP": 2.5}')
    assert tood("report", run_folder) == 0
    page = (run_folder / "report.html").read_text()
    assert "Report of" in page and "my-run" in page and "2.50" in page and "TOOD" in page
    assert "<b>missed objects</b>" in page
    other = run_folder / "other.html"
    opts = ["--opts", "DATASETS.TEST_ANNOTATIONS", shapes / "train.json"]
    assert tood("report", run_folder, "--output", other, *opts) == 2
    assert "image_id" in errors()[0] and not other.exists()


def test_run_without_its_images(tood, run_folder, errors):
    shutil.rmtree(run_folder)
    assert tood("report", run_folder) == 2
    assert "is no folder of a training run" in errors()[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--detections": None}, "Name a RUN, or --detections"),
        ({"--annotations": None}, "Name a RUN, or --detections"),
        ({"--images": ["a", "b"]}, "--images needs one path for each file"),
        ({"--opts": ["SEED", "1"]}, "--opts changes the config of a RUN"),
        ({"run": ["run"]}, "leave out RUN or --detections"),
        ({"--detections": ["none.json"]}, "none.json cannot be read: No such file"),
        ({"--detections": ["val.json"]}, "not in COCO's result format"),
        ({"--annotations": ["none.json"]}, "There is no annotation file none.json"),
        ({"--annotations": ["empty.json"]}, "has no annotations"),
        ({"--images": ["none"]}, "There is no image folder none"),
        ({"--metrics": ["none.json"]}, "The metrics none.json cannot be read"),
        ({"--config-file": ["none.yaml"]}, "The config none.yaml cannot be read"),
        ({"--output": ["."]}, "--output . is a folder"),
        ({"--output": ["val.json/x.html"]}, "val.json is a file"),
        ({"--max-detections": ["0"]}, "not a whole number of at least 1"),
    ],
)
def test_errors_are_one_line(tood, errors, files, monkeypatch, changes, message):
    monkeypatch.chdir(files)
    content = json.loads((files / "val.json").read_text())
    (files / "empty.json").write_text(json.dumps({**content, "annotations": []}))
    options = {"--detections": ["results.json"], "--annotations": ["val.json"], **changes}
    words = options.pop("run", [])
    for option, values in options.items():
        words = words if values is None else [*words, option, *values]
    assert tood("report", *words) == 2
    (line,) = errors()
    assert message in line
    assert not (files / "report.html").exists()


def test_evaluation_writes_a_report(tood, run_folder):
    """With the curves of the training in whose folder the weights are."""
    (run_folder / "metrics.json").write_text('{"iteration": 9, "total_loss": 2.5}')
    assert tood("eval", run_folder, "--opts", "TEST.REPORT", "True") == 0
    page = (run_folder / "evaluation/report.html").read_text()
    assert "Losses by iteration" in page and not (run_folder / "report.html").exists()
    other = run_folder.parent / "other"
    shutil.copytree(run_folder, other)
    weights = run_folder / "model_final.pth"
    assert tood("eval", other, "--weights", weights, "--opts", "TEST.REPORT", "True") == 0
    assert "Losses by iteration" not in (other / "evaluation/report.html").read_text()

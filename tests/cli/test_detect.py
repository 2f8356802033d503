"""tood detect and demo/demo.py."""

import csv
import json
import logging
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.runtime.http_server import http_server, send
from tests.runtime.sources.video_files import write_video
from tood_runtime.sources import items


@pytest.fixture
def model(config, options, weights) -> list[str]:
    """The options that name the tiny model."""
    return ["--config-file", config, "--opts", *options, "MODEL.WEIGHTS", weights]


@pytest.fixture
def names(shapes) -> list[str]:
    return sorted(path.name for path in (shapes / "images").glob("*.png"))


def test_detect_writes_drawings_and_results(tood, model, shapes, names, tmp_path):
    """Folders, patterns and files; an unreadable file is skipped; results in COCO's format."""
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    for name in names[:2]:
        (folder / name).write_bytes((shapes / "images" / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    inputs = [tmp_path / "in", shapes / "images" / names[2], shapes / "images" / "*2.png"]
    more = ["--score-threshold", 0.2, "--json", tmp_path / "results" / "found.json"]
    assert tood("detect", *inputs, "--output", tmp_path / "out", *more, *model) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names[:3]
    assert Image.open(tmp_path / "out" / names[0]).size == (480, 480)  # enlarged
    results = json.loads((tmp_path / "results" / "found.json").read_text())
    images = json.loads((tmp_path / "results" / "found_images.json").read_text())
    assert len(images) == 3 and images[0]["height"] == images[0]["width"] == 64
    assert {r["image_id"] for r in results} <= {i["id"] for i in images}
    assert results and min(r["score"] for r in results) > 0.2
    for result in results:
        x, y, w, h = result["bbox"]
        assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= 64.01 and y + h <= 64.01
        assert result["category_id"] in {1, 2, 3, 4, 5}


def test_run_folder_is_a_model(tood, run_folder, shapes, tmp_path):
    assert tood("detect", run_folder, shapes / "images", "--output", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_demo_is_the_same_program(model, shapes, tmp_path, monkeypatch):
    """``demo.py --config-file F --input ... --output ... --opts MODEL.WEIGHTS X``."""
    line = ["--input", str(shapes / "images"), "--output", str(tmp_path / "out")]
    line += ["--confidence-threshold", "0.2", "--save-json", str(tmp_path / "r.json"), *model]
    monkeypatch.setattr(sys, "argv", ["demo.py", *line])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "demo" / "demo.py"), run_name="__main__")
    assert end.value.code == 0
    assert len(list((tmp_path / "out").iterdir())) == 7 and (tmp_path / "r.json").is_file()


def test_summary_counts_objects_by_class(tood, model, shapes, tmp_path, capsys):
    tood("detect", shapes / "images", "--output", tmp_path, "--score-threshold", 0.2, *model)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if " objects in 7 images (" in line]
    counts = dict(reversed(x.split()) for x in line.split("(")[1].split(")")[0].split(", "))
    assert set(counts) <= {"circle", "square", "triangle", "star", "cross"}
    assert sum(map(int, counts.values())) == int(line.split(" objects")[0].split()[-1])
    assert "skipped" not in out and "Lower" not in out


def test_without_objects_it_says_what_to_do(tood, model, shapes, tmp_path, capsys):
    args = [shapes / "images", "--output", tmp_path, "--score-threshold", 0.99]
    assert tood("detect", *args, *model) == 0
    out = capsys.readouterr().out
    assert "0 objects in 7 images" in out and "Lower --score-threshold" in out


def test_no_original_is_overwritten(tood, errors, model, shapes, names, tmp_path):
    for name in names[:2]:
        (tmp_path / name).write_bytes((shapes / "images" / name).read_bytes())
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    assert tood("detect", "--input", *before, "--output", tmp_path, *model) == 2
    assert "would overwrite" in errors()[0]
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    # A second run over the same folder does not take its own drawings for images.
    for _ in range(2):
        assert tood("detect", "--input", tmp_path, "--output", tmp_path / "out", *model) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_threshold_is_applied(tood, model, shapes, names, tmp_path):
    counts = []
    for threshold in (0.05, 0.5, 0.99):
        args = [shapes / "images" / names[0], "--output", tmp_path, "--json", tmp_path / "r.json"]
        more = ["TEST.DETECTIONS_PER_IMAGE", 10000]
        assert tood("detect", *args, "--score-threshold", threshold, *model, *more) == 0
        counts.append(len(json.loads((tmp_path / "r.json").read_text())))
    assert counts[0] > counts[1] > counts[2] == 0


def test_nothing_readable_is_exit_code_1(tood, model, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    args = [tmp_path / "broken.jpg", "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    assert tood("detect", *args, *model) == 1
    out = capsys.readouterr().out
    assert "broken.jpg" in out and "1 of 1 images skipped" in out
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_files_that_cannot_be_read_are_skipped_and_counted(tood, model, tmp_path, capsys):
    """Too many pixels, 16-bit and floating-point pixels, a side that resizing would remove."""
    Image.new("1", (20000, 10000)).save(tmp_path / "slide.png")
    Image.fromarray(np.ones((40, 40), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((40, 40), 9999, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGB", (3, 900)).save(tmp_path / "line.ppm")
    (tmp_path / "header.ppm").write_bytes(b"P6 many")
    os.mkfifo(tmp_path / "pipe.png")
    name = os.fsdecode(b"caf\xe9.jfif")
    Image.new("RGB", (40, 30)).save(os.fsencode(tmp_path) + b"/" + os.fsencode(name), "JPEG")
    args = [tmp_path, "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    assert tood("detect", *args, *model) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"deep.png", "line.ppm", name}
    out = capsys.readouterr().out
    assert "3 of 6 images skipped" in out
    for bad in ("slide.png", "float.tif", "header.ppm"):
        assert out.count(f"Cannot read the image {tmp_path / bad}") == 1
    images = json.loads((tmp_path / "r_images.json").read_text())
    sizes = {(image["width"], image["height"]) for image in images}
    assert sizes == {(40, 40), (3, 900), (40, 30)}


@pytest.mark.parametrize("apply", [True, False])
def test_orientation_follows_the_config(tood, model, tmp_path, apply):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "x.jpg", exif=exif)
    args = [tmp_path, "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    assert tood("detect", *args, *model, "INPUT.APPLY_EXIF_ORIENTATION", apply) == 0
    (image,) = json.loads((tmp_path / "r_images.json").read_text())
    assert (image["width"], image["height"]) == ((40, 60) if apply else (60, 40))
    width, height = Image.open(tmp_path / "out" / "x.jpg").size
    assert (width < height) == apply


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_results_are_kept_whatever_ends_the_run(
    tood, model, shapes, names, tmp_path, monkeypatch, error
):
    third = sorted((shapes / "images").iterdir())[2]

    def read_image(path, apply_orientation):
        if Path(path) == third:
            raise error
        return np.full((64, 64, 3), 128, np.uint8)

    monkeypatch.setattr(items, "read_image", read_image)
    args = [shapes / "images", "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="out of memory"):
            tood("detect", *args, *model)
        kept = 2
    else:
        assert tood("detect", *args, *model) == 130
        kept = 1  # at once, without the image that was read ahead
    assert len(json.loads((tmp_path / "r_images.json").read_text())) == kept


def test_drawing_that_cannot_be_written_loses_no_result(tood, model, shapes, names, tmp_path):
    (tmp_path / "out" / names[0]).mkdir(parents=True)  # a folder where the drawing should go
    args = [shapes / "images", "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    assert tood("detect", *args, *model) == 0
    assert len(json.loads((tmp_path / "r_images.json").read_text())) == 7
    assert (tmp_path / "out" / names[1]).is_file()


def test_errors(tood, errors, model, config, options, shapes, tmp_path):
    images, missing = shapes / "images", tmp_path / "*.nothing"
    (tmp_path / "file").write_text("")
    for line, message in (
        ([missing, "--output", tmp_path, *model], "Found no images in"),
        ([images, "--output", tmp_path / "file", *model], "it is a file"),
        ([images, "--json", tmp_path, *model], f"--json {tmp_path} is a folder"),
        ([images, "--config-file", config, "--opts", *options], "MODEL.WEIGHTS"),
    ):
        assert tood("detect", *line) == 2
        (error,) = errors()
        assert message in error
    logging.getLogger("tood").handlers.clear()


def test_options_of_detection(tood, errors, model, shapes, tmp_path):
    """Batches change nothing; classes are chosen by name; the best are kept."""

    def found(*options):
        args = [shapes / "images", "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
        assert tood("detect", *args, "--score-threshold", 0.2, *options, *model) == 0
        return json.loads((tmp_path / "r.json").read_text())

    everything = found()
    batched = found("--batch-size", 4)
    assert [r["image_id"] for r in batched] == [r["image_id"] for r in everything]
    scores = [[r["score"] for r in results] for results in (batched, everything)]
    np.testing.assert_allclose(*scores, atol=2e-5)
    best = found("--max-detections", 1)
    assert len(best) == len({r["image_id"] for r in everything})
    args = [shapes / "images", "--output", tmp_path / "out", "--classes", "cat"]
    assert tood("detect", *args, *model) == 2
    message = errors()[-1]
    assert "Unknown classes 'cat'" in message
    names = message.partition("The model has: ")[2].rstrip(".").split(", ")
    assert len(names) == 5 and "circle" in names
    category = best[0]["category_id"]
    chosen = found("--classes", names[category - 1])
    assert {r["category_id"] for r in chosen} == {category}


def test_a_video_and_every_output(tood, model, shapes, names, tmp_path):
    """A video, an image of a server and a list with a missing file, and all that can be written."""
    pytest.importorskip("av")
    video = write_video(tmp_path / "clip.mp4", 3)
    data = (shapes / "images" / names[0]).read_bytes()
    listed = [str(shapes / "images" / names[1]), "missing.png"]
    (tmp_path / "list.txt").write_text("\n".join(listed))
    out = tmp_path / "out"
    with http_server(lambda request: send(request, 200, data)) as host:
        inputs = [video, f"http://{host}/remote.png", tmp_path / "list.txt"]
        options = ["--output", out / "drawn", "--csv", out / "r.csv", "--yolo", out / "labels"]
        options += ["--json", out / "r.json", "--crops", out / "crops", "--score-threshold", 0.2]
        assert tood("detect", *inputs, *options, *model) == 0
    drawn = sorted(path.name for path in (out / "drawn").iterdir())
    assert drawn == sorted(["clip.mp4", "remote.png", names[1]])
    images = json.loads((out / "r_images.json").read_text())
    assert [image.get("frame") for image in images] == [0, 1, 2, None, None]
    assert len(list((out / "labels").iterdir())) == 5
    with open(out / "r.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = json.loads((out / "r.json").read_text())
    assert len(rows) == len(found) == len(list((out / "crops").rglob("*.jpg"))) > 0
    # The same as of the file on the disk.
    remote = [r for r in found if r["image_id"] == 4]
    args = [shapes / "images" / names[0], "--json", tmp_path / "s.json", "--score-threshold", 0.2]
    assert tood("detect", *args, *model) == 0
    assert remote == [{**r, "image_id": 4} for r in json.loads((tmp_path / "s.json").read_text())]


def test_slices_and_methods(tood, errors, model, shapes, names, tmp_path):
    image = shapes / "images" / names[0]
    args = ["detect", image, "--json", tmp_path / "r.json", "--score-threshold", 0.2]
    for options in (["--slice", 40, "--overlap", 0.5], ["--flip"], ["--nms", "class-agnostic"],
                    ["--nms-threshold", 0.9, "--slices-only", "--slice", 30]):  # fmt: skip
        assert tood(*args, *options, *model) == 0
        assert json.loads((tmp_path / "r.json").read_text())
    for options, message in (
        (["--overlap", 1], "not below 1"),
        (["--nms", "hard"], "invalid choice: 'hard'"),
        (["--slice", 0], "at least 1"),
        (["--csv", tmp_path], "is a folder"),
        (["--show"], "needs a display"),
    ):
        assert tood(*args, *options, *model) == 2
        assert message in errors()[-1]


def test_a_missing_package_is_one_line(tood, errors, model, shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").touch()
    assert tood("detect", tmp_path / "clip.mp4", *model) == 2
    assert 'pip install "tood-detectron2[video]"' in errors()[-1]
    monkeypatch.setitem(sys.modules, "trackers", None)
    assert tood("detect", shapes / "images", "--track", *model) == 2
    assert "[track]" in errors()[-1]


def test_results_of_a_stopped_run_are_there(model, shapes, tmp_path):
    """SIGTERM in the middle: the table and the drawings so far, and the exit code of a shell."""
    (tmp_path / "list.txt").write_text("\n".join([str(shapes / "images")] * 500))
    command = [sys.executable, "-m", "tood", "detect", tmp_path / "list.txt", "--json"]
    command += [tmp_path / "r.json", "--output", tmp_path / "out", *model]
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while len(list(tmp_path.glob("out/*"))) < 5 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 143
    images = json.loads((tmp_path / "r_images.json").read_text())
    assert 5 <= len(images) < 3500
    assert len(list(tmp_path.glob("out/*"))) == len(images)

"""``python -m tood_runtime``."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tood_runtime import __main__ as program
from tood_runtime.detector import RuntimeDetector
from tood_runtime.sources import items

pytest.importorskip("onnxruntime")


@pytest.fixture
def run(exported_onnx, capsys):
    """Runs the program on the small model: (exit code, stdout, stderr)."""

    def call(*arguments, model=exported_onnx.path):
        capsys.readouterr()
        code = program.main([str(model), *map(str, arguments), "--threads", "1"])
        logging.getLogger("tood_runtime").handlers.clear()
        return (code, *capsys.readouterr())

    return call


def test_drawings_results_and_summary(run, photos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in photos.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image")
    output, file = tmp_path / "out", tmp_path / "results" / "found.json"
    options = ["--output", output, "--json", file, "--score-threshold", 0.02, "--batch-size", 2]
    code, out, err = run(folder, *options)
    assert code == 0 and out == ""
    assert sorted(p.name for p in output.iterdir()) == ["0.png", "1.png", "2.png"]
    assert Image.open(output / "0.png").size == (480, 360)  # enlarged
    assert "Cannot read the image" in err and "1 of 4 images skipped" in err
    results = json.loads(file.read_text())
    images = json.loads((file.parent / "found_images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3]
    assert {r["category_id"] for r in results} <= {1, 2, 3, 5, 8}
    assert f"{len(results)} objects in 3 images (" in err and f"Drawings: {output}" in err


def test_results_are_the_detector_s(run, exported_onnx, photos):
    path = photos / "1.png"
    code, out, err = run(path, "--json", "-", "--score-threshold", 0.02)
    assert code == 0 and "Drawings" not in err
    detector = RuntimeDetector(exported_onnx.path, threads=1)
    found = detector(path, score_threshold=0.02)
    assert json.loads(out) == found.to_coco(1, detector.category_ids)


def test_default_output(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(photos, "--score-threshold", 0.99)
    assert code == 0 and len(list((tmp_path / "output" / "detections").iterdir())) == 3
    assert "0 objects in 3 images" in err and "Lower --score-threshold" in err


def test_nothing_readable_is_exit_code_1(run, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    code, _, err = run(tmp_path / "x.png", "--output", tmp_path / "out")
    assert code == 1 and "1 of 1 images skipped" in err


def test_results_are_kept_whatever_ends_the_run(run, photos, tmp_path, monkeypatch):
    def read_image(path, apply_orientation):
        if Path(path) == photos / "2.png":
            raise KeyboardInterrupt
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(items, "read_image", read_image)
    assert run(photos, "--json", tmp_path / "r.json")[0] == 130
    # At once, without the image that was read ahead.
    assert len(json.loads((tmp_path / "r_images.json").read_text())) == 1


def test_errors_are_one_line(run, photos, tmp_path):
    (tmp_path / "file").touch()
    for arguments, options, message in (
        ([photos], {"model": tmp_path / "no.onnx"}, "There is no model file"),
        ([tmp_path / "none.png"], {}, "Found no images in"),
        ([photos, "--json", tmp_path], {}, "is a folder. Name a file in it."),
        ([photos, "--output", tmp_path / "file"], {}, "it is a file. Choose another"),
        ([photos / "0.png", "--output", photos], {}, "would overwrite"),
        ([photos, "--score-threshold", 0.01], {}, "SCORE_THRESH_TEST 0.01"),
        ([photos, "--score-threshold", 2], {}, "not a number between 0 and 1"),
        ([photos, "--precision", "bfloat16"], {}, "precision is a setting of OpenVINO"),
        ([photos, "--bacth-size", 2], {}, "Did you mean --batch-size?"),
        ([], {}, "required: IMAGE"),
    ):
        code, out, err = run(*arguments, **options)
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 2 and out == "" and len(lines) == 1, err
        assert message in lines[0]
    assert not (tmp_path / "output").exists()


def test_tables_overwrite_nothing(run, photos, tmp_path, exported_onnx):
    image, model = photos / "0.png", exported_onnx.path
    listed = tmp_path / "list.txt"
    listed.write_text(str(image))
    before = {path: path.read_bytes() for path in (image, Path(model), listed)}
    for arguments in (
        [image, "--csv", image],
        [listed, "--json", listed],
        [image, "--csv", model],
        [image, "--json", tmp_path / "a", "--csv", tmp_path / "a"],
        [image, "--json", tmp_path / "a.json", "--csv", tmp_path / "a_images.json"],
    ):
        code, _, err = run(*arguments)
        assert code == 2 and "would overwrite" in err
    assert {path: path.read_bytes() for path in before} == before

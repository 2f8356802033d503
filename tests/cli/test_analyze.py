"""tood analyze and tood visualize."""

import json

import pytest
from PIL import Image

from tood.cli.analyze import COLUMNS
from tood_runtime.cli.parser import EXIT_OK


@pytest.fixture
def data(shapes) -> list[str]:
    """The options that name the dataset."""
    return ["--annotations", str(shapes / "val.json"), "--images", str(shapes / "images")]


def test_analyze_prints_and_writes_the_columns(tood, run_folder, data, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["--json", tmp_path / "table6.json", "--output", out, *data]
    assert tood("analyze", run_folder, *line) == EXIT_OK
    result = json.loads((tmp_path / "table6.json").read_text())
    assert list(result) == list(COLUMNS) and result["instances"] > 0
    header, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert [x.strip() for x in header.split("|")[1:-1]] == list(COLUMNS)
    assert f"{result['AP']:.1f}" in row and f"{result['instances']:.0f}" in row
    assert {"alignment.json", "coco_instances_results.json"} <= {p.name for p in out.iterdir()}


def test_analyze_without_a_test_set(tood, errors, run_folder):
    none = ["DATASETS.TEST", "()", "DATASETS.TEST_ANNOTATIONS", "", "DATASETS.TEST_IMAGES", ""]
    for command in ("analyze", "visualize"):
        assert tood(command, run_folder, "--opts", *none) == 2
        (error,) = errors()
        assert "DATASETS.TEST is empty" in error and "--annotations" in error


def test_visualize_draws_gt_boxes_and_the_head(tood, run_folder, data, tmp_path, capsys):
    line = ["--output", tmp_path / "out", "--num-images", 1, "--num-instances", 1, *data]
    assert tood("visualize", run_folder, *line) == EXIT_OK
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name.split("-", 1)[1] for file in files] == ["gt1.png", "head.png"]
    assert capsys.readouterr().out.splitlines()[-2:] == [str(file) for file in files]
    assert Image.open(files[0]).width > 500


def test_visualize_compares_models(tood, run_folder, weights, data, tmp_path):
    """Two models, one of them with other weights: two rows in a figure, a head for each."""
    config = run_folder / "config.yaml"
    line = ["--weights", weights, weights, "--num-images", 1, "--num-instances", 1, *data]
    assert tood("visualize", run_folder, config, "--output", tmp_path / "out", *line) == EXIT_OK
    names = sorted(file.name.split("-", 1)[1] for file in (tmp_path / "out").iterdir())
    assert names == ["gt1.png", "head-1.png", "head-2.png"]

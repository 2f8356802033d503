"""Exported files on the command line: evaluated and run like weights, refused elsewhere."""

import json

import numpy as np
import pytest
import torch

from tests.inference.own_truth import write_own_truth
from tood.export import ExportOptions, export_model
from tood.inference import Detector

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# AP, AP50, AP75, APs, APm, APl.
_PLACES = slice(0, 6)


@pytest.fixture(scope="module")
def truth(exported_onnx, tmp_path_factory):
    """The folder of a dataset on which the tiny model has an AP between 0 and 100."""
    folder = tmp_path_factory.mktemp("truth")
    detector = Detector(exported_onnx.model, exported_onnx.cfg)
    write_own_truth(folder, detector, [(90, 120), (130, 64), (96, 96), (110, 200)])
    return folder


@pytest.fixture(scope="module")
def config(exported_onnx, truth) -> list[str]:
    """The config of the tiny model, and its weights."""
    (truth / "config.yaml").write_text(exported_onnx.cfg.dump())
    torch.save(exported_onnx.model.state_dict(), truth / "weights.pth")
    return ["--config-file", str(truth / "config.yaml"), "--opts", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture
def dataset(truth) -> list[str]:
    return ["--annotations", str(truth / "truth.json"), "--images", str(truth / "images")]


@pytest.fixture
def read_ap(capsys):
    """Reads the last metrics that were printed."""

    def read() -> list[float]:
        lines = [x for x in capsys.readouterr().out.splitlines() if "copypaste: " in x]
        return [float(x) for x in lines[-1].rpartition(" ")[2].split(",")][_PLACES]

    return read


def test_ap_of_a_file_is_that_of_its_model(
    tood, exported_onnx, truth, config, dataset, read_ap, tmp_path
):
    """By the same evaluator: MODEL, --model, and detectron2's command line."""
    line = [*config, "MODEL.WEIGHTS", truth / "weights.pth", "--output", tmp_path / "a"]
    assert tood("eval", *line, *dataset) == 0
    expected = read_ap()
    assert 20 < expected[0] < 90
    file = exported_onnx.path
    assert tood("eval", file, *dataset, "--output", tmp_path / "b") == 0
    assert read_ap() == pytest.approx(expected, abs=1e-3, nan_ok=True)
    results = json.loads((tmp_path / "b/inference/coco_instances_results.json").read_text())
    assert {x["category_id"] for x in results} <= {1, 2, 3, 5, 8}
    more = ["--output", tmp_path / "c", "INPUT.MIN_SIZE_TEST", 64]
    assert tood("eval", "--model", file, *dataset, *more) == 0
    assert read_ap() != pytest.approx(expected, abs=1, nan_ok=True)  # images of another size
    pairs = ["DATASETS.TEST_ANNOTATIONS", dataset[1], "DATASETS.TEST_IMAGES", dataset[3]]
    line = ["--eval-only", *config, *pairs, "MODEL.WEIGHTS", file, "OUTPUT_DIR", tmp_path / "d"]
    assert tood("train", *line) == 0
    assert read_ap() == pytest.approx(expected, abs=1e-3, nan_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file_format, raw",
    [
        ("torchscript", False),
        ("torchscript", True),
        ("torch-export", False),
        ("openvino", False),
        ("openvino", True),
    ],
)
def test_ap_of_all_formats(
    tood, exported_onnx, config, truth, dataset, read_ap, tmp_path, file_format, raw
):
    if file_format == "openvino":
        pytest.importorskip("openvino")
    line = [*config, "MODEL.WEIGHTS", truth / "weights.pth", "--output", tmp_path]
    assert tood("eval", *line, *dataset) == 0
    expected = read_ap()
    options = ExportOptions(format=file_format, raw=raw)
    path = tmp_path / f"model{options.suffix}"
    export_model(exported_onnx.model, exported_onnx.cfg, path, options, verify=False)
    assert tood("eval", path, *dataset, "--output", tmp_path) == 0
    assert read_ap() == pytest.approx(expected, abs=1e-3, nan_ok=True)
    image = truth / "images" / "1.png"
    found = Detector.from_pretrained(path)(image)
    wanted = Detector(exported_onnx.model, exported_onnx.cfg)(image)
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.xyxy, wanted.xyxy, rtol=0, atol=1e-2)
    np.testing.assert_allclose(found.confidence, wanted.confidence, rtol=0, atol=1e-4)


def test_classes_of_another_dataset(tood, exported_onnx, truth, dataset, errors, tmp_path):
    content = json.loads((truth / "truth.json").read_text())
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], [*names[1:], names[0]], strict=True):
        category["name"] = name
    dataset[1] = tmp_path / "other.json"
    dataset[1].write_text(json.dumps(content))
    line = ["eval", exported_onnx.path, *dataset, "--output", tmp_path]
    assert tood(*line) == 2
    assert "MODEL.TOOD.CLASS_NAMES" in errors()[0]
    assert tood(*line, "MODEL.TOOD.CLASS_NAMES", "[]") == 2
    assert "the same classes in another order: class 0 is 'circle'" in errors()[0]
    content["categories"].append({"id": 9, "name": "more"})
    dataset[1].write_text(json.dumps(content))
    assert tood(*line, "MODEL.TOOD.CLASS_NAMES", "[]") == 2
    assert "NUM_CLASSES is 5, but" in errors()[0]


def test_detect(tood, exported_onnx, truth, errors, tmp_path):
    line = ["detect", exported_onnx.path, truth / "images", "--output", tmp_path / "out"]
    assert tood(*line, "--json", tmp_path / "found.json") == 0
    assert len(list((tmp_path / "out").iterdir())) == 4
    found = json.loads((tmp_path / "found.json").read_text())
    assert min(x["score"] for x in found) > 0.3
    assert {x["category_id"] for x in found} <= {1, 2, 3, 5, 8}
    line[1:2] = ["--model", exported_onnx.path]
    assert tood(*line, "--score-threshold", 0.01) == 2
    assert "0.01 is below that of the exported file" in errors()[0]


@pytest.mark.parametrize(
    "command",
    [
        "train {model}",
        "info {model}",
        "analyze {model}",
        "check-data {model}",
        "visualize {model} --output {folder}",
    ],
)
def test_commands_that_need_the_model_itself(tood, exported_onnx, errors, tmp_path, command):
    line = command.format(model=exported_onnx.path, folder=tmp_path).split()
    assert tood(*line) == 2
    (error,) = errors()
    assert "is an exported model, which tood detect and tood eval can run" in error


def test_no_weights_to_load(tood, exported_onnx, dataset, config, errors, tmp_path):
    """An exported file as the weights of a training, of an analysis, or to convert."""
    file = exported_onnx.path
    assert tood("convert", file, tmp_path / "out.pth") == 2
    assert "is an exported model, which holds no weights to load" in errors()[0]
    named = [*config, "MODEL.WEIGHTS", file]
    for line in (
        ["train", *named],
        ["analyze", *named, *dataset],
        ["visualize", *named, *dataset, "--output", tmp_path],
    ):
        assert tood(*line) == 2
        assert "needs the weights that it was exported from" in errors()[0]
    for more in (["--weights", "w.pth"], ["MODEL.WEIGHTS", "w.pth"]):
        assert tood("eval", file, *more) == 2
        assert "holds its weights. Leave --weights and MODEL.WEIGHTS out" in errors()[0]


def test_missing_and_foreign_files(tood, errors, tmp_path):
    (tmp_path / "page.onnx").write_text("<html>")
    for name, message in (("no.onnx", "no model file"), ("page.onnx", "is damaged, or of")):
        for command in (["eval", tmp_path / name], ["detect", tmp_path / name, "x.png"]):
            assert tood(*command) == 2
            (error,) = errors()
            assert message in error or "x.png" in error

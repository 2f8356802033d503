"""The command lines: train_net.py, demo.py, the quickstart's parts, the environment check."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model
from detectron2.utils.visualizer import Visualizer

from tests.helpers import CONFIGS, ROOT, load_program
from tood import ASSIGNER_REGISTRY
from tood.config.loading import load_config
from tood.data.registration import class_info
from tood.data.synthetic import CLASSES, write_dataset
from tood.errors import ConfigError, DataError, exit_on_user_error, user_message
from tood.inference.detector import Predictor
from tood.inference.drawing import _color, draw_detections


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=4, num_val=3, size=64)


@pytest.fixture(scope="module")
def options(shapes):
    """Options that make the quickstart's model tiny."""
    options = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"]
    options += ["MODEL.TOOD.HEAD.NUM_CONVS", "1", "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()"]
    options += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"]
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        options += [f"DATASETS.{split}_ANNOTATIONS", str(shapes / f"{name}.json")]
        options += [f"DATASETS.{split}_IMAGES", str(shapes / "images")]
    return options


CONFIG = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")


@pytest.fixture(scope="module")
def weights(options, tmp_path_factory):
    """Random weights, with scores that are spread out."""
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, options))
    model.head.tood_cls.bias.data.copy_(torch.linspace(-4, 1, 5))
    torch.nn.init.constant_(model.head.cls_prob_module[-1].bias, 1.0)
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(model.state_dict(), path)
    return str(path)


# ---- train_net.py ----------------------------------------------------------------------------


def train_net(*arguments):
    args = default_argument_parser().parse_args([str(a) for a in arguments])
    program = load_program("tood/cli/train.py")
    with exit_on_user_error():
        program.check(args)
    return program.run(args)


def test_train_resume_evaluate(options, tmp_path):
    common = ["--config-file", CONFIG, *options, "OUTPUT_DIR", tmp_path]
    train_net(*common)
    assert (tmp_path / "model_final.pth").is_file()
    saved = load_config(str(tmp_path / "config.yaml"), [])
    saved.DATASETS.TEST, saved.DATASETS.TEST_ANNOTATIONS = (), ""
    assert class_info(saved) == (list(CLASSES), [1, 2, 3, 4, 5])
    train_net("--resume", *common, "SOLVER.MAX_ITER", 3)
    rows = [json.loads(x) for x in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "total_loss" in row] == [1, 2]
    results = train_net("--eval-only", *common, "MODEL.WEIGHTS", tmp_path / "model_final.pth")
    assert "AP" in results["bbox"]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--eval-only"], "add MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS", "/nowhere.pth"], "there is no file /nowhere.pth"),
        (["MODEL.TOOD.NUM_CLASSES", "80"], "add MODEL.TOOD.NUM_CLASSES 5"),
        (["DATASETS.TRAIN_ANNOTATIONS", "/nowhere.json"], "no annotation file /nowhere.json"),
        (["MODEL.TOOD.NUM_CLASES", "5"], "NUM_CLASES"),
        (["DATASETS.TRAIN_ANNOTATIONS", ""], "TRAIN_IMAGES is given without"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(options, tmp_path, more, message, capsys):
    flags = [x for x in more if x.startswith("--")]
    rest = [x for x in more if not x.startswith("--")]
    common = ["--config-file", CONFIG, *flags, *options, "OUTPUT_DIR", tmp_path, *rest]
    with pytest.raises(SystemExit) as error:
        train_net(*common)
    assert error.value.code == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert message in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config-file", CONFIG, "--num-gpus", "64"], "--num-gpus is 64, and this machine has"),
        ([], "add --config-file"),
        (["--config-file", "/nowhere.yaml"], "no config file /nowhere.yaml"),
    ],
)
def test_wrong_command_lines(arguments, message, capsys):
    with pytest.raises(SystemExit):
        train_net(*arguments)
    assert message in capsys.readouterr().err


OWN_PART = """
from tood import ASSIGNER_REGISTRY, TaskAlignedAssigner

@ASSIGNER_REGISTRY.register()
class AssignerFromAFile(TaskAlignedAssigner):
    pass
"""


def test_parts_from_the_users_own_file(options, tmp_path):
    (tmp_path / "my_parts.py").write_text(OWN_PART)
    own = ["MODEL.TOOD.CUSTOM_IMPORTS", f"['{tmp_path / 'my_parts.py'}']"]
    own += ["MODEL.TOOD.ALIGNED.ASSIGNER", "AssignerFromAFile"]
    for _ in range(2):  # a second config of the same process imports nothing again
        model = build_model(load_config(CONFIG, [*options, *own]))
    assert type(model.phases["aligned"].assigner).__name__ == "AssignerFromAFile"
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "my_parts.py"
    second.write_text(OWN_PART.replace("AssignerFromAFile", "AssignerOfTheSameFileName"))
    load_config(CONFIG, ["MODEL.TOOD.CUSTOM_IMPORTS", f"['{second}']"])
    assert "AssignerOfTheSameFileName" in ASSIGNER_REGISTRY
    with pytest.raises(ConfigError, match="MODEL.TOOD.CUSTOM_IMPORTS names /nowhere/parts.py"):
        load_config(CONFIG, ["MODEL.TOOD.CUSTOM_IMPORTS", "['/nowhere/parts.py']"])
    with pytest.raises(ConfigError, match="MODEL.TOOD.CUSTOM_IMPORTS names no_such_module"):
        load_config(CONFIG, ["MODEL.TOOD.CUSTOM_IMPORTS", "['no_such_module']"])


def test_message_of_a_data_loaders_process():
    text = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ...\n"
    error = DataError(text + "tood.errors.DataError: the image x.png cannot be read\n")
    assert user_message(error) == "the image x.png cannot be read"
    assert user_message(DataError("plain: text")) == "plain: text"


def test_config_with_an_unknown_key(tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text("MODEL:\n  TOOD:\n    TOPK: 3\n")
    with pytest.raises(ConfigError, match="TOPK"):
        load_config(str(path), [])
    with pytest.raises(ConfigError, match="Type mismatch"):
        load_config(CONFIG, ["MODEL.TOOD.NUM_CLASSES", "many"])


# ---- demo.py ---------------------------------------------------------------------------------


def demo(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
    with exit_on_user_error():
        return load_program("tood/cli/detect.py").main()


def test_demo(monkeypatch, options, weights, shapes, tmp_path):
    """Folders, patterns and files; an unreadable one is skipped; results in COCO's format."""
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    names = sorted(p.name for p in (shapes / "images").glob("*.png"))
    for name in names[:2]:
        (folder / name).write_bytes((shapes / "images" / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not looked at")
    code = demo(
        monkeypatch,
        *("--config-file", CONFIG, "--output", tmp_path / "out", "--confidence-threshold", 0.2),
        *(
            "--input",
            tmp_path / "in",
            shapes / "images" / names[2],
            str(shapes / "images" / "*2.png"),
        ),
        *("--save-json", tmp_path / "results" / "found.json"),
        *("--opts", *options, "MODEL.WEIGHTS", weights),
    )
    assert code == 0
    drawn = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert drawn == sorted(names[:3])
    assert cv2.imread(str(tmp_path / "out" / names[0])).shape == (480, 480, 3)  # enlarged
    results = json.loads((tmp_path / "results" / "found.json").read_text())
    images = json.loads((tmp_path / "results" / "found_images.json").read_text())
    assert len(images) == 3
    assert {r["image_id"] for r in results} <= {i["id"] for i in images}
    assert results and min(r["score"] for r in results) > 0.2
    for result in results:
        x, y, w, h = result["bbox"]
        assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= 64.01 and y + h <= 64.01
        assert result["category_id"] in {1, 2, 3, 4, 5}


def test_demo_overwrites_no_original(monkeypatch, options, weights, shapes, tmp_path, capsys):
    for i in range(2):
        name = sorted((shapes / "images").glob("*.png"))[i].name
        (tmp_path / name).write_bytes((shapes / "images" / name).read_bytes())
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    common = ["--config-file", CONFIG, "--opts", *options, "MODEL.WEIGHTS", weights]
    with pytest.raises(SystemExit):
        demo(monkeypatch, "--input", *before, "--output", tmp_path, *common)
    assert "would overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    # A second run over the same folder does not take its own drawings for pictures.
    for _ in range(2):
        demo(monkeypatch, "--input", tmp_path, "--output", tmp_path / "out", *common)
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_picture_without_a_known_suffix(monkeypatch, options, weights, shapes, tmp_path):
    (tmp_path / "picture").write_bytes(next((shapes / "images").glob("*.png")).read_bytes())
    common = ["--config-file", CONFIG, "--opts", *options, "MODEL.WEIGHTS", weights]
    assert demo(monkeypatch, "--input", tmp_path / "picture", "--output", tmp_path, *common) == 0
    assert (tmp_path / "picture.png").is_file()


def test_the_threshold_is_applied(monkeypatch, options, weights, shapes, tmp_path):
    counts = []
    for threshold in (0.05, 0.5, 0.99):
        demo(
            monkeypatch,
            *("--config-file", CONFIG, "--output", tmp_path),
            *("--input", next((shapes / "images").glob("*.png"))),
            *("--confidence-threshold", threshold, "--save-json", tmp_path / "r.json"),
            *("--opts", *options, "MODEL.WEIGHTS", weights, "TEST.DETECTIONS_PER_IMAGE", 10000),
        )
        counts.append(len(json.loads((tmp_path / "r.json").read_text())))
    assert counts[0] > counts[1] > counts[2] == 0


def test_demo_without_a_readable_picture(monkeypatch, options, weights, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    code = demo(
        monkeypatch,
        *("--config-file", CONFIG, "--output", tmp_path / "out"),
        *("--input", tmp_path / "broken.jpg"),
        *("--opts", *options, "MODEL.WEIGHTS", weights),
    )
    assert code == 1


@pytest.mark.parametrize(
    "name, opts, message",
    [("*.nothing", [], "names no picture"), (None, None, "add MODEL.WEIGHTS")],
)
def test_demo_errors(monkeypatch, options, weights, shapes, tmp_path, name, opts, message, capsys):
    with pytest.raises(SystemExit) as error:
        demo(
            monkeypatch,
            *("--config-file", CONFIG, "--output", tmp_path),
            *("--input", tmp_path / name if name else shapes / "images"),
            *("--opts", *options, *(["MODEL.WEIGHTS", weights] if name else [])),
        )
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_predictor_reads_bgr(options, weights):
    """The model gets RGB, whatever OpenCV gave; boxes are in pixels of the picture."""
    cfg = load_config(CONFIG, [*options, "MODEL.WEIGHTS", weights])
    predictor = Predictor(cfg)
    seen = []
    predictor.model.preprocess_image, original = (
        lambda batch: seen.append(batch[0]["image"]) or original(batch),
        predictor.model.preprocess_image,
    )
    picture = np.zeros((128, 256, 3), np.uint8)
    picture[..., 2] = 200  # red
    instances = predictor(picture)
    assert seen[0].shape == (3, 64, 128) and (seen[0][0] == 200).all() and (seen[0][2] == 0).all()
    assert instances.image_size == (128, 256)
    drawn = draw_detections(picture, instances, class_info(cfg)[0])
    assert drawn.shape == picture.shape and drawn.dtype == np.uint8


def test_class_colors_are_valid():
    visualizer = Visualizer(np.zeros((8, 8, 3), np.uint8))
    for index in range(180):
        lighter = visualizer._change_color_brightness(_color(index), brightness_factor=0.7)
        assert min(lighter) >= 0 and max(lighter) <= 1 - 1e-3


def test_names_and_ids_without_a_dataset(tiny_cfg):
    tiny_cfg.DATASETS.TEST = ()
    names, ids = class_info(tiny_cfg)
    assert names[:2] == ["class 0", "class 1"] and ids == [1, 2, 3, 4, 5]
    names, ids = class_info(load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), []))
    assert names[0] == "person" and ids[-1] == 90  # COCO's own


def test_names_from_the_test_set(options):
    assert class_info(load_config(CONFIG, options))[0] == list(CLASSES)


# ---- the quickstart's parts -------------------------------------------------------------------


def test_plot_and_metrics_of_the_quickstart(tmp_path):
    quickstart = load_program("tood/cli/quickstart.py")
    rows = [
        {"iteration": i, "loss_cls": 1.0, "loss_box_reg": 2.0, "bbox/AP": float(i)}
        for i in (19, 39)
    ]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"iteration": 59, "loss'
    (tmp_path / "metrics.json").write_text(text)
    assert quickstart.read_metrics(tmp_path / "metrics.json") == rows
    assert quickstart.read_metrics(tmp_path / "missing.json") == []
    quickstart.plot(rows, 30, tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")) is not None


# ---- the environment -------------------------------------------------------------------------


def python(code: str, path: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that finds ``path`` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([path, str(ROOT)])}
    return subprocess.run(
        [sys.executable, *code.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=path,
    )


@pytest.mark.parametrize(
    "package, content, messages",
    [
        (
            "torchvision",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            ["does not match torch", "pip install --force-reinstall torch torchvision"],
        ),
        (
            "detectron2",
            "raise ModuleNotFoundError(\"No module named 'detectron2'\", name='detectron2')",
            ["tools/install_detectron2.py", "pip install --no-build-isolation"],
        ),
        (
            "torch",
            "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')",
            ["pip install torch torchvision"],
        ),
    ],
)
def test_missing_or_mismatched_packages(tmp_path, package, content, messages):
    (tmp_path / f"{package}.py").write_text(content)
    done = python("-m tood.cli.check_env", str(tmp_path))
    assert done.returncode == 1
    for message in messages:
        assert message in done.stderr


def test_check_prints_versions_and_one_pass(tmp_path):
    done = python("-W ignore -m tood.cli.check_env", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for word in ("Python", "torch", "CUDA", "torchvision", "detectron2", "forward and backward"):
        assert word in done.stdout


def test_setup_imports_no_torch(tmp_path):
    """An isolated build has none."""
    for name in ("torch", "detectron2"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')")
    done = python(f"{ROOT / 'setup.py'} --version", str(tmp_path))
    assert done.returncode == 0 and done.stdout.split()[-1] == "0.1.0", done.stderr

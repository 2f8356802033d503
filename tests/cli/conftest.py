"""A tiny dataset, a tiny model, and ``tood`` in this process."""

import shutil
from collections.abc import Callable

import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import CONFIGS
from tood.config import load_config
from tood.data.synthetic import write_dataset
from tood_runtime.cli import main

CONFIG = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")


@pytest.fixture
def tood() -> Callable[..., int]:
    """Runs a command in this process and returns its exit code."""

    def run(*arguments: object) -> int:
        try:
            return main([str(argument) for argument in arguments])
        except SystemExit as end:
            return end.code

    return run


@pytest.fixture
def errors(capsys) -> Callable[[], list[str]]:
    """Returns the error lines that were printed since the last call."""
    return lambda: [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]


@pytest.fixture(scope="session")
def config() -> str:
    """The quickstart's config."""
    return CONFIG


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """The folder of a dataset of 4 training and 3 test images."""
    return write_dataset(tmp_path_factory.mktemp("shapes"), num_train=4, num_val=3, size=64)


@pytest.fixture(scope="session")
def options(shapes) -> list[str]:
    """Config options that make the quickstart's model tiny, and name the dataset."""
    options = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"]
    options += ["MODEL.TOOD.HEAD.NUM_CONVS", "1", "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()"]
    options += ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"]
    options += ["TEST.REPORT", "False"]
    for split, name in (("TRAIN", "train"), ("TEST", "val")):
        options += [f"DATASETS.{split}_ANNOTATIONS", str(shapes / f"{name}.json")]
        options += [f"DATASETS.{split}_IMAGES", str(shapes / "images")]
    return options


@pytest.fixture(scope="session")
def weights(options, tmp_path_factory) -> str:
    """A file of random weights whose scores are spread out."""
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, options))
    model.head.tood_cls.bias.data.copy_(torch.linspace(-4, 1, 5))
    torch.nn.init.constant_(model.head.cls_prob_module[-1].bias, 1.0)
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.fixture
def run_folder(options, weights, tmp_path):
    """A training run's folder, as ``tood train`` leaves it."""
    folder = tmp_path / "my-run"
    folder.mkdir()
    (folder / "config.yaml").write_text(load_config(CONFIG, options).dump())
    shutil.copy(weights, folder / "model_final.pth")
    return folder

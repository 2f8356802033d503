"""What training and evaluation check first, and that no config in use is refused."""

from pathlib import Path

import detectron2
import pytest
from detectron2.config import get_cfg
from detectron2.utils import comm

from tests.helpers import CONFIGS
from tood.config import add_tood_config, load_config
from tood.config.files import config_names
from tood.config.validation import validate_model, validate_solver, validate_test
from tood.errors import ConfigError

PACKAGE = Path(detectron2.__file__).parent
# In a wheel, and in a checkout.
DETECTRON2_CONFIGS = next(
    folder
    for folder in (PACKAGE / "model_zoo" / "configs", PACKAGE.parent / "configs")
    if folder.is_dir()
)


@pytest.mark.parametrize("name", config_names())
def test_our_configs_pass(name):
    cfg = load_config(name, ["MODEL.DEVICE", "cpu"])
    validate_solver(cfg)
    validate_model(cfg)


def test_there_are_configs_of_both_projects():
    assert len(config_names()) > 30 and CONFIGS.is_dir()
    assert len(list(DETECTRON2_CONFIGS.glob("COCO-Detection/*.yaml"))) >= 10


@pytest.mark.parametrize(
    "folder",
    [path.name for path in sorted(DETECTRON2_CONFIGS.iterdir()) if any(path.glob("*.yaml"))],
)
def test_detectron2s_configs_pass(folder):
    """Our trainer trains detectron2's own detectors too."""
    for path in sorted((DETECTRON2_CONFIGS / folder).glob("*.yaml")):
        cfg = get_cfg()
        add_tood_config(cfg)
        cfg.merge_from_file(str(path))
        cfg.TEST.AUG.ENABLED = False
        validate_solver(cfg)


def test_test_time_augmentation(tiny_cfg):
    tiny_cfg.TEST.AUG.ENABLED = True
    validate_solver(tiny_cfg)
    with pytest.raises(ConfigError, match="exported file has no test-time augmentation"):
        validate_test(tiny_cfg, build_model=False)
    tiny_cfg.TEST.AUG.MIN_SIZES = ()
    for validate in (validate_test, validate_solver):
        with pytest.raises(ConfigError, match=r"AUG\.MIN_SIZES is \(\), but must be a non-empty"):
            validate(tiny_cfg)
    tiny_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    with pytest.raises(ConfigError, match=r"AUG\.ENABLED is True, but MODEL\.META_ARCHITECTURE is"):
        validate_test(tiny_cfg)


def test_amp_needs_a_gpu(tiny_cfg):
    tiny_cfg.SOLVER.AMP.ENABLED = True
    with pytest.raises(
        ConfigError, match=r"SOLVER\.AMP\.ENABLED is True, but MODEL\.DEVICE is cpu"
    ):
        validate_solver(tiny_cfg)
    tiny_cfg.MODEL.DEVICE = "cuda"
    validate_solver(tiny_cfg)


@pytest.mark.parametrize(
    "batch, reference, gpus, message",
    [
        (16, 8, 1, None),
        (16, 0, 4, None),
        (3, 8, 1, "is 3, which does not divide among the 8 GPUs that the config is written for"),
        (3, 0, 2, "is 3, which does not divide among 2 GPUs"),
    ],
)
def test_batch_size_divides_among_gpus(tiny_cfg, batch, reference, gpus, message, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: gpus)
    tiny_cfg.SOLVER.IMS_PER_BATCH, tiny_cfg.SOLVER.REFERENCE_WORLD_SIZE = batch, reference
    if message is None:
        validate_solver(tiny_cfg)
        return
    with pytest.raises(ConfigError, match=message):
        validate_solver(tiny_cfg)

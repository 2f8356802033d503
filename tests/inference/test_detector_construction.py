"""Where a Detector gets its model from."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import CONFIGS
from tood.checkpoint import CheckpointInfo, TOODCheckpointer
from tood.config.loading import load_config
from tood.errors import CheckpointError, ConfigError
from tood.inference import Detector


@pytest.fixture(scope="module")
def run_folder(cfg, tmp_path_factory):
    """What a training run leaves behind."""
    folder = tmp_path_factory.mktemp("run")
    saved = cfg.clone()
    saved.MODEL.WEIGHTS = "detectron2://somewhere/R-18.pkl"
    (folder / "config.yaml").write_text(saved.dump())
    torch.save({"model": torch.load(cfg.MODEL.WEIGHTS)}, folder / "model_final.pth")
    return folder


def test_from_a_runs_folder(assert_same, detector, run_folder, image):
    assert_same(Detector.from_pretrained(run_folder)(image), detector(image))
    assert_same(Detector.from_pretrained(str(run_folder), device="cpu")(image), detector(image))


def test_from_a_config_file_with_weights(assert_same, detector, cfg, run_folder, image):
    config = run_folder / "config.yaml"
    found = Detector.from_pretrained(config, weights=cfg.MODEL.WEIGHTS)(image)
    assert_same(found, detector(image))


def test_from_one_checkpoint(assert_same, detector, cfg, tmp_path, image):
    """Without its run's folder: the file holds the config, the names and the ids."""
    num_classes = cfg.MODEL.TOOD.NUM_CLASSES
    names, ids = [f"thing {i}" for i in range(num_classes)], list(range(5, 5 + num_classes))
    saved = cfg.clone()
    saved.MODEL.TOOD.CLASS_NAMES, saved.MODEL.TOOD.CATEGORY_IDS = [], []
    info = CheckpointInfo(saved.dump(), names, ids)
    checkpointer = TOODCheckpointer(detector.model, str(tmp_path), info=lambda: info)
    path = checkpointer.save("model_final", iteration=9).rename(tmp_path / "renamed.pth")
    found = Detector.from_pretrained(path, device="cpu")
    assert (found.class_names, found.category_ids) == (names, ids)
    assert found.cfg.MODEL.WEIGHTS == str(path)
    detections = found(image)
    assert np.array_equal(detections.xyxy, detector(image).xyxy)
    with pytest.raises(ConfigError, match="--config-file"):
        Detector.from_pretrained(cfg.MODEL.WEIGHTS)


def test_from_a_model_zoo_name(tmp_path):
    """The name gives config and classes; weights of your own replace the published ones."""
    model = build_model(load_config(str(CONFIGS / "TOOD-R50-1x.yaml"), ["MODEL.DEVICE", "cpu"]))
    torch.save(model.state_dict(), tmp_path / "w.pth")
    detector = Detector.from_pretrained("TOOD-R50-1x", weights=tmp_path / "w.pth", device="cpu")
    assert detector.class_names[0] == "person" and detector.category_ids[-1] == 90
    assert detector.cfg.MODEL.WEIGHTS == str(tmp_path / "w.pth")
    assert not detector.model.training


def test_wrong_construction(cfg, run_folder, tmp_path):
    with pytest.raises(ConfigError, match="TOOD-R50"):
        Detector.from_pretrained("TOOD-R50")
    (tmp_path / "config.yaml").write_text((run_folder / "config.yaml").read_text())
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Detector.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        Detector.from_pretrained(run_folder, weights=tmp_path / "nowhere.pth")
    empty = cfg.clone()
    empty.MODEL.WEIGHTS = ""
    with pytest.raises(CheckpointError, match="MODEL.WEIGHTS"):
        Detector.from_config(empty)


def test_devices(cfg, run_folder, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_gpu = cfg.clone()
    on_gpu.MODEL.DEVICE = "cuda"
    on_gpu.freeze()
    detector = Detector.from_config(on_gpu)
    assert detector.model.device.type == "cpu" and on_gpu.MODEL.DEVICE == "cuda"
    caplog.clear()
    detector = Detector.from_pretrained(run_folder, device="cuda:3")
    assert detector.cfg.MODEL.DEVICE == "cpu"
    assert [record.message for record in caplog.records if "GPU" in record.message] == [
        "No GPU is available. Using the device cpu, not cuda:3."
    ]
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        Detector.from_pretrained(run_folder, device="gpu")

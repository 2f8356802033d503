"""Programs that people use with detectron2 models, run on a model of this project."""

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from tests.export.helpers import make_confident
from tood.config import load_config
from tood.inference import Detector


@pytest.fixture(scope="module")
def run_folder(cfg, tmp_path_factory):
    """What a training leaves: config.yaml with the classes, and model_final.pth."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = make_confident(build_model(cfg))
    own = cfg.clone()
    own.MODEL.WEIGHTS = ""
    (folder / "config.yaml").write_text(own.dump())
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    return folder


def load_in_sahi(folder):
    """As in docs/guides/detect.md."""
    sahi = pytest.importorskip("sahi")
    pytest.importorskip("detectron2.model_zoo")  # upstream's needs an old setuptools
    names = load_config(str(folder / "config.yaml")).MODEL.TOOD.CLASS_NAMES
    model = sahi.AutoDetectionModel.from_pretrained(
        model_type="detectron2",
        model_path=str(folder / "model_final.pth"),
        config_path=str(folder / "config.yaml"),
        category_mapping={str(i): name for i, name in enumerate(names)},
        confidence_threshold=0.3,
        device="cpu",
    )
    model.model.input_format = None  # SAHI passes RGB already; do not reverse it
    return model


def test_sahi(run_folder, image):
    model = load_in_sahi(run_folder)
    from sahi.predict import get_prediction

    found = get_prediction(image, model).object_prediction_list
    expected = Detector.from_pretrained(run_folder)(image, score_threshold=0.3)
    assert len(found) == len(expected) > 5
    assert [one.category.name for one in found] == expected.class_names
    scores = [one.score.value for one in found]
    np.testing.assert_allclose(scores, expected.confidence, atol=1e-5)
    boxes = [one.bbox.to_xyxy() for one in found]
    np.testing.assert_allclose(boxes, expected.xyxy, atol=0.01)


def test_sahi_reverses_the_channels_of_models_in_rgb(run_folder, image):
    """Why the guide sets ``input_format``: without it the model sees BGR."""
    model = load_in_sahi(run_folder)
    from sahi.predict import get_prediction

    model.model.input_format = "RGB"  # as it is by default
    found = get_prediction(image, model).object_prediction_list
    detector = Detector.from_pretrained(run_folder)
    reversed_ones = detector(image, score_threshold=0.3, channel_order="BGR")
    np.testing.assert_allclose(
        [one.score.value for one in found], reversed_ones.confidence, atol=1e-5
    )


def test_sahi_slices(run_folder, image):
    model = load_in_sahi(run_folder)
    from sahi.predict import get_sliced_prediction

    large = np.tile(image, (2, 2, 1))
    found = get_sliced_prediction(large, model, slice_height=120, slice_width=200, verbose=0)
    assert len(found.object_prediction_list) > 5


def test_default_predictor(run_folder, image):
    weights = str(run_folder / "model_final.pth")
    cfg = load_config(str(run_folder / "config.yaml"), ["MODEL.WEIGHTS", weights])
    instances = DefaultPredictor(cfg)(image[:, :, ::-1])["instances"]
    expected = Detector.from_pretrained(run_folder)(
        image, score_threshold=cfg.MODEL.TOOD.SCORE_THRESH_TEST
    )
    np.testing.assert_array_equal(instances.scores.numpy(), expected.confidence)

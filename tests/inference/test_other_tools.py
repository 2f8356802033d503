"""Programs that people use with detectron2 models, run on a model of this project."""

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetMapper, build_detection_test_loader
from detectron2.engine import DefaultPredictor
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from PIL import Image

from tests.checkpoint.builders import META
from tests.export.helpers import make_confident
from tood.checkpoint.key_mapping import from_tood_keys
from tood.config import load_config
from tood.errors import CheckpointError
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


@pytest.fixture
def pixel_limit(monkeypatch):
    """SAHI switches Pillow's limit off when it is imported, for the whole process."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


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


def test_sahi(run_folder, image, pixel_limit):
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


def test_sahi_reverses_the_channels_of_models_in_rgb(run_folder, image, pixel_limit):
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


def test_sahi_slices(run_folder, image, pixel_limit):
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


def in_layout(layout: str, weights: dict[str, torch.Tensor]) -> object:
    """The contents of a file that another program wrote."""
    mmdet, authors = (from_tood_keys(weights, name) for name in ("mmdet", "authors"))
    return {
        "bare": weights,
        "DataParallel": {f"module.{key}": value for key, value in weights.items()},
        "Lightning": {"state_dict": {f"model.{key}": value for key, value in weights.items()}},
        "mmdet": {"meta": META, "state_dict": mmdet, "optimizer": {"state": {}}},
        "mmdet, bare": mmdet,
        "mmdet, EMA": {"state_dict": {**mmdet, **{f"ema_{k}": v for k, v in mmdet.items()}}},
        "authors": {"meta": META, "state_dict": authors},
        "authors, bare": authors,
        "authors, as model": {"model": authors, "iteration": 9},
    }[layout]


LAYOUTS = ["bare", "DataParallel", "Lightning", "mmdet", "mmdet, bare", "mmdet, EMA", "authors",
           "authors, bare", "authors, as model"]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_default_predictor_reads_all_layouts(run_folder, image, tmp_path, layout):
    """It loads weights with detectron2's own checkpointer."""
    weights = torch.load(run_folder / "model_final.pth")["model"]
    torch.save(in_layout(layout, weights), tmp_path / "file.pth")
    cfg = load_config(run_folder / "config.yaml", ["MODEL.WEIGHTS", str(tmp_path / "file.pth")])
    predictor = DefaultPredictor(cfg)
    loaded = predictor.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    scores = predictor(image[:, :, ::-1])["instances"].scores.numpy()
    expected = Detector.from_pretrained(run_folder)(
        image, score_threshold=cfg.MODEL.TOOD.SCORE_THRESH_TEST
    )
    np.testing.assert_array_equal(scores, expected.confidence)
    assert len(scores) > 5


def test_default_predictor_refuses_what_does_not_match(run_folder, tmp_path):
    """Where detectron2 would detect noise, after a warning."""
    weights = from_tood_keys(torch.load(run_folder / "model_final.pth")["model"], "mmdet")
    file = tmp_path / "file.pth"
    options = ["MODEL.WEIGHTS", str(file)]
    config = run_folder / "config.yaml"
    backbone = {k.removeprefix("backbone."): v for k, v in weights.items() if "backbone" in k}
    for contents, opts, message in (
        ({"state_dict": weights}, ["MODEL.TOOD.NUM_CLASSES", 3], "number of classes seems to diff"),
        ({"state_dict": weights}, ["MODEL.RESNETS.DEPTH", 34], "does not match the model"),
        (backbone, [], "holds only a backbone"),
        ({"model": {"conv.weight": torch.zeros(1)}}, [], "the weights of another model"),
    ):
        torch.save(contents, file)
        names = ["MODEL.TOOD.CLASS_NAMES", [], "MODEL.TOOD.CATEGORY_IDS", []]
        with pytest.raises(CheckpointError, match=message):
            DefaultPredictor(load_config(config, [*options, *names, *opts]))


def test_inference_on_dataset(run_folder, image, tmp_path):
    """detectron2's own evaluation loop, with its loader and evaluator."""
    names = [f"{i}.png" for i in range(3)]
    for i, name in enumerate(names):
        Image.fromarray(np.roll(image, 40 * i, axis=1)).save(tmp_path / name)
    records = [
        {"file_name": str(tmp_path / name), "image_id": i, "height": 120, "width": 200}
        for i, name in enumerate(names)
    ]
    cfg = load_config(run_folder / "config.yaml")
    model = build_model(cfg)
    DetectionCheckpointer(model).load(str(run_folder / "model_final.pth"))
    mapper = DatasetMapper(cfg, is_train=False)
    loader = build_detection_test_loader(records, mapper=mapper, num_workers=0)

    class Collect(DatasetEvaluator):
        def reset(self):
            self.found = {}

        def process(self, inputs, outputs):
            for one, output in zip(inputs, outputs, strict=True):
                self.found[one["file_name"]] = output["instances"].scores.numpy()

        def evaluate(self):
            return self.found

    found = inference_on_dataset(model, loader, Collect())
    assert list(found) == [record["file_name"] for record in records]
    detector = Detector.from_pretrained(run_folder)
    threshold = cfg.MODEL.TOOD.SCORE_THRESH_TEST
    for path, scores in found.items():
        expected = detector(path, score_threshold=threshold)
        np.testing.assert_allclose(scores, expected.confidence, atol=1e-6)
        assert len(scores) > 5

"""tools.reference: the recipe that the golden files were computed with, and MMDetection."""

import numpy as np
import pytest
import torch

from tests.helpers import golden, published_keys, published_model
from tood.errors import ConfigError, DataError
from tood.model_zoo import MODELS
from tools.reference import compare, mmdet, write_golden
from tools.reference.outputs import ModelOutputs
from tools.reference.recipe import random_images, random_projection, recipe_input, recipe_tensor


def test_recipe_is_deterministic_and_exact_in_float16():
    for name, shape in list(published_keys("TOOD-R50-1x")["state_dict"].items())[:20]:
        values = recipe_tensor(name, shape)
        assert values.shape == tuple(shape)
        np.testing.assert_array_equal(values, recipe_tensor(name, shape))
        np.testing.assert_array_equal(values, values.astype(np.float16).astype(values.dtype))
    assert recipe_input("x", (2, 3)).tolist() != recipe_input("y", (2, 3)).tolist()


def test_projection_depends_on_every_value():
    array = np.ones((3, 4))
    before = random_projection("x", array)
    array[1, 2] += 1e-3
    assert before != random_projection("x", array)


def test_images_are_those_of_the_golden_file():
    expected = golden("published_models.npz")
    for i, image in enumerate(random_images()):
        np.testing.assert_array_equal(image[..., ::-1], expected[f"image{i}"])


def outputs(offset=0.0, label=1):
    """A model's outputs, shifted by an offset."""
    values = torch.linspace(0, 1, 8).view(2, 1, 2, 2) + offset
    detections = [(torch.ones(1, 4) + offset, torch.ones(1), torch.tensor([label]))]
    updates = {"warmup": {"weight": torch.ones(3) + offset}}
    return ModelOutputs([values], [values], [values], detections, {"loss": 2 + offset}, updates)


def test_table_has_the_largest_differences():
    assert compare.table_row(outputs(0.5), outputs()) == [
        "5e-01", "5e-01", "5e-01", "1", "5e-01", "2e-01", "5e-01", "5e-01",
    ]  # fmt: skip
    row = compare.table_row(outputs(label=2), outputs())
    assert row[3:5] == ["differ", "-"]


def test_images_are_resized_to_their_short_side(tmp_path):
    from PIL import Image

    Image.new("RGB", (80, 40), (255, 0, 0)).save(tmp_path / "red.png")
    (image,) = compare.read_images([str(tmp_path / "red.png")], 20)
    assert image.shape == (20, 40, 3) and (image == (255, 0, 0)).all()


def test_one_file_of_weights_for_one_model():
    with pytest.raises(DataError, match="Select it with --config"):
        compare.main(["--weights", "model.pth"])


def test_every_published_model_has_a_reference():
    assert list(mmdet.MMDET_CONFIGS) == [model.name for model in MODELS]


def test_missing_mmdetection(monkeypatch):
    monkeypatch.setattr(mmdet.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install"):
        mmdet.build_reference("TOOD-R50-1x", published_model("TOOD-R50-1x"))


def test_summary_of_outputs():
    arrays = write_golden.summarize(outputs(), "model")
    assert set(arrays) == {
        "model/loss", "model/detections0/boxes", "model/detections0/scores",
        "model/detections0/classes", "model/warmup/names", "model/warmup/updates",
    }  # fmt: skip
    assert arrays["model/warmup/updates"][0, 0] == pytest.approx(3**0.5)


@pytest.mark.mmdet
def test_ablation_golden_file_is_reproduced():
    pytest.importorskip("mmdet")
    expected = golden("ablations.npz")
    actual = write_golden.ablation_arrays()
    assert set(actual) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(actual[key], values, rtol=1e-4, atol=1e-6, err_msg=key)

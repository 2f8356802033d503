"""Whole models against MMDetection 3.3.0: detections, losses, and a step of SGD in both phases.

tests/golden/published_models.npz has MMDetection's numbers for two random images of different sizes
(so with padding), computed in float64 by `python -m tools.reference.compare --golden FILE`.
"""

import numpy as np
import pytest
import torch
from detectron2.modeling import FPN, build_model
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances

from tests.helpers import GOLDEN, PUBLISHED, golden, published_cfg, recipe_weights
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import from_tood_keys
from tood.modeling.backbone import ChannelsLastFPN
from tools.reference.recipe import random_projection


def model_params(slow):
    """The distinct models; those of ``slow`` in the slow tests."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in slow else ())
        for name in PUBLISHED
        if name != "TOOD-R50-2x"
    ]


# The parts of these are those of the same models with DCN.
SLOW = ("TOOD-R101-2x", "TOOD-X101-64x4d-2x")
# A step takes it longer than all others together.
SLOW_STEPS = (*SLOW, "TOOD-X101-64x4d-DCN-2x")
PHASES = ("warmup", "aligned")


def on_gpu(test):
    """Mark a test that needs a GPU."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    return pytest.mark.gpu(skip(test))


@pytest.fixture(scope="module", params=model_params(SLOW))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def expected():
    return golden("published_models.npz")


@pytest.fixture(scope="module")
def model(name, tmp_path_factory):
    """The config's model with the recipe's weights, read from a file with MMDetection's names."""
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"state_dict": recipe_weights(name)}, path)
    model = build_model(published_cfg(name))
    TOODCheckpointer(model, strict=True).load(str(path))
    path.unlink()
    return model


@pytest.fixture
def inputs(expected):
    batch = []
    for i in (0, 1):
        image = expected[f"image{i}"]
        instances = Instances(image.shape[:2])
        instances.gt_boxes = Boxes(torch.from_numpy(expected[f"boxes{i}"]))
        instances.gt_classes = torch.from_numpy(expected[f"classes{i}"])
        rgb = torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())
        batch.append({"image": rgb, "instances": instances})
    return batch


def noise_of(name: str) -> float:
    """How much more rounding does in a model: chains of deformable layers amplify it.

    MMDetection's own numbers move as much when its input changes by 1e-7
    (docs/background/fidelity.md).
    """
    return 10.0 if "DCN" in name else 1.0


def assert_detects_alike(model, name, inputs, expected):
    """Unclipped, as MMDetection's are: the same boxes in the same order."""
    with torch.no_grad():
        images = model.eval().preprocess_image(inputs)
        _, predictions = model.predict(model.backbone(images.tensor))
        found = model.detect(predictions, [None, None])
    for i, detections in enumerate(found):
        theirs = {key: expected[f"{name}/detections{i}/{key}"] for key in ("boxes", "scores")}
        classes = torch.from_numpy(expected[f"{name}/detections{i}/classes"])
        assert len(classes) == 100 and torch.equal(detections.classes.cpu(), classes)
        for key, tolerance in (("scores", 2e-6), ("boxes", 2e-3)):
            difference = np.abs(getattr(detections, key).cpu().numpy() - theirs[key]).max()
            assert difference < tolerance * noise_of(name), key


def test_detections(name, model, inputs, expected):
    assert_detects_alike(model, name, inputs, expected)


@pytest.mark.parametrize("phase", PHASES)
def test_losses(name, model, inputs, expected, phase):
    """Through the public contract, in float32."""
    model.train().set_phase(phase)
    with torch.no_grad():
        losses = model(inputs)
    assert set(losses) == {"loss_cls", "loss_box_reg"}
    for key, loss in losses.items():
        reference = expected[f"{name}/{phase}/{key}"].item()
        assert loss.item() == pytest.approx(reference, rel=1e-5 * noise_of(name))


@pytest.mark.slow  # half a minute; test_amp.py compares the head in the fast tests
@pytest.mark.parametrize("name", ["TOOD-R50-1x"], indirect=True)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float16, 0.01), (torch.bfloat16, 0.03)])
def test_losses_under_amp(name, model, inputs, expected, phase, dtype, tolerance):
    """bfloat16 rounds the whole backbone.

    docs/background/fidelity.md has what that does to other models.
    """
    model.train().set_phase(phase)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        losses = model(inputs)
    for key, loss in losses.items():
        reference = expected[f"{name}/{phase}/{key}"].item()
        assert loss.item() == pytest.approx(reference, rel=tolerance)


def assert_moves_alike(model, name, inputs, expected, phase, tolerance):
    """Each parameter moves as MMDetection's does in a step of SGD; the model is as before then."""
    model.train().set_phase(phase)
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    sum(model(inputs).values()).backward()
    optimizer = build_optimizer(published_cfg(name), model)
    optimizer.step()
    optimizer.zero_grad()
    updates = {key: (value - before[key]).detach().cpu() for key, value in model.named_parameters()}
    model.load_state_dict(before)
    # The new weights were rounded, by half a unit in the last place of each.
    rounding = {key: before[key].norm() * torch.finfo(before[key].dtype).eps for key in updates}
    updates, rounding = from_tood_keys(updates, "mmdet"), from_tood_keys(rounding, "mmdet")
    names = expected[f"{name}/{phase}/names"].tolist()
    moved = 0
    for key, (norm, dot) in zip(names, expected[f"{name}/{phase}/updates"], strict=True):
        if key not in updates:  # frozen: no parameter here, and it did not move there
            assert norm == 0, key
            continue
        update, resolution = updates[key].double().numpy(), rounding[key].item()
        assert np.linalg.norm(update) == pytest.approx(norm, rel=tolerance, abs=resolution), key
        projection = random_projection(f"step:{key}", update)
        assert projection == pytest.approx(dot, abs=tolerance * norm + 3 * resolution), key
        moved += norm > 0
    assert moved == sum(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", ["TOOD-R50-1x", "TOOD-R50-AnchorBased-1x"], indirect=True)
@pytest.mark.parametrize("phase", PHASES)
def test_step_of_sgd_in_float32(name, model, inputs, expected, phase, monkeypatch):
    """Where rounding is not amplified by deformable layers, and sums go in the reference's order.

    With channels last the backbone sums in another one. What an order decides is how a ReLU near 0
    goes, and that moves the gradient: docs/background/fidelity.md measures it on the reference
    itself.
    """
    monkeypatch.setattr(ChannelsLastFPN, "forward", FPN.forward)
    assert_moves_alike(model, name, inputs, expected, phase, 2e-5)


@pytest.fixture
def in_float64(monkeypatch):
    """Everything in float64, where rounding cannot make a ReLU go the other way."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self.double())
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def to_float64(inputs):
    for x in inputs:
        x["image"] = x["image"].double()
        x["instances"].gt_boxes.tensor = x["instances"].gt_boxes.tensor.double()


@pytest.mark.parametrize("name", model_params(SLOW_STEPS), indirect=True)
@pytest.mark.parametrize("phase", PHASES)
def test_step_of_sgd(name, model, inputs, expected, phase, in_float64):
    to_float64(inputs)
    assert_moves_alike(model.double(), name, inputs, expected, phase, 1e-5)
    model.to(torch.float32)  # the recipe's values are exact in either


@on_gpu
def test_detections_on_a_gpu(name, model, inputs, expected):
    """Without TF32, in which PyTorch computes convolutions on a GPU by default."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert_detects_alike(model.cuda(), name, inputs, expected)
    model.cpu()


@on_gpu
@pytest.mark.parametrize("phase", PHASES)
def test_step_of_sgd_on_a_gpu(name, model, inputs, expected, phase, in_float64):
    to_float64(inputs)
    assert_moves_alike(model.double().cuda(), name, inputs, expected, phase, 1e-5)
    model.to("cpu", torch.float32)


def test_golden_file_is_whole(expected):
    assert (GOLDEN / "published_models.npz").stat().st_size < 400_000
    assert {key.split("/")[0] for key in expected if "/" in key} == set(PUBLISHED)

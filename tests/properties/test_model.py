"""The whole model: mirrored images, the order of a batch, memory formats and precision.

Tolerances are for float32, in which sums of some hundred products in another order differ by about
1e-6 of their size: scores are below 1, and boxes reach some hundred pixels.
"""

import functools

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import make_tiny_cfg
from tests.properties.mirroring import STRIDES, build_pooled_model, mirrored
from tests.properties.strategies import fewer_examples, generator, image_boxes, seeds, uniform
from tood.modeling.structures import DensePredictions

SCORES = {"rtol": 0, "atol": 1e-5}
PIXELS = {"rtol": 0, "atol": 1e-3}
# Divisible by the largest stride, so that the grids of all levels are their own mirror images. No
# map has a single cell, where GroupNorm's two values per group may be so close that it multiplies
# their rounding.
sizes = st.sampled_from([(128, 256), (256, 128), (256, 256)])
SIZES = {"pooled": (128, 256), "resnet": (128, 128)}

PARALLEL = ["MODEL.TOOD.HEAD.NAME", "ParallelHead", "MODEL.TOOD.PARALLEL_HEAD.WITH_TAP", False]
CENTERNESS = ["MODEL.TOOD.PARALLEL_HEAD.CENTERNESS", True]
CENTERNESS += ["MODEL.TOOD.ALIGNED.ASSIGNER", "ATSSAssigner"]
CENTERNESS += ["MODEL.TOOD.ALIGNED.CRITERION", "CenternessFocalCriterion"]
ANCHOR_BASED = ["MODEL.TOOD.ANCHOR_TYPE", "anchor_based"]
LINEAR = ["MODEL.TOOD.ANCHOR_TYPE", "anchor_free_linear"]
HEADS = {
    "tood": [],
    "tood-anchor-based": ANCHOR_BASED,
    "tood-dcn": ["MODEL.TOOD.HEAD.NUM_DCN", 1],
    "parallel": PARALLEL,
    "parallel-centerness": [*PARALLEL, *CENTERNESS],
    "parallel-linear": [*PARALLEL, *LINEAR],
}


@functools.lru_cache
def pooled_model(name: str) -> torch.nn.Module:
    return build_pooled_model(HEADS[name])


@functools.lru_cache
def mirrored_model(name: str) -> torch.nn.Module:
    model = pooled_model(name)
    return mirrored(model, model.head.anchor_type)


@functools.lru_cache
def model_of(kind: str) -> torch.nn.Module:
    """A pooled pyramid with T-head, or detectron2's ResNet-18 with FPN."""
    if kind == "pooled":
        return pooled_model("tood-dcn")
    torch.manual_seed(0)
    return build_model(make_tiny_cfg()).eval()


def images_of(seed: int, count: int, size: tuple[int, int]) -> list[Tensor]:
    """Patches of gray values that change slowly, with noise."""
    coarse = uniform(seed, count, 3, 8, 8, high=200)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return list(smooth + uniform(seed + 1, count, 3, *size, high=55))


@torch.no_grad()
def predict(model: torch.nn.Module, images: list[Tensor]) -> DensePredictions:
    return model._predict_images([{"image": image} for image in images])[0]


def assert_same_predictions(found: DensePredictions, expected: DensePredictions) -> None:
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), **SCORES)
    for ours, theirs in zip(found.boxes, expected.boxes, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), **PIXELS)


def take(predictions: DensePredictions, order: list[int]) -> DensePredictions:
    return DensePredictions(*([x[order] for x in levels] for levels in predictions[:2]))


def mirror_boxes(boxes: Tensor, width: int, dim: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim)
    return torch.stack([width - x2, y1, width - x1, y2], dim)


@pytest.mark.parametrize("name", HEADS)
@fewer_examples(4)
@given(seed=seeds, size=sizes)
def test_mirrored_image(name, seed, size):
    """Mirrored weights find the mirrored boxes in the mirrored image.

    T-head's boxes near the edge of a map do not mirror: their resampling reads zeros outside of
    it (paper: eq. 6, as in both references), and 0 is the left edge of the image, not the right.
    """
    images = images_of(seed, 1, size)
    expected = predict(pooled_model(name), images)
    found = predict(mirrored_model(name), [x.flip(-1) for x in images])
    for ours, theirs in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(ours.flip(-1), theirs, **SCORES)
    for ours, theirs in zip(found.centerness or [], expected.centerness or [], strict=True):
        torch.testing.assert_close(ours.flip(-1), theirs, **SCORES)
    edge = 2 if name.startswith("tood") else 0
    for ours, theirs in zip(found.boxes, expected.boxes, strict=True):
        rows, columns = (slice(edge, side - edge) for side in ours.shape[-2:])
        back = mirror_boxes(ours, size[1], 1).flip(-1)
        torch.testing.assert_close(back[..., rows, columns], theirs[..., rows, columns], **PIXELS)


def train_batch(images: list[Tensor], boxes: Tensor, classes: Tensor) -> list[dict]:
    batch = []
    for image in images:
        instances = Instances(tuple(image.shape[-2:]))
        instances.gt_boxes, instances.gt_classes = Boxes(boxes), classes
        batch.append({"image": image, "instances": instances})
    return batch


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
@fewer_examples(4)
@given(seed=seeds, size=sizes, count=st.integers(0, 6))
def test_losses_of_a_mirrored_image(phase, seed, size, count):
    """Assigner, targets and criterion see a mirrored image as they see the image.

    Ground truths are moved off the grid: where distances or scores tie, the first point wins.
    """
    boxes = image_boxes(seed, count, *size) + uniform(seed, count, 4, high=1 / 16)
    classes = torch.randint(5, (count,), generator=generator(seed))
    images = images_of(seed, 1, size)
    losses = []
    for model, image, gt in (
        (pooled_model("parallel"), images[0], boxes),
        (mirrored_model("parallel"), images[0].flip(-1), mirror_boxes(boxes, size[1], 1)),
    ):
        model.train()
        model.set_phase(phase)
        with torch.no_grad():
            losses.append(model(train_batch([image], gt, classes)))
        model.eval()
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["pooled", "resnet"])
@fewer_examples(6)
@given(seed=seeds, order=st.permutations(range(3)))
def test_order_of_a_batch(kind, seed, order):
    images = images_of(seed, 3, SIZES[kind])
    expected = predict(model_of(kind), images)
    found = predict(model_of(kind), [images[i] for i in order])
    assert_same_predictions(found, take(expected, order))


@pytest.mark.parametrize("kind", ["pooled", "resnet"])
@fewer_examples(6)
@given(seed=seeds)
def test_images_of_a_batch_do_not_meet(kind, seed):
    """Each is found what is found in it alone: images of one size, so that none is padded."""
    images = images_of(seed, 2, SIZES[kind])
    batch = predict(model_of(kind), images)
    for index, image in enumerate(images):
        assert_same_predictions(take(batch, [index]), predict(model_of(kind), [image]))


@pytest.mark.parametrize("kind", ["pooled", "resnet"])
@fewer_examples(6)
@given(seed=seeds)
def test_memory_format(kind, seed):
    images = images_of(seed, 2, SIZES[kind])
    model = model_of(kind)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model.to(memory_format=layout)
        batch = torch.stack(images).contiguous(memory_format=layout)
        with torch.no_grad():
            found.append(model.predict(model.backbone((batch - model.pixel_mean) / 57.0))[1])
    assert_same_predictions(*found)


@pytest.mark.parametrize("kind", ["pooled", "resnet"])
@fewer_examples(6)
@given(seed=seeds)
def test_precision(kind, seed):
    """float32 is as good as float64 to the tolerances above."""
    images = images_of(seed, 1, SIZES[kind])
    single = predict(model_of(kind), images)
    try:
        double = predict(model_of(kind).double(), [x.double() for x in images])
    finally:
        model_of(kind).float()
    assert_same_predictions(single, double)


def test_levels_of_the_pyramid():
    """The models above have the levels that their name promises."""
    model = pooled_model("tood")
    assert model.level_strides == list(STRIDES.values())
    assert model.anchor_generator.offset == 0.5

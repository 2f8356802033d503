"""The core without a backbone: prediction, losses, and its place in other models."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import nn

from tests.helpers import STRIDES, make_ground_truth
from tood.modeling import TOOD, DenseDetectorCore, find_dense_core
from tood.modeling.anchors import generate_anchors
from tood.modeling.core_args import core_args
from tood.modeling.structures import LossSum

SHAPES = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]


@pytest.fixture
def feature_shapes():
    return {f"p{i + 3}": ShapeSpec(channels=64, stride=s) for i, s in enumerate(STRIDES)}


@pytest.fixture
def core(tiny_cfg, feature_shapes):
    return DenseDetectorCore(**core_args(tiny_cfg, feature_shapes))


@pytest.fixture
def features():
    maps = [torch.randn(2, 64, *shape) for shape in SHAPES]
    return {"res2": torch.zeros(1), **{f"p{i + 3}": level for i, level in enumerate(maps)}}


class StandInProposals(nn.Module):
    """What a proposal network does with the core: features in; losses and boxes out."""

    def __init__(self, core: DenseDetectorCore) -> None:
        super().__init__()
        self.core = core

    def forward(self, features, image_sizes, ground_truth=None):
        grid, predictions = self.core.predict(features)
        losses = {}
        if ground_truth is not None:
            sums = self.core.loss_sums(grid, predictions, ground_truth, image_sizes, 32)
            losses = {
                name.replace("loss_", "loss_tood_"): loss
                for name, loss in self.core.normalize_losses(sums).items()
            }
        return self.core.detect(predictions, image_sizes, score_thresh=0.0), losses


def test_predicts_in_pixels(core, features):
    grid, predictions = core.predict(features)
    assert grid.level_shapes == SHAPES and grid.level_strides == STRIDES
    assert grid.strides.unique().tolist() == STRIDES
    for boxes, shape, stride in zip(predictions.boxes, SHAPES, STRIDES, strict=True):
        assert boxes.shape == (2, 4, *shape)
        # Distances of an untrained anchor-free head are about one stride.
        assert (boxes[:, 2] - boxes[:, 0]).mean().item() == pytest.approx(2 * stride, rel=0.3)


def test_works_as_a_part_of_another_model(core, features):
    """Losses with gradients and detections, without any backbone."""
    model = StandInProposals(core)
    core.set_phase("aligned")
    ground_truth = [make_ground_truth([[10.0, 10.0, 90.0, 80.0]], [1]), make_ground_truth([], [])]
    found, losses = model(features, [(96, 128), (90, 100)], ground_truth)
    assert set(losses) == {"loss_tood_cls", "loss_tood_box_reg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in core.parameters())
    assert len(found) == 2 and found[1].boxes[:, 2].max() <= 100
    assert set(dict(core.named_children())) == {"head", "anchor_generator"}


def test_score_threshold_of_a_call_does_not_stick(core, features):
    _, predictions = core.predict(features)
    sizes = [(96, 128)] * 2
    assert len(core.detect(predictions, sizes)[0].scores) == 0  # untrained scores are 0.01
    assert len(core.detect(predictions, sizes, score_thresh=0.0)[0].scores) > 0
    assert core.test_score_thresh == 0.05


def test_given_normalizers_replace_the_sums_own(core):
    sums = {"loss_cls": LossSum(torch.tensor(6.0), torch.tensor(2.0))}
    assert core.normalize_losses(sums)["loss_cls"].item() == 3
    normalizers = {"loss_cls": torch.tensor(12.0)}
    assert core.normalize_losses(sums, normalizers)["loss_cls"].item() == 0.5


@pytest.mark.parametrize("own, other, factor", [(3.0, 5.0, 1.0), (0.5, 0.7, 0.6)])
def test_floor_of_the_normalizer_in_two_processes(core, monkeypatch, own, other, factor):
    """Two processes equal one with the double batch, unless the normalizer is below 1 on average.

    The gradient is the mean over the processes of sum_i / max((n_1 + n_2) / 2, 1). With a mean of
    at least 1 that is (sum_1 + sum_2) / (n_1 + n_2), as in one process. With a mean of 0.6, each
    divides by 1, where one process divides by n_1 + n_2 = 1.2: the loss is 0.6 times as large.
    """
    totals = 4.0, 6.0
    weight = core.loss_weights.get("loss_cls", 1.0)
    both = LossSum(torch.tensor(sum(totals)), torch.tensor(own + other))
    single = core.normalize_losses({"loss_cls": both})["loss_cls"].item() / weight
    assert single == pytest.approx(sum(totals) / (own + other))
    monkeypatch.setattr("tood.modeling.normalizers.comm.get_world_size", lambda: 2)
    losses = []
    for total, mine, others in ((totals[0], own, other), (totals[1], other, own)):
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda x, o=others: x.add_(o))
        sums = {"loss_cls": LossSum(torch.tensor(total), torch.tensor(mine))}
        losses.append(core.normalize_losses(sums)["loss_cls"].item() / weight)
    assert sum(losses) / 2 == pytest.approx(single * factor)


@pytest.mark.parametrize("head", ["TOODHead", "ParallelHead"])
def test_predict_can_be_traced(tiny_cfg, feature_shapes, head):
    """The traced network gives the same scores and boxes, for both heads."""
    tiny_cfg.MODEL.TOOD.HEAD.NAME = head
    core = DenseDetectorCore(**core_args(tiny_cfg, feature_shapes)).eval()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.core = core

        def forward(self, *maps):
            _, predictions = self.core.predict(dict(zip(core.head_in_features, maps, strict=True)))
            return (*predictions.scores, *predictions.boxes)

    maps = [torch.randn(1, 64, *shape) for shape in SHAPES]
    with torch.no_grad():
        traced = torch.jit.trace(Network(), maps, check_trace=False)
        for ours, expected in zip(traced(*maps), Network()(*maps), strict=True):
            torch.testing.assert_close(ours, expected)


def test_find_dense_core(tiny_cfg, core):
    model = build_model(tiny_cfg)
    assert find_dense_core(model) is model and isinstance(model, TOOD)

    class Wrapper(nn.Module):
        """Like DistributedDataParallel, which keeps the model in ``module``."""

        def __init__(self, module):
            super().__init__()
            self.module = module

    assert find_dense_core(Wrapper(model)) is model
    assert find_dense_core(StandInProposals(core)) is core
    tiny_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    retinanet = build_model(tiny_cfg)
    assert isinstance(retinanet, RetinaNet) and find_dense_core(retinanet) is None


def test_parameter_names_are_those_of_checkpoints(tiny_cfg):
    names = {name.split(".")[0] for name in build_model(tiny_cfg).state_dict()}
    assert names == {"backbone", "head"}


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_anchors_are_those_of_detectron2(tiny_cfg, offset):
    """The grid is our own, because detectron2 main copies it to the GPU from the host."""
    tiny_cfg.MODEL.ANCHOR_GENERATOR.OFFSET = offset
    model = build_model(tiny_cfg)
    maps = [torch.zeros(1, 1, 12 >> i, 20 >> i) for i in range(4)] + [torch.zeros(1, 1, 1, 1)]
    expected = model.anchor_generator(maps)
    for found, boxes in zip(generate_anchors(model.anchor_generator, maps), expected, strict=True):
        assert found.equal(boxes.tensor)

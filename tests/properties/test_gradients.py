"""Analytic and numerical derivatives agree, in float64, for everything that training goes through.

Inputs are random, so none lies on a kink (ReLU, the side of a box, a whole offset). What happens
there is in the tests of each function.
"""

import inspect
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.properties.strategies import uniform
from tood.modeling import box_ops, criteria, layers, losses
from tood.modeling.heads import TOODHead, box_coding, task_alignment
from tood.modeling.structures import DenseTargets, FlatPredictions

# Public, but not differentiated: they return bool, or change their own temporaries in place.
WITHOUT_GRADIENT = {
    "box_ops": {"is_usable_box", "points_inside_boxes", "box_iou"},
    "criteria": {"CRITERION_REGISTRY"},
}


def rand(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Tensor:
    return uniform(seed + sum(shape), *shape, low=low, high=high).double()


def boxes(count: int, seed: int = 0) -> Tensor:
    """Boxes (count, 4) within 20 pixels that overlap each other."""
    corner = rand(count, 2, low=0, high=8, seed=seed)
    return torch.cat([corner, corner + rand(count, 2, low=4, high=12, seed=seed + 1)], dim=1)


def with_parameters(module: nn.Module, *inputs: Tensor) -> tuple:
    """A function of a module's inputs and of all its parameters, which are random."""
    module = module.double()
    names = [name for name, _ in module.named_parameters()]
    shapes = [parameter.shape for _, parameter in module.named_parameters()]
    values = [rand(*shape, low=-0.4, high=0.4, seed=i) for i, shape in enumerate(shapes)]

    def call(*args: Tensor):
        parameters = dict(zip(names, args[len(inputs) :], strict=True))
        return functional_call(module, parameters, args[: len(inputs)])

    return call, [*inputs, *values]


class PredictOffsets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 27, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return layers.predict_offsets(self.conv, x)


class ProjectStack(TOODHead):
    def forward(self, stack: Tensor):
        return self._project_stack(stack)


def criterion_case(name: str) -> tuple:
    """Each loss by what it trains. QFL's soft labels and weights are constants for the other."""
    criterion = getattr(criteria, name)()
    classes = torch.tensor([[0, 1, 2, -1], [1, 2, 0, 2]])
    targets = DenseTargets(
        gt_classes=classes,
        gt_boxes=boxes(8).view(2, 4, 4),
        centers=rand(4, 2, low=8, high=9),
        strides=torch.full((4, 1), 2.0).double(),
        norm_alignment_metrics=torch.where((classes >= 0) & (classes < 2), 0.4, 0.0).double(),
    )
    scores, predicted = rand(2, 4, 2, low=0.1, high=0.9), boxes(8, seed=5).view(2, 4, 4)
    branch = rand(2, 4, 1, low=0.1, high=0.9)
    with_branch = criterion.supports_centerness

    def totals(scores_: Tensor, boxes_: Tensor, branch_: Tensor):
        cls = criterion(FlatPredictions(scores_, predicted), targets)["loss_cls"]
        box = criterion(FlatPredictions(scores, boxes_), targets)["loss_box_reg"]
        if not with_branch:
            return cls.total, box.total
        found = criterion(FlatPredictions(scores, predicted, branch_), targets)
        return cls.total, box.total, found["loss_centerness"].total

    return totals, [scores, predicted, branch]


def decode_case(anchor_type: str) -> tuple:
    anchors = torch.cat([rand(6, 2, low=-9, high=0), rand(6, 2, low=8, high=16)], dim=1)

    def decode(regression: Tensor, factor: Tensor) -> Tensor:
        return box_coding.decode_boxes(regression, anchors, lambda x: x * factor, 8, anchor_type)

    # Positive, where FCOS's distances are not cut off.
    return decode, [rand(2, 4, 2, 3, low=0.1), rand(1, low=0.5).squeeze()]


def deform_conv_case(groups: int, deform_groups: int, stride: int, with_mask: bool) -> tuple:
    size = (4, 5) if stride == 1 else (2, 3)

    def convolve(x, offset, weight, bias, *mask):
        return layers.deform_conv2d(x, offset, weight, bias, *mask, stride=stride, padding=1)

    arguments = [
        rand(1, 4, 4, 5),
        rand(1, 18 * deform_groups, *size, low=-2.4, high=2.4),
        rand(2, 4 // groups, 3, 3),
        rand(2),
    ]
    if with_mask:
        arguments.append(rand(1, 9 * deform_groups, *size, low=0.1))
    return convolve, arguments


SCORES = (rand(3, 4, low=0.05, high=0.95), rand(3, 4, low=0.05, high=0.95, seed=9))
HARD = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(3, 4).double()
POINTS = rand(5, 2, low=8.5, high=9.5)
UNIT = torch.full((5, 1), 2.0).double()

# By name of the public function or class, with a variant after the slash: a function that builds
# the function to check and its arguments.
CASES = {
    "losses": {
        "nan_safe_binary_cross_entropy": lambda: (losses.nan_safe_binary_cross_entropy, SCORES),
        "focal_loss/2": lambda: (
            lambda s: losses.focal_loss(s, HARD, 0.25, 2),
            SCORES[:1],
        ),
        "focal_loss/0.5": lambda: (
            lambda s: losses.focal_loss(s, HARD, 0.3, 0.5),
            SCORES[:1],
        ),
        "task_aligned_focal_loss/2": lambda: (
            lambda s, t: losses.task_aligned_focal_loss(s, t, 2.0),
            SCORES,
        ),
        "task_aligned_focal_loss/0.5": lambda: (
            lambda s, t: losses.task_aligned_focal_loss(s, t, 0.5),
            SCORES,
        ),
        "giou_loss/overlapping": lambda: (losses.giou_loss, (boxes(5), boxes(5, seed=3))),
        "giou_loss/apart": lambda: (losses.giou_loss, (boxes(5), boxes(5, seed=3) + 30)),
        "giou_loss/inverted": lambda: (losses.giou_loss, (boxes(5)[:, [2, 3, 0, 1]], boxes(5, 3))),
        "foveabox_box_loss": lambda: (
            lambda b: losses.foveabox_box_loss(POINTS, UNIT, b, boxes(5, seed=3), 0.11),
            (boxes(5),),
        ),
        "foveabox_box_loss/crossed": lambda: (
            lambda b: losses.foveabox_box_loss(POINTS, UNIT, b, boxes(5, seed=3), 0.11),
            (boxes(5) + 30,),
        ),
    },
    "box_ops": {
        "box_area": lambda: (box_ops.box_area, (boxes(5),)),
        "box_centers": lambda: (box_ops.box_centers, (boxes(5),)),
        "centerness": lambda: (box_ops.centerness, (POINTS, boxes(5) + rand(5, 4) / 8)),
        "distances_to_boxes": lambda: (box_ops.distances_to_boxes, (POINTS, rand(5, 4))),
        "boxes_to_distances": lambda: (box_ops.boxes_to_distances, (POINTS, boxes(5))),
        "deltas_to_boxes": lambda: (
            box_ops.deltas_to_boxes,
            (boxes(5), rand(5, 4, low=-9, high=9)),
        ),
    },
    "box_coding": {
        "Scale": lambda: with_parameters(box_coding.Scale(), rand(2, 3)),
        **{
            f"decode_boxes/{kind}": lambda kind=kind: decode_case(kind)
            for kind in box_coding.ANCHOR_TYPES
        },
    },
    "task_alignment": {
        "TaskDecomposition": lambda: with_parameters(
            task_alignment.TaskDecomposition(16, 2, "", reduction=4), rand(2, 32, 2, 2)
        ),
        "AlignmentBranch": lambda: with_parameters(
            task_alignment.AlignmentBranch(6, 8, 8), rand(2, 6, 3, 2)
        ),
        "align_scores": lambda: (
            task_alignment.align_scores,
            (rand(2, 3, 2, 2, low=-6, high=6), rand(2, 1, 2, 2, low=-6, high=6)),
        ),
        "align_boxes": lambda: (
            task_alignment.align_boxes,
            (boxes(12).t().reshape(1, 4, 3, 4), rand(1, 8, 3, 4, low=-1.4, high=1.4)),
        ),
        "TOODHead._project_stack": lambda: with_parameters(
            ProjectStack(
                in_channels=4, channels=4, num_classes=1, strides=[8], num_convs=2, norm=""
            ),
            rand(2, 8, 2, 2),
        ),
    },
    "layers": {
        "deform_sampling": lambda: (
            layers.deform_sampling,
            (rand(2, 2, 3, 4), rand(2, 4, 3, 4, low=-3, high=3)),
        ),
        "dynamic_conv1x1": lambda: (layers.dynamic_conv1x1, (rand(2, 3, 2, 2), rand(2, 4, 3))),
        "deform_conv2d": lambda: deform_conv_case(1, 1, 1, True),
        "deform_conv2d/without mask": lambda: deform_conv_case(1, 2, 1, False),
        "deform_conv2d/groups, stride": lambda: deform_conv_case(2, 2, 2, True),
        "predict_offsets": lambda: with_parameters(PredictOffsets(), rand(1, 2, 3, 2)),
        "DeformConv": lambda: with_parameters(
            layers.DeformConv(2, 2, 3, padding=1, bias=True),
            rand(1, 2, 3, 2),
            rand(1, 18, 3, 2, low=-2.4, high=2.4),
            rand(1, 9, 3, 2, low=0.1),
        ),
        "ModulatedDeformConv": lambda: with_parameters(
            layers.ModulatedDeformConv(2, 2, 3, deform_groups=1, bias=True), rand(1, 2, 3, 2)
        ),
    },
    "criteria": {
        name: lambda name=name: criterion_case(name)
        for name in criteria.__all__
        if name != "CRITERION_REGISTRY"
    },
}
MODULES = {
    "losses": losses,
    "box_ops": box_ops,
    "box_coding": box_coding,
    "task_alignment": task_alignment,
    "layers": layers,
    "criteria": criteria,
}


def public_names(module: ModuleType) -> set[str]:
    """Functions and classes that a module defines; what a package exports."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    members = inspect.getmembers(module, lambda x: inspect.isfunction(x) or inspect.isclass(x))
    return {n for n, x in members if x.__module__ == module.__name__ and not n.startswith("_")}


@pytest.mark.parametrize("module", CASES)
def test_every_public_function_is_here(module):
    """A new loss, layer or way of decoding needs an entry above."""
    checked = {name.split("/")[0] for name in CASES[module]} - {"TOODHead._project_stack"}
    skipped = WITHOUT_GRADIENT.get(module, set())
    assert not checked & skipped
    assert checked | skipped == public_names(MODULES[module])


@pytest.mark.parametrize(
    "module, name", [(module, name) for module, cases in CASES.items() for name in cases]
)
def test_gradient(module, name):
    function, arguments = CASES[module][name]()
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    # A check of an output without any slope would always pass.
    slopes = torch.autograd.grad([x.sum() for x in outputs], leaves, allow_unused=True)
    assert any(x is not None and x.any() for x in slopes)
    assert all(x.dtype == torch.float64 for x in outputs)
    # Fast: along random directions instead of one element after the other.
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)

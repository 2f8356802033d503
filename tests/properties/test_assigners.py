"""What every assignment rule keeps to, whatever the image."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.modeling.assigners.oracles import same
from tests.properties.strategies import NUM_CLASSES, Scene, grid_boxes, scenes
from tood.modeling.assigners import (
    ASSIGNER_REGISTRY,
    Assigner,
    ATSSAssigner,
    FCOSAssigner,
    FoveaBoxAssigner,
    MaxIoUAssigner,
    TaskAlignedAssigner,
)
from tood.modeling.assigners.task_aligned import MIN_POSITIVE_WEIGHT
from tood.modeling.box_ops import box_iou, points_inside_boxes
from tood.modeling.structures import Assignment

FCOS_SIZES = (16, 32, 64, 128)
FOVEA_RANGES = ((1, 16), (8, 32), (16, 64), (32, 128), (64, 512))

# Each rule with its options, for lengths that are multiplied by ``scale``.
RULES = {
    "atss": lambda scale, **chunk: ATSSAssigner(**chunk),
    "atss-topk-3": lambda scale, **chunk: ATSSAssigner(topk=3, **chunk),
    "tal": lambda scale, **chunk: TaskAlignedAssigner(**chunk),
    "tal-candidates-inside": lambda scale, **chunk: TaskAlignedAssigner(
        topk=4, candidates_inside_gt=True, **chunk
    ),
    "tal-min-gt-size": lambda scale, **chunk: TaskAlignedAssigner(min_gt_size=16 * scale, **chunk),
    "tal-min-positives": lambda scale, **chunk: TaskAlignedAssigner(min_positives=2, **chunk),
    "tal-giou": lambda scale, **chunk: TaskAlignedAssigner(iou_type="giou", **chunk),
    "fcos": lambda scale, **chunk: FCOSAssigner(
        sizes_of_interest=[x * scale for x in FCOS_SIZES], **chunk
    ),
    "fcos-whole-box": lambda scale, **chunk: FCOSAssigner(
        0, sizes_of_interest=[x * scale for x in FCOS_SIZES], **chunk
    ),
    "foveabox": lambda scale, **chunk: FoveaBoxAssigner(
        sigma=0.75,
        scale_ranges=[(low * scale, high * scale) for low, high in FOVEA_RANGES],
        **chunk,
    ),
    "max-iou": lambda scale: MaxIoUAssigner(),
}
TAL = [name for name in RULES if name.startswith("tal")]
CHUNKED = [name for name in RULES if name != "max-iou"]
# MaxIoUAssigner promises nothing about places, and these three give points outside on purpose.
OUTSIDE = ("max-iou", "tal-min-gt-size", "tal-min-positives", "foveabox")
INSIDE = [n for n in RULES if n not in OUTSIDE]


def build(name: str, scale: float = 1.0, **chunk: int) -> Assigner:
    return RULES[name](scale, **chunk)


def assign(rule: Assigner, scene: Scene) -> Assignment:
    return rule.assign(scene.inputs, scene.gt_boxes, scene.gt_classes)


def renumber(assignment: Assignment, table: list[int]) -> Assignment:
    """Ground truth i becomes ``table[i]``."""
    idxs = torch.tensor([*table, -2, -1])[assignment.matched_idxs]  # -1 and -2 read from the end
    return replace(assignment, matched_idxs=idxs)


def test_every_rule_is_here():
    """A new rule needs an entry above."""
    own = {c for n, c in ASSIGNER_REGISTRY if c.__module__.startswith("tood.")}
    assert own == {type(build(name)) for name in RULES}


@pytest.mark.parametrize("name", [n for n in RULES if n != "tal-min-positives"])
@given(scene=scenes(distinct=True), data=st.data())
def test_order_of_ground_truths(name, scene, data):
    """MIN_POSITIVES goes by ranks, which tie: two boxes may call the same point their nearest."""
    order = data.draw(st.permutations(range(len(scene.gt_boxes))))
    permuted = assign(build(name), scene.select_gt(torch.tensor(order, dtype=torch.int64)))
    same(renumber(permuted, order), assign(build(name), scene))


@pytest.mark.parametrize("name", [n for n in RULES if n != "tal-min-positives"])
@given(scene=scenes(distinct=True), seed=st.integers(0, 1000))
def test_order_of_points(name, scene, seed):
    """Within a level. MIN_POSITIVES prefers earlier points among those at one place."""
    g = torch.Generator().manual_seed(seed)
    start, parts = 0, []
    for count in scene.inputs.num_anchors_per_level:
        parts.append(start + torch.randperm(count, generator=g))
        start += count
    order = torch.cat(parts)
    expected = assign(build(name), scene)
    values = (v if v is None else v[order] for v in vars(expected).values())
    same(assign(build(name), scene.select_points(order)), Assignment(*values))


@pytest.mark.parametrize("name", RULES)
@given(scene=scenes(), power=st.integers(-3, 6))
def test_unit_of_length(name, scene, power):
    """Powers of two scale without rounding. The margin of 0.01 px lies between grid points."""
    factor = 2.0**power
    same(assign(build(name, factor), scene.scale(factor)), assign(build(name), scene))


@pytest.mark.parametrize("name", [n for n in RULES if n != "tal-min-positives"])
@given(scene=scenes(), first=st.booleans(), distance=st.sampled_from([1e4, -1e4, 1e7]))
def test_far_ground_truth(name, scene, first, distance):
    """One that touches neither an anchor nor a prediction changes nothing.

    MIN_POSITIVES is there to give it points all the same.
    """
    far = torch.tensor([[0.0, 0.0, 64.0, 64.0]]) + distance
    more = scene.add_gt(far, torch.tensor([1]))
    count = len(scene.gt_boxes)
    if first:
        more = more.select_gt(torch.tensor([count, *range(count)]))
    expected = renumber(assign(build(name), scene), [i + first for i in range(count)])
    same(assign(build(name), more), expected)


@pytest.mark.parametrize("name", CHUNKED)
@given(scene=scenes(max_gts=7), chunk_size=st.integers(1, 8))
def test_chunk_size(name, scene, chunk_size):
    same(assign(build(name, chunk_size=chunk_size), scene), assign(build(name), scene))


@pytest.mark.parametrize("name", INSIDE)
@given(scene=scenes(min_gts=1))
def test_no_positive_outside_its_box(name, scene):
    idxs = assign(build(name), scene).matched_idxs
    own = scene.gt_boxes[idxs.clamp(min=0)]
    assert (points_inside_boxes(scene.inputs.centers, own, 0.0) | (idxs < 0)).all()


@pytest.mark.parametrize("name", ["atss", "tal"])
@given(scene=scenes(min_gts=1))
def test_margin_of_the_inside_test(name, scene):
    """Shrink each ground truth until a point lies 0.01 px inside of a side: not a positive."""
    box = scene.gt_boxes[:1].clone()
    nearest = scene.inputs.centers[(scene.inputs.centers[:, 0] - box[0, 0]).abs().argmin()]
    box[0, 0] = nearest[0] - 0.0099
    moved = replace(scene, gt_boxes=box, gt_classes=scene.gt_classes[:1])
    idxs = assign(build(name), moved).matched_idxs
    assert (idxs[scene.inputs.centers[:, 0] <= nearest[0]] == -1).all()


@pytest.mark.parametrize("name", TAL)
@given(scene=scenes(min_gts=1))
def test_soft_labels(name, scene):
    """t-hat is in [0, 1], 0 for background, and at most the largest IoU of its ground truth."""
    found = assign(build(name), scene)
    idxs, labels = found.matched_idxs, found.norm_alignment_metrics
    assert labels.isfinite().all() and (labels >= 0).all() and (labels <= 1).all()
    assert (labels[idxs < 0] == 0).all() and (found.alignment_metrics[idxs < 0] == 0).all()
    ious = box_iou(scene.gt_boxes[:, None], scene.inputs.boxes)
    largest = ious.amax(1)[idxs.clamp(min=0)]
    if name == "tal-giou":  # of the largest GIoU, which is at most the IoU, up to rounding
        largest += 1e-6
    elif name == "tal-min-positives":
        largest = largest.clamp(min=MIN_POSITIVE_WEIGHT)
    assert (labels <= torch.where(idxs < 0, 0.0, largest)).all()


@pytest.mark.parametrize("name", [n for n in RULES if n != "tal-min-positives"])
@given(scene=scenes(min_gts=1), data=st.data())
def test_duplicated_ground_truth(name, scene, data):
    """The first of two equal ones gets the points. MIN_POSITIVES gives the other some, too."""
    index = data.draw(st.integers(0, len(scene.gt_boxes) - 1))
    twice = scene.add_gt(scene.gt_boxes[index : index + 1], scene.gt_classes[index : index + 1])
    same(assign(build(name), twice), assign(build(name), scene))


@pytest.mark.parametrize("name", RULES)
@given(scene=scenes(max_gts=0))
def test_no_ground_truth(name, scene):
    found = assign(build(name), scene)
    assert (found.matched_idxs == -1).all() and found.matched_idxs.dtype == torch.int64
    for values in (found.alignment_metrics, found.norm_alignment_metrics):
        assert (values is not None) == (name in TAL)
        assert values is None or not values.any()


@pytest.mark.parametrize("name", [n for n in RULES if "min" not in n])
@given(scene=scenes(), empty=grid_boxes(1, 3), kind=st.sampled_from(["line", "point", "inverted"]))
def test_ground_truth_without_area(name, scene, empty, kind):
    """Gets no point and takes none. The options that guarantee points extend such boxes."""
    if kind == "inverted":
        empty = empty[:, [2, 3, 0, 1]]
    else:
        empty[:, 2] = empty[:, 0]
        if kind == "point":
            empty[:, 3] = empty[:, 1]
    more = scene.add_gt(empty, torch.zeros(len(empty), dtype=torch.int64))
    same(assign(build(name), more), assign(build(name), scene))


@pytest.mark.parametrize("name", TAL)
@given(scene=scenes(min_gts=1), scores=st.sampled_from([0.0, 1.0, math.nan]))
def test_constant_scores(name, scene, scores):
    """Scores without information leave every number finite; NaN ones are no positives."""
    inputs = replace(scene.inputs, scores=torch.full_like(scene.inputs.scores, scores))
    found = assign(build(name), replace(scene, inputs=inputs))
    assert found.norm_alignment_metrics.isfinite().all()
    if scores != 1.0 and name != "tal-min-positives":
        assert (found.matched_idxs == -1).all()


@given(scene=scenes(min_gts=1))
def test_scores_of_other_classes_do_not_matter(scene):
    wanted = torch.zeros(NUM_CLASSES, dtype=torch.bool)
    wanted[scene.gt_classes] = True
    inputs = replace(scene.inputs, scores=torch.where(wanted, scene.inputs.scores, 0.5))
    same(assign(build("tal"), replace(scene, inputs=inputs)), assign(build("tal"), scene))

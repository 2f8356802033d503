"""Points, sizes and overlaps that lie exactly on a boundary of a rule, by hand."""

import pytest
import torch

from tests.modeling.assigners.oracles import assign_anchors, inside, iou, make_assigner_input
from tood.modeling.assigners import (
    AssignerInput,
    FCOSAssigner,
    FoveaBoxAssigner,
    MaxIoUAssigner,
    TaskAlignedAssigner,
)

LABEL = torch.tensor([0])


def assign_points(rule, *levels, gt) -> list[int]:
    """Match points, (x, y) of each level, to one ground truth."""
    anchors = [torch.tensor([[x - 1.0, y - 1, x + 1, y + 1] for x, y in level]) for level in levels]
    inputs = AssignerInput.from_anchors(anchors, [8.0 * 2**i for i in range(len(levels))])
    return rule.assign(inputs, torch.tensor([gt]), LABEL).matched_idxs.tolist()


@pytest.mark.parametrize("reach, expected", [(7.9, [0, -1]), (8.0, [0, 0]), (8.1, [-1, 0])])
def test_fcos_limits_belong_to_both_levels(reach, expected):
    gt = (0.0, 0.0, 5 + reach, 10.0)
    assert assign_points(FCOSAssigner(0, [8.0]), [(5, 5)], [(5, 5)], gt=gt) == expected


@pytest.mark.parametrize("x, expected", [(0.0, -1), (0.1, 0), (9.9, 0), (10.0, -1)])
@pytest.mark.parametrize("radius", [0.0, 1.5])
def test_fcos_sides_are_outside(x, expected, radius):
    gt = (0.0, 0.0, 10.0, 10.0)
    for point in ((x, 5.0), (5.0, x)):
        assert assign_points(FCOSAssigner(radius, []), [point], gt=gt) == [expected]


def test_fcos_finds_less_than_a_pixel():
    assert assign_points(FCOSAssigner(), [(8, 8)], [], [], [], [], gt=(7.7, 7.7, 8.3, 8.3)) == [0]


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
def test_fcos_center_region(radius):
    """Half its side is the radius in strides of 8 pixels; its edge is outside."""
    gt = (0.0, 0.0, 100.0, 100.0)
    for distance, expected in ((8 * radius - 0.1, 0), (8 * radius, -1)):
        for point in ((50 + distance, 50.0), (50 - distance, 50.0), (50.0, 50 + distance)):
            assert assign_points(FCOSAssigner(radius, []), [point], gt=gt) == [expected]


@pytest.mark.parametrize("limits", [[8.0] * 3, [8.0] * 5])
def test_fcos_limits_are_one_less_than_levels(limits):
    with pytest.raises(ValueError, match=f"has {len(limits)} limits, but 5 levels need 4$"):
        FCOSAssigner(sizes_of_interest=limits).validate_num_levels(5)
    with pytest.raises(ValueError, match="but 8 levels need 7$"):
        FCOSAssigner(sizes_of_interest=limits).validate_num_levels(8)
    FCOSAssigner().validate_num_levels(5)


def test_fcos_radius_is_not_negative():
    with pytest.raises(ValueError, match=r"must not be negative, not -0.5; 0 is the whole box"):
        FCOSAssigner(-0.5)


@pytest.mark.parametrize("ranges", [[(1, 2)] * 4, [(1, 2)] * 6])
def test_foveabox_ranges_are_one_per_level(ranges):
    with pytest.raises(ValueError, match=f"has {len(ranges)} pairs, but 5 levels need"):
        FoveaBoxAssigner(scale_ranges=ranges).validate_num_levels(5)
    FoveaBoxAssigner().validate_num_levels(5)


@pytest.mark.parametrize("side, expected", [(31.0, {8}), (32.0, {8, 16}), (64.0, {8, 16, 32}),
                                            (64.5, {16, 32})])  # fmt: skip
def test_foveabox_ranges_include_their_ends(side, expected):
    inputs = make_assigner_input(True)
    gt = torch.tensor([[16.0, 16.0, 16.0 + side, 16.0 + side]])
    matched = FoveaBoxAssigner(sigma=1.0).assign(inputs, gt, LABEL).matched_idxs
    assert set(inputs.strides[matched == 0].tolist()) == expected


@pytest.mark.parametrize("overlap, found", [(-1.0, False), (0.0, False), (0.5, True), (3.0, True)])
@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_foveabox_of_boxes_that_reach_into_the_map(overlap, found, side):
    """Their central part is moved onto the outermost points; boxes outside have none."""
    x = {"left": overlap - 40, "right": 128 - overlap}.get(side, 30.0)
    y = {"top": overlap - 40, "bottom": 96 - overlap}.get(side, 30.0)
    gt, inputs = torch.tensor([[x, y, x + 40, y + 40]]), make_assigner_input(True)
    own = inputs.centers[FoveaBoxAssigner().assign(inputs, gt, LABEL).matched_idxs == 0]
    assert (len(own) > 0) == found
    if found:
        axis, edge = ("left", "right").count(side) == 0, {"right": 124.0, "bottom": 92.0}
        assert own[0, int(axis)] == edge.get(side, 4.0)


def test_foveabox_between_points_in_the_corners_of_cells():
    """The first points lie at 0, and their cells reach half a stride beyond."""
    gt = torch.tensor([[-40.0, 30.0, -2.0, 68.0]])
    matched = FoveaBoxAssigner().assign(make_assigner_input(False), gt, LABEL).matched_idxs
    assert (matched == 0).any()


@pytest.mark.parametrize("x2, expected", [(0.3, 0), (-0.1, -1)])
def test_foveabox_of_an_odd_stride(x2, expected):
    """The cell of the point at 3.5 begins at 0."""
    inputs = AssignerInput.from_anchors([torch.tensor([[2.5, 2.5, 4.5, 4.5]])], [7])
    gt = torch.tensor([[x2 - 9, -1.0, x2, 8.0]])
    matched = FoveaBoxAssigner(scale_ranges=[(1, 64)]).assign(inputs, gt, LABEL).matched_idxs
    assert matched.tolist() == [expected]


def test_max_iou_thresholds_are_inclusive():
    """Overlaps of 0.5 and 0.25 next to the best one."""
    anchors = torch.tensor([[0.0, 0.0, 8.0, y] for y in (8.0, 4.0, 3.9, 2.0, 1.9)])
    gt = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    rule = MaxIoUAssigner(0.25, 0.5)
    assert assign_anchors(rule, anchors, [5], gt, LABEL).matched_idxs.tolist() == [0, 0, -2, -2, -1]


@pytest.mark.parametrize("count", [0, 1])
def test_max_iou_of_few_anchors(count):
    anchors, gt = torch.tensor([[0.0, 0.0, 8.0, 8.0]])[:count], torch.tensor([[0.0, 0.0, 8.0, 9.0]])
    matched = assign_anchors(MaxIoUAssigner(), anchors, [count], gt, LABEL).matched_idxs
    assert matched.tolist() == [0] * count


@pytest.mark.parametrize("thresholds", [(0.0, 0.5), (-0.1, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_max_iou_thresholds_out_of_order(thresholds):
    with pytest.raises(ValueError, match="must be in order, above 0 and at most 1"):
        MaxIoUAssigner(*thresholds)
    for fine in ((0.01, 1.0), (0.5, 0.5), (1.0, 1.0)):
        MaxIoUAssigner(*fine)


def test_min_gt_size_extends_only_the_short_side():
    """(5, 35, 35, 37) counts as (5, 28, 35, 44) where points are tested, not in overlaps."""
    inputs = make_assigner_input(False)
    gt, region = [5.0, 35.0, 35.0, 37.0], [5.0, 28.0, 35.0, 44.0]
    rule = TaskAlignedAssigner(topk=1000, min_gt_size=16.0)
    found = rule.assign(inputs, torch.tensor([gt]), LABEL)
    for r, point in enumerate(inputs.centers.tolist()):
        claimed = inside(point, region) and iou(inputs.boxes[r].tolist(), gt) > 0
        assert found.matched_idxs[r] == (0 if claimed else -1)


def test_numbers_that_are_positive_are_fine():
    options = {"min_gt_size": 1.0, "min_positives": 1}
    assert TaskAlignedAssigner(alpha=0.5, beta=0.5, **options).min_positives == 1


@pytest.mark.parametrize("classes", [[-1, 0], [0, 4]])
def test_classes_without_a_score(classes):
    inputs = make_assigner_input(False)  # of 4 classes
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0]] * 2)
    message = rf"range from {classes[0]} to {classes[1]}, outside of \[0, 4\)"
    with pytest.raises(ValueError, match=message):
        TaskAlignedAssigner().assign(inputs, boxes, torch.tensor(classes))
    TaskAlignedAssigner().assign(inputs, boxes, torch.tensor([0, 3]))


@pytest.mark.parametrize("name, rows", [("boxes", 2), ("boxes", 4), ("points", 2), ("points", 4)])
def test_as_many_rows_as_scores(name, rows):
    arguments = {"boxes": torch.zeros(3, 4), "points": torch.zeros(3, 2)}
    arguments[name] = arguments[name][:1].repeat(rows, 1)
    gt = {"gt_boxes": torch.zeros(1, 4), "gt_classes": LABEL}
    with pytest.raises(ValueError, match="must have the shapes"):
        TaskAlignedAssigner()(torch.zeros(3, 1), **arguments, **gt)

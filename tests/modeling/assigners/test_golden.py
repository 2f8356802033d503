"""Equality of the assigners with MMDetection 3.3.0 (tests/golden)."""

import numpy as np
import pytest
import torch

from tests.helpers import golden, tensor
from tests.modeling.assigners.oracles import assign_anchors
from tood.modeling.assigners import ATSSAssigner, TaskAlignedAssigner

# Results that depend on the order that topk gives to equal values.
TIE_CASES = {"metric_ties", "all_equal_ties", "lattice_ties"}


def case_names(file: str) -> list[str]:
    return [str(name) for name in golden(file)["case_names"]]


def case_of(cases: dict[str, np.ndarray], name: str) -> dict[str, torch.Tensor]:
    """The arrays of one case, by name without the case."""
    prefix = f"{name}/"
    found = {k: v for k, v in cases.items() if k.startswith(prefix)}
    return {key.removeprefix(prefix): tensor(value) for key, value in found.items()}


def assert_same_labels(assignment, case) -> None:
    """The ground truths' classes are MMDetection's labels, where -1 is background."""
    classes = torch.cat([case["gt_labels"].long(), torch.tensor([-1])])[assignment.matched_idxs]
    assert torch.equal(classes, case["out/assigned_labels"].long())


def assert_as_many_positives(assignment, case) -> None:
    """Each ground truth has the same number of positives, wherever ties went."""
    expected = case["out/assigned_gt_inds"].bincount(minlength=len(case["gt_labels"]) + 1)
    ours = (assignment.matched_idxs + 1).bincount(minlength=len(expected))
    assert torch.equal(ours, expected)


@pytest.fixture(scope="module")
def tal_cases():
    return golden("assigner_tal.npz")


@pytest.fixture(scope="module")
def atss_cases():
    return golden("assigner_atss.npz")


@pytest.mark.parametrize("name", case_names("assigner_tal.npz"))
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_task_aligned_assigner(tal_cases, name, chunk_size):
    case = case_of(tal_cases, name)
    valid = case["valid_flags"].bool()
    assignment = TaskAlignedAssigner(chunk_size=chunk_size)(
        case["pred_scores"][valid],
        case["pred_bboxes"][valid],
        (case["priors"][valid, :2] + case["priors"][valid, 2:4]) / 2,
        case["gt_bboxes"],
        case["gt_labels"],
    )
    if name in TIE_CASES:
        assert_as_many_positives(assignment, case)
        return
    assert torch.equal(assignment.matched_idxs, case["out/assigned_gt_inds"] - 1)
    assert_same_labels(assignment, case)
    torch.testing.assert_close(
        assignment.norm_alignment_metrics,
        case["out/norm_alignment_metrics"][valid],
        rtol=1e-5,
        atol=1e-7,
    )
    positive = assignment.matched_idxs >= 0
    torch.testing.assert_close(
        assignment.alignment_metrics[positive],
        case["out/assign_metrics"][positive],
        rtol=1e-5,
        atol=0,
    )


@pytest.mark.parametrize("name", case_names("assigner_atss.npz"))
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_atss_assigner(atss_cases, name, chunk_size):
    case = case_of(atss_cases, name)
    valid = case["valid_flags"].bool()
    levels = valid.split(atss_cases["num_level_priors"].tolist())
    assignment = assign_anchors(
        ATSSAssigner(chunk_size=chunk_size),
        tensor(atss_cases["priors"])[valid],
        [int(level.sum()) for level in levels],
        case["gt_bboxes"],
        case["gt_labels"],
    )
    if name in TIE_CASES:
        assert_as_many_positives(assignment, case)
        return
    assert torch.equal(assignment.matched_idxs, case["out/assigned_gt_inds"] - 1)
    assert_same_labels(assignment, case)

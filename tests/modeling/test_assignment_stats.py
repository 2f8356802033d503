"""Assignment statistics by hand."""

import pytest
import torch

from tood.modeling.assignment_stats import AssignmentStatistics


def test_by_hand():
    statistics = AssignmentStatistics()
    assert statistics.compute_and_reset() == {}
    # Three ground truths: small with 2 positives, small with none, large with 1.
    statistics.update(torch.tensor([0, -1, 0, 2]), torch.tensor([32.0**2 - 1, 10.0, 96.0**2]))
    statistics.update(torch.tensor([-1, -2]), torch.zeros(0))
    means = statistics.compute_and_reset()
    assert means["pos_per_gt"] == 1.0
    assert means["pos_per_gt_small"] == 1.0
    assert means["gt_without_pos_frac_small"] == 0.5
    assert means["pos_per_gt_large"] == 1.0
    assert means["gt_without_pos_frac"] == pytest.approx(1 / 3)
    assert "pos_per_gt_medium" not in means
    assert statistics.compute_and_reset() == {}


def test_a_checkpoint_continues_the_sums():
    whole, first, second = (AssignmentStatistics() for _ in range(3))
    batches = [(torch.tensor([0, -1, 0, 1]), torch.tensor([10.0, 96.0**2])) for _ in range(3)]
    for batch in batches:
        whole.update(*batch)
    first.update(*batches[0])
    second.load_state_dict(first.state_dict())
    for batch in batches[1:]:
        second.update(*batch)
    assert second.compute_and_reset() == whole.compute_and_reset() != {}
    second.load_state_dict(AssignmentStatistics().state_dict())
    assert second.compute_and_reset() == {}

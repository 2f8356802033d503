"""Training in several processes."""

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from tests.engine.helpers import run_phase_hook
from tests.modeling.two_stage import to_two_stage
from tood.engine import PhaseHook
from tood.modeling import find_dense_core


@pytest.fixture(scope="module")
def in_two_processes():
    """Runs ``worker(rank, *args)`` in two processes, which stay: it takes long to start them."""
    with ProcessPoolExecutor(2, mp.get_context("spawn")) as pool:

        def run(worker, *args):
            # The first to end, because one that fails lets the other wait for it.
            for done in as_completed([pool.submit(worker, rank, *args) for rank in (0, 1)]):
                done.result()

        yield run


def ddp_batch(rank: int):
    """Rank 0 has one GT box, rank 1 two."""
    torch.manual_seed(rank)
    instances = Instances((64, 64))
    boxes = [[4.0, 6.0, 50.0, 40.0], [10.0, 20.0, 60.0, 62.0]][: rank + 1]
    instances.gt_boxes = Boxes(torch.tensor(boxes))
    instances.gt_classes = torch.tensor([1, 2][: rank + 1])
    return [{"image": torch.rand(3, 64, 64) * 255, "instances": instances}]


def join_and_build(rank, cfg, init_file):
    """Make this process one of two; the model has the same weights in both."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", f"file://{init_file}", timedelta(minutes=5), world_size=2, rank=rank
    )
    torch.manual_seed(0)
    return nn.parallel.DistributedDataParallel(build_model(cfg), broadcast_buffers=False)


def ddp_worker(rank, cfg, init_file, folder):
    model = join_and_build(rank, cfg, init_file)
    assert comm.get_world_size() == 2
    result = {}
    for phase, iteration in (("warmup", 0), ("aligned", 5)):
        run_phase_hook(PhaseHook(5), model, [iteration], iteration)
        assert find_dense_core(model).phase == phase
        model.zero_grad()
        with EventStorage():
            losses = model(ddp_batch(rank))
        sum(losses.values()).backward()
        grads = {n: p.grad.clone() for n, p in model.module.named_parameters() if p.requires_grad}
        result[phase] = ({k: v.detach() for k, v in losses.items()}, grads)
    torch.save(result, os.path.join(folder, f"{rank}.pth"))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("architecture", ["TOOD", "ProposalNetwork"])
def test_distributed_data_parallel(tiny_cfg, tmp_path, in_two_processes, architecture):
    """Two processes by gloo: the normalizer is the mean over both, the gradients are averaged.

    Also of a first stage, without a second one, which would draw samples at random.
    """
    tiny_cfg.MODEL.META_ARCHITECTURE = architecture
    tiny_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TOODProposalNetwork"
    in_two_processes(ddp_worker, tiny_cfg, tmp_path / "init", tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1)]
    torch.manual_seed(0)
    model = build_model(tiny_cfg)
    core = find_dense_core(model)
    for phase in ("warmup", "aligned"):
        sums = []
        original = core.normalize_losses
        core.normalize_losses = lambda s, sums=sums, original=original: (
            sums.append(s) or original(s)
        )
        core.set_phase(phase)
        model.zero_grad()
        for rank in (0, 1):
            with EventStorage():
                model(ddp_batch(rank))
        core.normalize_losses = original
        means = {
            name: max((sums[0][name].normalizer + sums[1][name].normalizer).item() / 2, 1)
            for name in sums[0]
        }
        total = 0
        for rank in (0, 1):
            expected = {
                name: (2 if "box_reg" in name else 1) * loss.total / means[name]
                for name, loss in sums[rank].items()
            }
            assert expected.keys() == found[rank][phase][0].keys()
            total = total + sum(expected.values()) / 2
            for name, value in found[rank][phase][0].items():
                assert value.item() == pytest.approx(expected[name].item(), rel=1e-4), name
        total.backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                gradient = found[0][phase][1][name]
                assert torch.equal(gradient, found[1][phase][1][name]), name
                torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5)


def two_stage_batch(rank: int):
    """Rank 0 has nothing, rank 1 two objects with masks."""
    batch = ddp_batch(rank)
    instances = batch[0]["instances"]
    if rank == 0:
        batch[0]["instances"] = instances[torch.zeros(len(instances), dtype=torch.bool)]
    else:
        corners = ((0, 1), (2, 1), (2, 3), (0, 3))
        instances.gt_masks = PolygonMasks(
            [[np.array([box[i] for xy in corners for i in xy])] for box in instances.gt_boxes]
        )
    return batch


def two_stage_worker(rank, cfg, init_file, folder):
    model = join_and_build(rank, cfg, init_file)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    torch.manual_seed(rank)
    for phase in ("warmup", "aligned", "aligned"):
        find_dense_core(model).set_phase(phase)
        optimizer.zero_grad()
        with EventStorage():
            losses = model(two_stage_batch(rank))
        sum(losses.values()).backward()
        optimizer.step()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    torch.save((losses["loss_mask"].item(), gradients), os.path.join(folder, f"{rank}.pth"))
    torch.distributed.destroy_process_group()


def test_two_stages_where_one_process_has_no_objects(tiny_cfg, tmp_path, in_two_processes):
    """Every parameter has a gradient in both processes, else they would wait for each other."""
    cfg = to_two_stage(tiny_cfg, "TOODCascadeROIHeads")
    cfg.MODEL.MASK_ON = True
    in_two_processes(two_stage_worker, cfg, tmp_path / "init", tmp_path)
    (empty, first), (full, second) = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert empty == 0 and full > 0
    for name, gradient in first.items():
        assert gradient.isfinite().all() and gradient.equal(second[name]), name
    assert any(g.abs().sum() > 0 for name, g in first.items() if "mask_head" in name)

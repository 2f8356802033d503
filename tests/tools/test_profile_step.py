"""tools.benchmark.profile_step: the parts of a step, and where the host waits for a GPU."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import Interval, Kernel

from tests.helpers import CONFIGS
from tood.errors import ConfigError
from tools.benchmark import profile_step
from tools.benchmark.host_reads import HostReads

QUICKSTART = str(CONFIGS / "quickstart" / "TOOD-R18-shapes.yaml")


def run_profile(capsys, *options):
    """Milliseconds by part, and the number of reads by operator and function."""
    arguments = ["--config-file", QUICKSTART, "--size", "96x64", "--repeat", "1"]
    profile_step.main([*arguments, "--device", "cpu", *options])
    parts, reads = capsys.readouterr().out.split("\n\n")
    rows = dict(re.findall(r"^\| ([a-zA-Z-]+)\s+\|\s+([\d.]+) \|", parts, re.M))
    found = re.findall(r"^\|\s+(\d+) \| (\S+)\s+\| \S+ (\w+)\s*\|$", reads, re.M)
    times = {part: float(value) for part, value in rows.items()}
    return times, {(operator, function): int(count) for count, operator, function in found}


@pytest.mark.parametrize("phase", ["warmup", "aligned"])
def test_training_reads_nothing_back_from_a_gpu(capsys, phase):
    """Only validation reads values, and only of ground truth on the CPU."""
    times, reads = run_profile(capsys, "--train", "--phase", phase)
    assert list(times) == [
        "backbone", "FPN", "head", "targets", "losses", "backward", "optimizer", "other", "step",
    ]  # fmt: skip
    assert all(time > 0 for part, time in times.items() if part != "other")
    validation = {
        "_validate_classes",
        "preprocess_image",
        "prepare_ground_truth",
        "to_ground_truth",  # of boxes that are still on the CPU
    }
    assert {function for _, function in reads} <= validation, reads


def test_inference_reads_candidates_only(capsys):
    """The candidates of each level and image, those with an area, and what NMS keeps."""
    times, reads = run_profile(capsys, "--batch", "2")
    assert list(times) == ["backbone", "FPN", "head", "post-processing", "other", "step"]
    assert reads.pop(("nonzero", "select_candidates")) == 5 * 2
    assert set(reads) <= {
        ("index", "finalize"), ("torchvision::nms", "finalize"), ("index", "_to_instances"),
        ("_local_scalar_dense", "_to_instances"), ("_local_scalar_dense", "preprocess_image"),
        ("_local_scalar_dense", "inference"), ("_local_scalar_dense", "<listcomp>"),
    }, reads  # fmt: skip


def event(name, start, end, *kernels, device_type=DeviceType.CPU):
    """A profiler's event, in microseconds, and the durations of the kernels that it launched."""
    return SimpleNamespace(
        name=name,
        device_type=device_type,
        time_range=Interval(start, end),
        kernels=[Kernel("kernel", 0, duration) for duration in kernels],
        is_user_annotation=name in profile_step.PARTS.values(),
    )


def test_kernels_count_where_they_were_launched():
    """Whatever they are nested in, and from any thread; ranges' copies on the device do not."""
    events = [
        event("tood/backbone", 0, 100, 9000),
        event("tood/backbone", 200, 9200, device_type=DeviceType.CUDA),
        event("bottom-up", 10, 60),
        event("aten::conv2d", 20, 40, 1000),
        event("aten::add", 70, 80, 500, 250),
        event("backward", 110, 300, 4000),
        event("ConvolutionBackward0", 150, 200, 2000),
        event("aten::mul", 310, 320, 7000),
    ]
    assert profile_step.part_times(events, "cuda") == pytest.approx(
        {"FPN": 0.75, "backbone": 1.0, "backward": 2.0}
    )
    assert profile_step.part_times(events, "cpu") == pytest.approx(
        {"FPN": 0.05, "backbone": 0.05, "backward": 0.19}
    )


def test_host_reads_are_found():
    values, two = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 4.0])
    with HostReads() as reads:
        assert values[0].item() == 1
        values[values > 0] = two  # one number would be filled in, without waiting
        values.nonzero()
        values + values
    assert reads.counts == {
        ("_local_scalar_dense", "elsewhere"): 1,
        ("index_put_", "elsewhere"): 1,
        ("nonzero", "elsewhere"): 1,
    }


def test_other_architectures_are_refused():
    retinanet = ["--opts", "MODEL.META_ARCHITECTURE", "RetinaNet"]
    with pytest.raises(ConfigError, match="Cannot profile MODEL.META_ARCHITECTURE RetinaNet"):
        profile_step.main(["--config-file", QUICKSTART, "--device", "cpu", *retinanet])

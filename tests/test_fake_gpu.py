"""The GPU that is not there: everything that tests rely on raises."""

import pytest
import torch
from torch import nn

from tests.fake_gpu import HostWaits, fake_gpu, run_backward
from tools.benchmark.host_reads import READING_OPERATORS

UPLOAD = {("cpu to cuda", "", ""): "the values of a test"}


@pytest.fixture
def gpu():
    with fake_gpu(UPLOAD) as gpu:
        yield gpu


@pytest.fixture
def values(gpu):
    return torch.rand(3, 4).to("cuda")


WAITS = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum() > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", torch.float64),
    "copy_": lambda x: torch.zeros(3, 4).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "mask": lambda x: x[x > 0],
    "write to a mask": lambda x: x.index_put_((x > 0,), x.new_zeros(12)),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "index": lambda x: x[x[0, 0].long()],
    "repeat_interleave": lambda x: x[0].repeat_interleave(x[0].long()),
    "bincount": lambda x: x[0].long().bincount(),
    "equal": lambda x: x.equal(x),
    "allclose": lambda x: torch.allclose(x, x),
    "indices of the host": lambda x: x[torch.tensor([0, 2])],
    "synchronize": lambda _: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", WAITS)
def test_waits_raise(values, name):
    with pytest.raises(HostWaits, match="The host waits for the GPU: "):
        WAITS[name](values)


def test_uploads_raise():
    with fake_gpu({}):
        for upload in (
            lambda: torch.zeros(3).to("cuda"),
            lambda: torch.tensor([1.0, 2.0], device="cuda"),
            lambda: torch.empty(2, device="cuda").copy_(torch.zeros(2)),
        ):
            with pytest.raises(HostWaits, match="cpu to cuda in "):
                upload()


def test_known_waits_must_happen():
    """A list of them is exact."""
    with (
        pytest.raises(AssertionError, match=r"remove them from the list: .*nonzero"),
        fake_gpu({("nonzero", "", ""): "nowhere"}),
    ):
        torch.zeros(3, device="cuda").sum()


def test_mixed_devices_raise(values):
    for mix in (
        lambda: values + torch.rand(3, 4),
        lambda: torch.cat([values, torch.rand(3, 4)]),
        lambda: values @ torch.rand(4, 2),
        lambda: values.index_put_((values.long()[0],), torch.rand(4)),
        lambda: nn.functional.linear(values, torch.rand(2, 4)),
    ):
        with pytest.raises((RuntimeError, AssertionError)):
            mix()
    assert (values + torch.tensor(1.0)).is_cuda  # a number of the host is a kernel's argument


def test_what_does_not_wait(values):
    assert values.topk(2).indices.shape == (3, 2)
    values[values > 0] = 1.0  # PyTorch fills without asking how many
    assert values.new_zeros(3).is_cuda and torch.arange(3, device="cuda").is_cuda
    assert values.shape == (3, 4) and len(values) == 3


def test_cpu_has_values(values):
    x = torch.arange(4.0)
    assert x[x > 1].sum().item() == 5 and x.nonzero().tolist() == [[1], [2], [3]]


def test_autocast(values):
    layer = nn.Linear(4, 2).to("cuda")
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cuda", dtype):
            assert layer(values).dtype == dtype
            with pytest.raises(RuntimeError, match="unsafe to autocast"):
                nn.functional.binary_cross_entropy(values, values)
    assert layer(values).dtype == torch.float32


def test_backward_sees_what_backward_does(values):
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    values.requires_grad_()
    (values * 2).sum().backward()
    assert values.grad.is_cuda and values.grad.shape == (3, 4)
    with pytest.raises(HostWaits):
        Reads.apply(values).sum().backward()


def test_backward_computes_what_pytorch_computes():
    """On the CPU, where there are values."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor, unused):
            ctx.factor = factor
            return x * factor, x * 2

        @staticmethod
        def backward(ctx, first, second):
            return first * ctx.factor + second * 2, None, None

    x = torch.rand(2, 3, 6, 6)
    gradients = []
    for backward in (torch.autograd.backward, run_backward):
        layers.zero_grad()
        first, _ = Scale.apply(layers(x), 3.0, None)
        chunks = first.flatten(1).chunk(2, dim=1)  # one of which has no gradient
        backward((chunks[0] * first.mean((2, 3))[:, :1]).square().sum())
        gradients.append([p.grad.clone() for p in layers.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_operators_that_read():
    """The list knows operators by name: PyTorch still has them."""
    for name in READING_OPERATORS:
        namespace, _, name = name.rpartition("::")
        assert hasattr(getattr(torch.ops, namespace or "aten"), name), name

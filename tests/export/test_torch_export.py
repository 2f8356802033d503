import pytest
import torch

from tests.export.helpers import assert_same_detections, batch_of
from tood.export.metadata import build_info
from tood.export.networks import build_network, example_inputs, symbolic_sizes
from tood.export.nms import nms_mask
from tood.export.options import ExportOptions
from tood.export.torch_backends import open_any_backend
from tood.export.torch_export import has_torch_export, save_torch_export, to_torch_export
from tood.modeling.tracing import exporting
from tood_runtime.backends import BackendError
from tood_runtime.model_files import read_model_info

pytestmark = pytest.mark.skipif(
    not has_torch_export(), reason="torch.export files need a newer PyTorch"
)


def write_program(path, tiny, **options):
    """The torch.export file of a tiny model; returns its network."""
    model, cfg = tiny
    options = ExportOptions(format="torch-export", **options)
    network = build_network(model, options)
    with exporting():
        inputs = example_inputs(network, options)
        program = to_torch_export(network, inputs, symbolic_sizes(options))
    save_torch_export(program, path, build_info(model, cfg, options, name="tiny"))
    return network


@pytest.fixture(scope="module")
def fixed(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("fixed") / "tiny.pt2"
    return path, write_program(path, tiny, batch=1, size=(96, 64))


def test_fixed_size(fixed):
    path, network = fixed
    backend = open_any_backend(path, threads=1)
    assert backend.info == read_model_info(path)
    assert (backend.info.batch, backend.info.height, backend.info.width) == (1, 64, 96)
    assert backend.name.startswith("torch.export 2.")
    inputs = batch_of(1, 64, 96)
    with torch.no_grad():
        expected = network(*inputs)
    assert_same_detections(backend.run(*(x.numpy() for x in inputs)), expected)
    with pytest.raises(ValueError, match="exactly 1 images, got 2"):
        backend.run(*(x.numpy() for x in batch_of(2, 64, 96)))


def test_image_without_candidates(fixed):
    backend = open_any_backend(fixed[0], threads=1)
    images, sizes, originals = batch_of(1, 64, 96)
    images[:] = torch.nan
    found = backend.run(images.numpy(), sizes.numpy(), originals.numpy())
    assert found["num_dets"].tolist() == [0]
    assert (found["labels"] == -1).all()


def test_nms_keeps_two_boxes_at_least(monkeypatch):
    # torch.export asserts it; see tood.export.nms.
    counts = []

    def counting_nms(*args):
        keep = nms(*args)
        counts.append(len(keep))
        return keep

    from tood.export.nms import nms

    monkeypatch.setattr("tood.export.nms.nms", counting_nms)
    boxes = torch.tensor([[[0.0, 0, 5, 5]] * 3])
    classes = torch.zeros(1, 3).long()
    for scores, expected in (([-1.0, -1, -1], []), ([0.5, 0.9, -1], [1])):
        mask = nms_mask(boxes, torch.tensor([scores]), classes, 0.5, 1, "portable")
        assert mask[0].nonzero().flatten().tolist() == expected
    assert min(counts) >= 2


def test_gpu_is_refused(fixed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendError, match="exported for the CPU"):
        open_any_backend(fixed[0], device="cuda")


@pytest.mark.slow
def test_any_batch_and_size(tiny, tmp_path):
    network = write_program(tmp_path / "tiny.pt2", tiny)
    backend = open_any_backend(tmp_path / "tiny.pt2", threads=1)
    for shape in ((1, 64, 96), (2, 61, 100), (3, 128, 64), (1, 32, 32), (2, 256, 320)):
        inputs = batch_of(*shape)
        with torch.no_grad():
            expected = network(*inputs)
        assert_same_detections(backend.run(*(x.numpy() for x in inputs)), expected)
    images, sizes, originals = batch_of(1, 64, 64)
    images[:] = torch.nan
    found = backend.run(images.numpy(), sizes.numpy(), originals.numpy())
    assert found["num_dets"].tolist() == [0]


@pytest.mark.slow
def test_raw_output(tiny, tmp_path):
    network = write_program(tmp_path / "raw.pt2", tiny, raw=True)
    backend = open_any_backend(tmp_path / "raw.pt2", threads=1)
    for shape in ((1, 64, 96), (3, 33, 100)):
        inputs = batch_of(*shape)
        found = backend.run(*(x.numpy() for x in inputs))
        with torch.no_grad():
            boxes, scores = network(*inputs[:2])
        torch.testing.assert_close(torch.from_numpy(found["boxes"]), boxes, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(torch.from_numpy(found["scores"]), scores, rtol=0, atol=1e-5)

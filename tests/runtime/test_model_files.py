"""Metadata is read from the files themselves, without a runtime."""

import builtins
import zipfile

import pytest
import torch

from tood_runtime.model_files import is_model_file, read_model_info
from tood_runtime.model_info import ModelFileError


@pytest.fixture
def info(make_info):
    """Text of all kinds: quotes, markup, line breaks, and letters beyond ASCII."""
    config = 'A: "x & <y>"\nB:\n  C: [1, 2]\n\tnot yaml  \n'
    return make_info(class_names=["Stühle", '"<&>"', "鳥"], config=config, weights_sha256="")


def write_archive(path, info):
    """What ``torch.jit.save`` and ``torch.export.save`` write."""
    if path.suffix == ".pt2":
        program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
        torch.export.save(program, path, extra_files=info.to_strings())
    else:
        traced = torch.jit.trace(torch.nn.ReLU(), torch.zeros(2))
        torch.jit.save(traced, str(path), _extra_files=info.to_strings())


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
@pytest.mark.parametrize("suffix", [".torchscript", ".ts", ".pt2"])
def test_archives_of_pytorch(info, tmp_path, suffix):
    write_archive(path := tmp_path / f"m{suffix}", info)
    assert read_model_info(path) == info
    path.rename(upper := tmp_path / f"M{suffix.upper()}")
    assert read_model_info(upper) == info


def test_openvino(info, tmp_path):
    openvino = pytest.importorskip("openvino")
    opset = openvino.opset13
    x = opset.parameter([1], openvino.Type.f32)
    model = openvino.Model([opset.relu(x)], [x])
    for key, text in info.to_strings().items():
        model.set_rt_info(text, ["tood", key])
    openvino.save_model(model, tmp_path / "m.xml")
    assert read_model_info(tmp_path / "m.xml") == info
    (tmp_path / "m.xml").write_text((tmp_path / "m.xml").read_text()[:-20])
    with pytest.raises(ModelFileError, match="damaged"):
        read_model_info(tmp_path / "m.xml")


def write_onnx(path, info):
    onnx = pytest.importorskip("onnx")
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"
    )
    weight = onnx.numpy_helper.from_array(torch.randn(1000).numpy(), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weight]))
    onnx.helper.set_model_props(model, {"of others": "x", **info.to_strings()})
    onnx.save(model, path)


def test_onnx_without_its_packages(info, tmp_path, monkeypatch):
    write_onnx(tmp_path / "m.onnx", info)
    imported = builtins.__import__

    def without_onnx(name, *args, **options):
        assert not name.startswith("onnx")
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    assert read_model_info(tmp_path / "m.onnx") == info


def test_cut_and_foreign_files(info, tmp_path):
    """At every length an error, never half of the metadata."""
    path = tmp_path / "m.onnx"
    write_onnx(path, info)
    content = path.read_bytes()
    for length in [*range(0, 4400, 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            read_model_info(path)
    for data in (b"\x00" * 100, b"\xff" * 100, b"<html>", b"PK\x03\x04"):
        for suffix in (".onnx", ".xml", ".torchscript", ".pt2"):
            file = tmp_path / f"x{suffix}"
            file.write_bytes(data)
            with pytest.raises(ModelFileError, match=r"x\.\w+ is damaged, or of another kind"):
                read_model_info(file)
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as archive:
        archive.writestr("a/data.txt", "x")
    with pytest.raises(ModelFileError, match="no metadata of this project"):
        read_model_info(tmp_path / "x.pt2")


def test_damage_within_an_archive(info, tmp_path):
    """Found by tools.fuzz.readers: each raised an error of zipfile, zlib or the system."""
    path = tmp_path / "x.pt2"
    texts = {f"a/extra/{key}": text.encode() for key, text in info.to_strings().items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.writestr("a/extra/last", b"x" * 50)
    whole = path.read_bytes()
    assert read_model_info(path) == info
    directory = whole.rindex(b"PK\x01\x02")
    flags, offset = slice(directory + 8, directory + 9), slice(directory + 42, directory + 46)
    start = int.from_bytes(whole[offset], "little") + 30 + len("a/extra/last")
    for place, value in (
        (flags, b"\x01"),  # encrypted
        (offset, b"\xff\xff\xff\xff"),  # before the beginning, counted from the end
        (slice(start, start + 1), b"\x07"),  # no block of deflate
    ):
        damaged = bytearray(whole)
        damaged[place] = value
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match="damaged, or of another kind"):
            read_model_info(path)


def test_metadata_that_would_fill_the_memory(info, tmp_path):
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, text in info.to_strings().items():
            archive.writestr(f"a/extra/{key}", text)
        archive.writestr("a/extra/bomb", bytes(30_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ModelFileError, match="damaged"):
        read_model_info(path)


def test_paths(tmp_path):
    for name in ("a.onnx", "A.ONNX", "a.xml", "a.ts", "a.torchscript", "a.pt2", tmp_path / "b.xml"):
        assert is_model_file(name)
    for name in ("a.pth", "a.pt", "onnx", "a.yaml", "", None, "a.onnx.bak", 3):
        assert not is_model_file(name)
    with pytest.raises(ModelFileError, match="no model file"):
        read_model_info(tmp_path / "a.onnx")
    (tmp_path / "a.pth").touch()
    with pytest.raises(ModelFileError, match=r"no exported model. Available: \.onnx, \.xml"):
        read_model_info(tmp_path / "a.pth")

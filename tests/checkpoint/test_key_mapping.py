"""Other projects' checkpoints: every published layout, all that is wrapped around it, and back."""

import logging
import pickle
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from tests.helpers import PUBLISHED, load_program, published_keys, published_model
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import detect_layout, from_tood_keys, to_tood_keys
from tood.checkpoint.safe_load import load_file
from tood.checkpoint.state_dict import extract_state_dict
from tood.errors import CheckpointError


def mmdet_weights(name: str) -> dict[str, torch.Tensor]:
    """Random weights with MMDetection's names and shapes of a published model."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, shape in published_keys(name)["state_dict"].items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.zeros((), dtype=torch.int64)
        else:
            weights[key] = torch.rand(shape, generator=generator)
    return weights


def authors_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in weights.items():
        for old, new in (
            ("layer_attention.0", "la_conv1"),
            ("layer_attention.2", "la_conv2"),
            ("_module.0", "_conv1"),
            ("_module.2", "_conv2"),
        ):
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "TOOD-R50-2x"])
def test_every_key_of_the_published_models(name, tmp_path, caplog):
    """Every key finds its place, every parameter its value, and the way back gives the same."""
    caplog.set_level(logging.INFO)
    weights, model = mmdet_weights(name), published_model(name)
    torch.save({"meta": {}, "state_dict": weights}, tmp_path / "published.pth")
    TOODCheckpointer(model, strict=True).load(str(tmp_path / "published.pth"))
    loaded = model.state_dict()
    assert same(from_tood_keys(loaded, "mmdet"), weights)
    assert same(from_tood_keys(loaded, "authors"), authors_names(weights))
    ours, _ = to_tood_keys(authors_names(weights), "authors")
    assert same(ours, dict(loaded))
    head = sum(key.startswith("bbox_head.") for key in weights)
    backbone = sum(key.startswith("backbone.") and "tracked" not in key for key in weights)
    assert (
        f"MMDetection's names: tensors of backbone {backbone}, FPN 16, head {head}" in caplog.text
    )
    assert "Not used of it: meta." in caplog.text


def test_some_keys_by_hand():
    """Where a weight goes, so that a table that is wrong in both directions is seen."""
    names = {
        "backbone.conv1.weight": "backbone.bottom_up.stem.conv1.weight",
        "backbone.bn1.running_var": "backbone.bottom_up.stem.conv1.norm.running_var",
        "backbone.layer2.11.bn3.bias": "backbone.bottom_up.res3.11.conv3.norm.bias",
        "backbone.layer4.0.conv2.weight": "backbone.bottom_up.res5.0.conv2.weight",
        "backbone.layer4.0.conv2.conv_offset.bias": "backbone.bottom_up.res5.0.conv2_offset.bias",
        "backbone.layer3.0.downsample.0.weight": "backbone.bottom_up.res4.0.shortcut.weight",
        "backbone.layer3.0.downsample.1.bias": "backbone.bottom_up.res4.0.shortcut.norm.bias",
        "neck.lateral_convs.0.conv.bias": "backbone.fpn_lateral3.bias",
        "neck.fpn_convs.2.conv.weight": "backbone.fpn_output5.weight",
        "neck.fpn_convs.3.conv.weight": "backbone.top_block.p6.weight",
        "neck.fpn_convs.4.conv.weight": "backbone.top_block.p7.weight",
        "bbox_head.inter_convs.0.conv.conv_offset.weight": "head.inter_convs.0.conv_offset.weight",
        "bbox_head.inter_convs.0.conv.weight": "head.inter_convs.0.weight",
        "bbox_head.inter_convs.3.gn.bias": "head.inter_convs.3.norm.bias",
        "bbox_head.cls_decomp.reduction_conv.conv.weight": "head.cls_decomp.reduction_conv.weight",
        "bbox_head.reg_decomp.la_conv2.bias": "head.reg_decomp.layer_attention.2.bias",
        "bbox_head.cls_decomp.la_conv1.weight": "head.cls_decomp.layer_attention.0.weight",
        "bbox_head.cls_prob_conv1.weight": "head.cls_prob_module.0.weight",
        "bbox_head.reg_offset_conv2.bias": "head.reg_offset_module.2.bias",
        "bbox_head.scales.4.scale": "head.scales.4.scale",
        "bbox_head.tood_cls.bias": "head.tood_cls.bias",
    }
    weights = {key: torch.zeros(()) for key in names}
    ours, origins = to_tood_keys(weights, "authors")
    assert list(ours) == list(names.values())
    assert origins == {ours: theirs for theirs, ours in names.items()}
    back = from_tood_keys(ours, "authors")
    assert back.keys() - names.keys() == {"backbone.bn1.num_batches_tracked"}
    assert names.keys() <= back.keys()


def test_counters_that_counted_survive_the_round_trip():
    weights = mmdet_weights("TOOD-R50-1x")
    weights["backbone.layer2.0.bn1.num_batches_tracked"] += 7
    ours, _ = to_tood_keys(weights, "mmdet")
    assert sum(key.endswith("num_batches_tracked") for key in ours) == 1
    assert same(from_tood_keys(ours, "mmdet"), weights)


def flat(weights):
    return {f"ema_{key.replace('.', '_')}": torch.zeros(()) for key in weights}


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]}
META = {"mmdet_version": "2.18.1", "epoch": 12, "CLASSES": ("cat", "dog"), "config": "model = 1"}
STEPS = torch.tensor(5)
WRAPPED = {
    "bare": lambda w: w,
    "ordered": lambda w: OrderedDict(w),
    "state_dict": lambda w: {"meta": META, "state_dict": w, "optimizer": OPTIMIZER},
    "entries beside the weights": lambda w: {**w, "meta": META, "optimizer": OPTIMIZER, "epoch": 3},
    "DistributedDataParallel": lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}},
    "torch.compile": lambda w: {f"_orig_mod.{k}": v for k, v in w.items()},
    "copies of mmcv's EMA hook": lambda w: {"state_dict": {**w, **flat(w)}},
    "copies with dots": lambda w: {**w, **{f"ema_model.{k}": v * 0 for k, v in w.items()}},
    "only the average": lambda w: {f"ema_model.module.{k}": v for k, v in w.items()},
    "ema. before all": lambda w: {f"ema.{k}": v for k, v in w.items()},
    "MMEngine's EMA": lambda w: {
        "message_hub": {},
        "state_dict": w,
        "ema_state_dict": {"steps": STEPS, **{f"module.{k}": v * 0 for k, v in w.items()}},
    },
    "MMEngine's EMA alone": lambda w: {
        "ema_state_dict": {"steps": STEPS, **{f"module.{k}": v for k, v in w.items()}}
    },
    "model": lambda w: {"model": w, "optimizer": OPTIMIZER, "iteration": 9},
    "a model that is no weights": lambda w: {"model": "tood_r50", "state_dict": w},
    "timm's EMA": lambda w: {"epoch": 3, "state_dict_ema": w},
    "an EMA object": lambda w: {"ema": {"module": w, "updates": 3}, "epoch": 3},
    "numpy": lambda w: {"model": {k: v.numpy() for k, v in w.items()}},
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny_theirs():
    """A tiny model's own weights, and the same with MMDetection's names."""
    from tests.conftest import make_tiny_cfg

    torch.manual_seed(0)
    state_dict = build_model(make_tiny_cfg()).state_dict()
    return dict(state_dict), from_tood_keys(state_dict, "mmdet")


@pytest.mark.parametrize("names", ["mmdet", "authors", "tood"])
@pytest.mark.parametrize("wrapping", WRAPPED)
def test_whatever_is_wrapped_around(tiny_theirs, tiny_cfg, tmp_path, names, wrapping):
    ours, weights = tiny_theirs
    weights = {"mmdet": weights, "authors": authors_names(weights), "tood": ours}[names]
    suffix = "pkl" if wrapping == "numpy" else "pth"
    path = tmp_path / f"file.{suffix}"
    contents = WRAPPED[wrapping](weights)
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    model = build_model(tiny_cfg)
    TOODCheckpointer(model, strict=True).load(str(path))
    assert same(dict(model.state_dict()), ours)


def test_what_is_not_used_is_said(tiny_theirs, tiny_cfg, tmp_path, caplog):
    _, weights = tiny_theirs
    caplog.set_level(logging.INFO)
    torch.save(WRAPPED["copies of mmcv's EMA hook"](weights) | {"meta": META}, tmp_path / "ema.pth")
    TOODCheckpointer(build_model(tiny_cfg), strict=True).load(str(tmp_path / "ema.pth"))
    assert f"{len(weights)} entries like ema_backbone_" in caplog.text and "meta" in caplog.text


def test_misfits_are_listed_by_their_names_in_the_file(tiny_theirs, tiny_cfg, tmp_path):
    weights = dict(tiny_theirs[1])
    weights["bbox_head.atss_centerness.weight"] = torch.zeros(1)
    weights["neck.fpn_convs.4.conv.bias"] = torch.zeros(7)
    del weights["backbone.layer3.0.bn1.weight"]
    torch.save({"state_dict": weights}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as error:
        TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "other.pth"))
    for part in (
        "1 keys of the file have no place: bbox_head.atss_centerness.weight",
        "neck.fpn_convs.4.conv.bias (7,), in the model (64,)",
        "get no value: backbone.bottom_up.res4.0.conv1.norm.weight",
    ):
        assert part in str(error.value)


def test_other_detectors_of_mmdetection_are_refused(tiny_theirs, tiny_cfg, tmp_path):
    weights = {k: v for k, v in tiny_theirs[1].items() if not k.startswith("bbox_head.")}
    weights["bbox_head.retina_cls.weight"] = torch.zeros(1)
    torch.save({"state_dict": weights}, tmp_path / "retinanet.pth")
    with pytest.raises(CheckpointError, match="weights of another model"):
        TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "retinanet.pth"))


# ---- backbones ----


TORCHVISION = {
    "TOOD-R50-1x": torchvision.models.resnet50,
    "TOOD-R101-2x": torchvision.models.resnet101,
    "TOOD-X101-64x4d-2x": torchvision.models.resnext101_64x4d,
}


def randomize_norms(module: torch.nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.weight, 0.2, 0.4)
            torch.nn.init.normal_(norm.bias, std=0.1)
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.num_batches_tracked += 3


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_backbones(name, tmp_path):
    """The same features as torchvision's network: names, strides, groups and statistics."""
    theirs = TORCHVISION[name](weights=None).eval()
    randomize_norms(theirs)
    torch.save(theirs.state_dict(), tmp_path / "backbone.pth")
    model = published_model(name)
    TOODCheckpointer(model).load(str(tmp_path / "backbone.pth"))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours = model.backbone.bottom_up(image)
        x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image)))))
        for stage in (2, 3, 4):
            x = getattr(theirs, f"layer{stage}")(x)
            scale = x.abs().max().item()
            torch.testing.assert_close(ours[f"res{stage + 1}"], x, rtol=0, atol=1e-5 * scale)


def backbone_file(tiny_theirs, kind):
    """A tiny backbone in some file format, and the layout that it is."""
    ours, weights = tiny_theirs
    ours = {
        key.removeprefix("backbone.bottom_up."): value
        for key, value in ours.items()
        if key.startswith("backbone.bottom_up.")
    }
    theirs = {
        key.removeprefix("backbone."): value
        for key, value in weights.items()
        if key.startswith("backbone.")
    }
    classifier = {"fc.weight": torch.zeros(9, 512), "fc.bias": torch.zeros(9)}
    if kind == "torchvision":
        return {**theirs, **classifier}, "torchvision"
    if kind == "mmdet without classifier":
        return {"state_dict": theirs, "meta": META}, "torchvision"
    if kind == "mmpretrain":
        weights = {f"backbone.{key}": value for key, value in theirs.items()}
        weights.update({f"head.{key}": value for key, value in classifier.items()})
        return {"state_dict": weights, "meta": META}, "MMDetection"
    if kind == "detectron2 with its prefix":
        return {"model": {f"backbone.bottom_up.{k}": v for k, v in ours.items()}}, "detectron2"
    if kind == "detectron2 with a short prefix":
        return {"model": {f"bottom_up.{k}": v for k, v in ours.items()}}, "detectron2"
    weights = {**ours, "stem.fc.weight": torch.zeros(9, 512)}
    arrays = {key: value.numpy() for key, value in weights.items()}
    return {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}, "detectron2"


BACKBONE_KINDS = ["torchvision", "mmdet without classifier", "mmpretrain", "detectron2.pkl"]
BACKBONE_KINDS += ["detectron2 with its prefix", "detectron2 with a short prefix"]


@pytest.mark.parametrize("kind", BACKBONE_KINDS)
def test_backbone_files(tiny_theirs, tiny_cfg, tmp_path, kind, caplog):
    caplog.set_level(logging.INFO)
    contents, project = backbone_file(tiny_theirs, kind)
    path = tmp_path / ("backbone.pkl" if kind.endswith("pkl") else "backbone.pth")
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    model = build_model(tiny_cfg)
    TOODCheckpointer(model).load(str(path))
    expected = {k: v for k, v in tiny_theirs[0].items() if k.startswith("backbone.bottom_up.")}
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert f"a backbone with {project}'s names" in caplog.text
    assert "FPN and head start from their initialization" in caplog.text


def test_plain_backbone_for_a_deformable_one(tiny_cfg, tmp_path, caplog):
    """The weights that the DCN configs start from know no offsets: those start at 0."""
    caplog.set_level(logging.INFO)
    resnets = tiny_cfg.MODEL.RESNETS
    resnets.DEPTH, resnets.RES2_OUT_CHANNELS = 50, 256
    theirs = torchvision.models.resnet50(weights=None)
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    resnets.DEFORM_ON_PER_STAGE, resnets.DEFORM_MODULATED = [False, True, True, True], True
    model = build_model(tiny_cfg)
    TOODCheckpointer(model).load(str(tmp_path / "resnet50.pth"))
    block = model.backbone.bottom_up.res4[2]
    assert torch.equal(block.conv2.weight, theirs.layer3[2].conv2.weight)
    assert not block.conv2_offset.weight.any()
    assert "offsets of the backbone's deformable convolutions from 0" in caplog.text


def test_caffe2_backbone(tiny_theirs, tiny_cfg, tmp_path, caplog):
    """detectron2's MSRA weights: names of Caffe2, no running statistics, another input."""
    contents, _ = backbone_file(tiny_theirs, "detectron2.pkl")
    blobs = {}
    for key, value in contents["model"].items():
        stage, _, rest = key.partition(".")
        if rest.endswith(("running_mean", "running_var")) or ".fc." in key:
            continue
        if stage == "stem":
            name = {"conv1.weight": "conv1_w", "conv1.norm.weight": "res_conv1_bn_s"}
            blobs[name.get(rest, "res_conv1_bn_b")] = value
            continue
        block, layer, rest = rest.split(".", 2)
        branch = {"shortcut": "1", "conv1": "2a", "conv2": "2b"}[layer]
        end = {"weight": "w", "norm.weight": "bn_s", "norm.bias": "bn_b"}[rest]
        blobs[f"{stage}_{block}_branch{branch}_{end}"] = value
    blobs.update({"fc1000_w": np.zeros((9, 512)), "conv1_b": np.zeros(64)})
    blobs["conv1_w_momentum"] = np.zeros(3)
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    model = build_model(tiny_cfg)
    TOODCheckpointer(model).load(str(tmp_path / "R-18.pkl"))
    assert "expects BGR" in caplog.text
    for key, value in model.backbone.bottom_up.state_dict().items():
        if key.endswith("running_mean"):
            assert not value.any()
        elif key.endswith("running_var"):
            assert (value == 1).all()
        else:
            assert torch.equal(value, torch.as_tensor(contents["model"][key])), key


# ---- safety ----


class Bomb:
    def __reduce__(self):
        return eval, ("__import__('sys').modules.__setitem__('bomb_went_off', 1)",)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_reading_runs_no_code(tmp_path, suffix):
    path = tmp_path / f"bomb.{suffix}"
    contents = {"model": {"conv1.weight": np.zeros(3)}, "meta": Bomb()}
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(contents))
    else:
        torch.save(contents, path)
    with pytest.raises(CheckpointError, match=r"could run any code.*write its weights alone"):
        load_file(str(path))
    assert "bomb_went_off" not in sys.modules


class Crafted:
    """A pickle that calls numpy's constructors with an address for a shape."""

    def __reduce__(self):
        return np.ndarray, ((1,), np.dtype("O"), b"A" * 8)


@pytest.mark.parametrize("contents", [Crafted(), np.array([{}], dtype=object), np.dtype("V8")])
def test_pickles_cannot_reach_into_numpy(tmp_path, contents):
    (tmp_path / "crafted.pkl").write_bytes(pickle.dumps({"model": contents}))
    with pytest.raises(CheckpointError):
        extract_state_dict(load_file(str(tmp_path / "crafted.pkl")), "crafted.pkl")


def test_damaged_pickles_are_refused_or_read(tmp_path):
    """Damage anywhere, in the types of arrays too, neither stops the program nor raises bare."""
    data = pickle.dumps({"model": {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(3, "i8")}})
    random = np.random.RandomState(0)
    path = tmp_path / "damaged.pkl"
    refused = 0
    for _ in range(2000):
        damaged = bytearray(data)
        for position in random.randint(0, len(data), 2):
            damaged[position] = random.randint(256)
        path.write_bytes(damaged)
        try:
            load_file(str(path))
        except CheckpointError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_pickle_protocol(tmp_path, protocol):
    arrays = {
        "float": np.random.rand(2, 3).astype(np.float32),
        "half": np.random.rand(4).astype(np.float16),
        "fortran": np.asfortranarray(np.random.rand(3, 2)),
        "int": np.arange(4),
        "big": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3)),
        "number": np.float32(0.5),
    }
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    read = load_file(str(path))
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array), name


def test_truncated_pickle(tmp_path):
    data = pickle.dumps({"model": {"a": np.zeros(100)}})
    (tmp_path / "cut.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        load_file(str(tmp_path / "cut.pkl"))


# ---- the tool ----


def run_tool(monkeypatch, *args) -> None:
    program = load_program("tood/checkpoint/convert.py")
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *map(str, args)])
    program.main()


@pytest.mark.parametrize("to", ["mmdet", "authors"])
def test_tool_there_and_back(tiny_theirs, tmp_path, monkeypatch, capsys, to):
    weights = tiny_theirs[1] if to == "mmdet" else authors_names(tiny_theirs[1])
    torch.save({"state_dict": weights, "meta": META}, tmp_path / "theirs.pth")
    run_tool(monkeypatch, tmp_path / "theirs.pth", tmp_path / "new" / "ours.pth")
    assert same(load_file(str(tmp_path / "new" / "ours.pth"))["model"], tiny_theirs[0])
    run_tool(monkeypatch, tmp_path / "new" / "ours.pth", tmp_path / "back.pth", "--to", to)
    assert same(load_file(str(tmp_path / "back.pth"))["state_dict"], weights)
    assert "not carried over: meta" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="exists already"):
        run_tool(monkeypatch, tmp_path / "theirs.pth", tmp_path / "back.pth")


def test_tool_checks_against_a_config(tiny_theirs, tiny_cfg, tmp_path, monkeypatch):
    tiny_cfg.MODEL.TOOD.CLASS_NAMES = list("abcde")
    (tmp_path / "config.yaml").write_text(tiny_cfg.dump())
    torch.save({"model": tiny_theirs[0]}, tmp_path / "ours.pth")
    options = ["--config-file", tmp_path / "config.yaml"]
    run_tool(monkeypatch, tmp_path / "ours.pth", tmp_path / "a.pth", "--to", "mmdet", *options)
    meta = load_file(str(tmp_path / "a.pth"))["meta"]
    assert meta["CLASSES"] == meta["dataset_meta"]["classes"] == tuple("abcde")
    weights = dict(tiny_theirs[0])
    del weights["head.tood_reg.bias"]
    torch.save({"model": weights}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"get no value: head\.tood_reg\.bias"):
        run_tool(monkeypatch, tmp_path / "part.pth", tmp_path / "b.pth", *options)
    assert not (tmp_path / "b.pth").exists()


def test_tool_refuses_what_has_no_name(tiny_theirs, tmp_path, monkeypatch):
    torch.save(
        {"model": {**tiny_theirs[0], "head.mine.weight": torch.zeros(1)}}, tmp_path / "a.pth"
    )
    with pytest.raises(CheckpointError, match=r"have no name.*head\.mine\.weight"):
        run_tool(monkeypatch, tmp_path / "a.pth", tmp_path / "b.pth", "--to", "mmdet")
    weights = {**tiny_theirs[1], "bbox_head.mine.weight": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"have no name.*bbox_head\.mine\.weight"):
        run_tool(monkeypatch, tmp_path / "c.pth", tmp_path / "d.pth")


def test_tool_refuses_other_detectors(tmp_path, monkeypatch):
    weights = {"backbone.fpn_lateral3.bias": torch.zeros(1), "head.cls_score.bias": torch.zeros(1)}
    torch.save({"model": weights}, tmp_path / "retinanet.pth")
    with pytest.raises(CheckpointError, match=r"have no name.*head\.cls_score"):
        run_tool(monkeypatch, tmp_path / "retinanet.pth", tmp_path / "x.pth")


def test_tool_converts_a_backbone(tiny_theirs, tiny_cfg, tmp_path, monkeypatch):
    contents, _ = backbone_file(tiny_theirs, "mmpretrain")
    torch.save(contents, tmp_path / "backbone.pth")
    run_tool(monkeypatch, tmp_path / "backbone.pth", tmp_path / "ours.pth")
    converted = load_file(str(tmp_path / "ours.pth"))["model"]
    assert detect_layout(converted, "file") == "detectron2-backbone"
    TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "ours.pth"))
    with pytest.raises(CheckpointError, match="backbone only"):
        run_tool(monkeypatch, tmp_path / "backbone.pth", tmp_path / "x.pth", "--to", "mmdet")

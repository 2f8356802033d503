"""Every key of every supported layout finds its place, and the way back gives the same."""

import logging
import pickle

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from tests.checkpoint.builders import (
    BACKBONE_KINDS,
    authors_names,
    backbone_contents,
    equal_weights,
    mmdet_weights,
    save_contents,
)
from tests.helpers import PUBLISHED, published_model
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.key_mapping import detect_layout, from_tood_keys, nest_keys, to_tood_keys
from tood.errors import CheckpointError


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "TOOD-R50-2x"])
def test_published_models_round_trip(name, tmp_path, caplog):
    """Every key has a place, every parameter gets a value, and the inverse gives the same."""
    caplog.set_level(logging.INFO)
    weights, model = mmdet_weights(name), published_model(name)
    torch.save({"meta": {}, "state_dict": weights}, tmp_path / "published.pth")
    TOODCheckpointer(model, strict=True).load(str(tmp_path / "published.pth"))
    loaded = model.state_dict()
    assert equal_weights(from_tood_keys(loaded, "mmdet"), weights)
    assert equal_weights(from_tood_keys(loaded, "authors"), authors_names(weights))
    ours, _ = to_tood_keys(authors_names(weights), "authors")
    assert equal_weights(ours, dict(loaded))
    head = sum(key.startswith("bbox_head.") for key in weights)
    backbone = sum(key.startswith("backbone.") and "tracked" not in key for key in weights)
    assert f"MMDetection's names. Tensors: backbone {backbone}, FPN 16, head {head}" in caplog.text
    assert "Not used: meta." in caplog.text


def test_known_keys():
    """Written by hand, so that a table that is wrong in both directions fails."""
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


def test_nonzero_batch_counters_round_trip():
    weights = mmdet_weights("TOOD-R50-1x")
    weights["backbone.layer2.0.bn1.num_batches_tracked"] += 7
    ours, _ = to_tood_keys(weights, "mmdet")
    assert sum(key.endswith("num_batches_tracked") for key in ours) == 1
    assert equal_weights(from_tood_keys(ours, "mmdet"), weights)


def test_mismatches_are_listed_by_their_names_in_the_file(tiny_weights, tiny_cfg, tmp_path):
    weights = dict(tiny_weights[1])
    weights["bbox_head.atss_centerness.weight"] = torch.zeros(1)
    weights["neck.fpn_convs.4.conv.bias"] = torch.zeros(7)
    del weights["backbone.layer3.0.bn1.weight"]
    torch.save({"state_dict": weights}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as error:
        TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "other.pth"))
    for part in (
        "1 keys of the file have no place in the model: bbox_head.atss_centerness.weight",
        "neck.fpn_convs.4.conv.bias (7,), in the model (64,)",
        "1 parameters of the model have no value in the file: "
        "backbone.bottom_up.res4.0.conv1.norm.weight",
    ):
        assert part in str(error.value)


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
    """The features are torchvision's, so names, strides, groups and statistics are right."""
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


@pytest.mark.parametrize("kind", BACKBONE_KINDS)
def test_backbone_files_are_detected(tiny_weights, tiny_cfg, tmp_path, kind, caplog):
    caplog.set_level(logging.INFO)
    contents, project = backbone_contents(tiny_weights, kind)
    name = "backbone.pkl" if kind.endswith("pkl") else "backbone.pth"
    path = save_contents(contents, tmp_path / name)
    model = build_model(tiny_cfg)
    TOODCheckpointer(model).load(path)
    expected = {k: v for k, v in tiny_weights[0].items() if k.startswith("backbone.bottom_up.")}
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert f"a backbone with {project}'s names" in caplog.text
    assert "everything else keeps its initialization" in caplog.text


def test_deformable_offsets_start_at_zero_without_weights(tiny_cfg, tmp_path, caplog):
    """The ImageNet weights that DCN configs start from have no offsets."""
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
    assert "offsets of the backbone's deformable convolutions start at 0" in caplog.text


def test_caffe2_backbone_is_renamed(tiny_weights, tiny_cfg, tmp_path, caplog):
    """detectron2's MSRA weights: Caffe2's names, no running statistics, another input."""
    contents, _ = backbone_contents(tiny_weights, "detectron2.pkl")
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


def test_caffe2_keys_have_origins():
    names = {
        "conv1_w": "backbone.bottom_up.stem.conv1.weight",
        "res_conv1_bn_s": "backbone.bottom_up.stem.conv1.norm.weight",
        "res2_0_branch2a_w": "backbone.bottom_up.res2.0.conv1.weight",
        "res5_2_branch2c_bn_b": "backbone.bottom_up.res5.2.conv3.norm.bias",
    }
    weights = {name: torch.zeros(1) for name in names}
    ours, origins = to_tood_keys(weights, detect_layout(weights, "file"))
    assert names.items() <= {(origin, key) for key, origin in origins.items()}
    assert ours.keys() - names.values() == {
        f"backbone.bottom_up.stem.conv1.norm.{name}" for name in ("running_mean", "running_var")
    }


def test_keys_are_nested_where_the_model_has_them():
    entries = {"head.scale": 1, "backbone.bias": 2, "head.unknown": 3}
    model_keys = {"rpn.head.scale", "backbone.bias", "rpn.other"}
    nested = nest_keys(entries, "rpn.", model_keys)
    assert nested == {"rpn.head.scale": 1, "backbone.bias": 2, "head.unknown": 3}
    assert nest_keys(entries, "", {"head.scale"}) == entries


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (("backbone.conv1.weight", "backbone.layer1.0.conv1.weight"), "mmdet-backbone"),
        (("conv1.weight", "layer1.0.conv1.weight"), "torchvision-backbone"),
        (("conv1_w", "res2_0_branch2a_w"), "caffe2-backbone"),
    ],
)
def test_two_keys_tell_a_backbone(names, layout):
    """Both of them, and others may follow."""
    assert detect_layout(names, "file") == layout
    assert detect_layout([*names, "other"], "file") == layout
    for name in names:
        with pytest.raises(CheckpointError):
            detect_layout([name, "other"], "file")


def test_unknown_layout_shows_three_keys():
    with pytest.raises(CheckpointError, match=r"file holds .*\(first keys: a, b, c\)"):
        detect_layout(["d", "c", "b", "a"], "file")


@pytest.mark.parametrize("counter", [torch.tensor(3), torch.zeros(0), torch.zeros(2)])
def test_only_counters_of_one_zero_are_dropped(counter):
    """Anything else there is not what batch norm writes, and gets reported as unknown."""
    name = "backbone.bn1.num_batches_tracked"
    ours, _ = to_tood_keys({name: counter}, "mmdet")
    assert len(ours) == 1
    assert not to_tood_keys({name: torch.tensor(0)}, "mmdet")[0]


def test_keys_without_a_name_are_counted_and_ten_are_listed():
    weights = {f"head.unknown{i}": torch.zeros(1) for i in range(12)}
    keys = list(weights)
    with pytest.raises(CheckpointError) as error:
        from_tood_keys({**weights, "head.tood_cls.bias": torch.zeros(1)}, "mmdet")
    assert str(error.value).startswith("12 parameters have no name in a TOOD checkpoint with MMD")
    assert f": {'; '.join(keys[:10])}. Only models" in str(error.value)

"""Conversion between layouts: nothing is lost, and what has no name is refused."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.checkpoint.builders import META, authors_names, backbone_contents, equal_weights
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.convert import convert_checkpoint
from tood.checkpoint.info import INFO_KEY, CheckpointInfo
from tood.checkpoint.key_mapping import detect_layout
from tood.checkpoint.safe_load import load_file
from tood.errors import CheckpointError


@pytest.mark.parametrize("to", ["mmdet", "authors"])
def test_round_trip_gives_the_same_bits(tiny_weights, tmp_path, to):
    weights = tiny_weights[1] if to == "mmdet" else authors_names(tiny_weights[1])
    torch.save({"state_dict": weights, "meta": META}, tmp_path / "theirs.pth")
    converted = convert_checkpoint(str(tmp_path / "theirs.pth"), "tood")
    assert converted.source.layout == to
    assert converted.source.ignored == ["meta"]
    converted.save(str(tmp_path / "new" / "ours.pth"))
    assert equal_weights(load_file(str(tmp_path / "new" / "ours.pth"))["model"], tiny_weights[0])
    back = convert_checkpoint(str(tmp_path / "new" / "ours.pth"), to)
    back.save(str(tmp_path / "back.pth"))
    assert equal_weights(load_file(str(tmp_path / "back.pth"))["state_dict"], weights)
    assert equal_weights(back.state_dict, weights)
    with pytest.raises(CheckpointError, match="already exists"):
        converted.save(str(tmp_path / "back.pth"))
    assert equal_weights(load_file(str(tmp_path / "back.pth"))["state_dict"], weights)


def test_config_is_checked_and_gives_class_names(tiny_weights, tiny_cfg, tmp_path):
    tiny_cfg.MODEL.TOOD.CLASS_NAMES = list("abcde")
    torch.save({"model": tiny_weights[0]}, tmp_path / "ours.pth")
    converted = convert_checkpoint(str(tmp_path / "ours.pth"), "mmdet", tiny_cfg)
    converted.save(str(tmp_path / "a.pth"))
    meta = load_file(str(tmp_path / "a.pth"))["meta"]
    assert meta["CLASSES"] == meta["dataset_meta"]["classes"] == tuple("abcde")
    weights = dict(tiny_weights[0])
    del weights["head.tood_reg.bias"]
    torch.save({"model": weights}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"no value in the file: head\.tood_reg\.bias"):
        convert_checkpoint(str(tmp_path / "part.pth"), "tood", tiny_cfg)


def test_an_average_stays_one(tiny_weights, tmp_path):
    info = CheckpointInfo(is_average=True)
    torch.save({"model": tiny_weights[0], INFO_KEY: info.to_dict()}, tmp_path / "ours.pth")
    converted = convert_checkpoint(str(tmp_path / "ours.pth"), "mmdet")
    assert converted.contents["meta"]["is_average"] is True
    same = convert_checkpoint(str(tmp_path / "ours.pth"), "tood")
    assert same.contents[INFO_KEY]["is_average"] is True


def test_weights_without_a_name_are_refused(tiny_weights, tmp_path):
    weights = {**tiny_weights[0], "head.mine.weight": torch.zeros(1)}
    torch.save({"model": weights}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"have no name.*head\.mine\.weight"):
        convert_checkpoint(str(tmp_path / "a.pth"), "mmdet")
    weights = {**tiny_weights[1], "bbox_head.mine.weight": torch.zeros(1)}
    torch.save({"state_dict": weights}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"have no name.*bbox_head\.mine\.weight"):
        convert_checkpoint(str(tmp_path / "c.pth"), "tood")


def test_other_detectors_are_refused(tmp_path):
    weights = {"backbone.fpn_lateral3.bias": torch.zeros(1), "head.cls_score.bias": torch.zeros(1)}
    torch.save({"model": weights}, tmp_path / "retinanet.pth")
    with pytest.raises(CheckpointError, match=r"have no name.*head\.cls_score"):
        convert_checkpoint(str(tmp_path / "retinanet.pth"), "tood")


def test_backbone_is_converted_to_our_names_only(tiny_weights, tiny_cfg, tmp_path):
    contents, _ = backbone_contents(tiny_weights, "mmpretrain")
    torch.save(contents, tmp_path / "backbone.pth")
    convert_checkpoint(str(tmp_path / "backbone.pth"), "tood", tiny_cfg).save(
        str(tmp_path / "ours.pth")
    )
    converted = load_file(str(tmp_path / "ours.pth"))["model"]
    assert detect_layout(converted, "file") == "detectron2-backbone"
    model = build_model(tiny_cfg)
    TOODCheckpointer(model).load(str(tmp_path / "ours.pth"))
    assert equal_weights(model.backbone.bottom_up.state_dict(), converted)
    with pytest.raises(CheckpointError, match="holds only a backbone"):
        convert_checkpoint(str(tmp_path / "backbone.pth"), "mmdet")

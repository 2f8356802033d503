"""A trained two-stage model as the start of one with another number of classes."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.modeling.two_stage import to_two_stage
from tood.checkpoint import TOODCheckpointer
from tood.checkpoint.roi_classes import roi_class_parameters
from tood.errors import CheckpointError

STANDARD, CASCADE = "TOODStandardROIHeads", "TOODCascadeROIHeads"


@pytest.fixture
def build(tiny_cfg):
    """Builds a model with masks for a number of classes, from new weights."""
    to_two_stage(tiny_cfg).MODEL.MASK_ON = True

    def build_it(num_classes, seed, heads=STANDARD, *, agnostic=True):
        torch.manual_seed(seed)
        model = to_two_stage(tiny_cfg, heads).MODEL
        model.TOOD.NUM_CLASSES = model.ROI_HEADS.NUM_CLASSES = num_classes
        model.TOOD.PROPOSALS.CLASS_AGNOSTIC = agnostic
        return build_model(tiny_cfg)

    return build_it


def save(model, path) -> str:
    torch.save({"model": model.state_dict()}, path)
    return str(path)


@pytest.mark.parametrize("heads", [STANDARD, CASCADE])
@pytest.mark.parametrize("agnostic", [True, False])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_only_what_knows_classes_starts_anew(build, tmp_path, caplog, heads, agnostic, num_classes):
    source = build(5, 1, heads, agnostic=agnostic)
    model = build(num_classes, 2, heads, agnostic=agnostic)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    TOODCheckpointer(model).load(save(source, tmp_path / "weights.pth"))
    fresh = set()
    for key, value in source.state_dict().items():
        loaded = model.state_dict()[key]
        if loaded.shape != value.shape:
            assert loaded.equal(before[key])
            fresh.add(key)
        else:
            assert loaded.equal(value), key
    parts = {"cls_score", "predictor"} | ({"bbox_pred"} if heads == STANDARD else set())
    parts |= set() if agnostic else {"tood_cls"}
    assert {key.split(".")[-2] for key in fresh} == parts
    (message,) = [text for text in caplog.messages if "another number of classes" in text]
    assert all(key in message for key in fresh)


def test_one_box_for_all_classes_is_another_model(build, tmp_path, tiny_cfg):
    """The number of classes is the same, so the difference is a mistake."""
    source = build(5, 1)
    tiny_cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    model = build_model(tiny_cfg)
    with pytest.raises(CheckpointError, match="bbox_pred"):
        TOODCheckpointer(model).load(save(source, tmp_path / "weights.pth"))


def test_evaluation_needs_the_classes_of_the_weights(build, tmp_path):
    path = save(build(5, 1), tmp_path / "weights.pth")
    model = build(3, 2)
    with pytest.raises(
        CheckpointError, match=r"Set MODEL.TOOD.NUM_CLASSES and MODEL.ROI_HEADS.NUM_CLASSES to"
    ):
        TOODCheckpointer(model, strict=True).load(path)


def test_evaluation_needs_the_first_stage_of_the_weights(build, tmp_path):
    """The number of classes is the same in both."""
    path = save(build(5, 1), tmp_path / "weights.pth")
    model = build(5, 2, agnostic=False)
    with pytest.raises(CheckpointError, match=r"MODEL.TOOD.PROPOSALS.CLASS_AGNOSTIC seems to"):
        TOODCheckpointer(model, strict=True).load(path)


def test_one_stage_has_none(tiny_cfg):
    assert roi_class_parameters(build_model(tiny_cfg)) == []

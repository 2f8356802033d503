"""Which differences between a checkpoint and a model are allowed, and how others are reported."""

import logging

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.helpers import STRIDES
from tood import DENSE_HEAD_REGISTRY
from tood.checkpoint import LoadedWeights, TOODCheckpointer
from tood.checkpoint.key_report import compare_keys
from tood.errors import CheckpointError
from tood.modeling.heads import DensePredictions

BACKBONE = "backbone.bottom_up.stem.conv1.weight"
OFFSET = "backbone.bottom_up.res3.0.conv2_offset.weight"


class PlainHead(nn.Module):
    """A head with a class-specific bias of its own; its subclass lists the parameters."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        num_classes = cfg.MODEL.TOOD.NUM_CLASSES
        self.cls = nn.Conv2d(input_shape[0].channels, num_classes, 1, bias=False)
        self.prior = nn.Parameter(torch.randn(num_classes, 1, 1))
        self.reg = nn.Conv2d(input_shape[0].channels, 4, 1)

    def forward(self, features, anchors):
        scores = [(self.cls(x) + self.prior).sigmoid() for x in features]
        boxes = []
        for x, level, stride in zip(features, anchors, STRIDES, strict=True):
            base = level.view(*x.shape[-2:], 4).permute(2, 0, 1)
            boxes.append(base + self.reg(x) * 0.1 * stride)
        return DensePredictions(scores, boxes)


class ListedHead(PlainHead):
    # The convolution has no bias: a name that the head lacks is no obstacle.
    class_specific_parameters = ("cls.weight", "cls.bias", "prior")


@pytest.fixture
def custom_heads():
    DENSE_HEAD_REGISTRY.register(PlainHead)
    DENSE_HEAD_REGISTRY.register(ListedHead)
    yield
    for head in (PlainHead, ListedHead):
        DENSE_HEAD_REGISTRY._obj_map.pop(head.__name__)


@pytest.mark.parametrize(
    "head, class_specific",
    [
        ("TOODHead", ["tood_cls.weight", "tood_cls.bias"]),
        ("ParallelHead", ["cls_score.weight", "cls_score.bias"]),
        ("ListedHead", ["cls.weight", "prior"]),
    ],
)
def test_another_number_of_classes(
    tiny_cfg, other_model, custom_heads, tmp_path, caplog, head, class_specific
):
    tiny_cfg.MODEL.TOOD.HEAD.NAME = head
    trained = build_model(tiny_cfg)
    TOODCheckpointer(trained, str(tmp_path)).save("model")
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 9
    loaded = other_model()
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    class_specific = [f"head.{name}" for name in class_specific]
    assert f"another number of classes: {', '.join(sorted(class_specific))} keep" in caplog.text
    trained = trained.state_dict()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, before[key] if key in class_specific else trained[key]), key
    with pytest.raises(CheckpointError, match="Set MODEL.TOOD.NUM_CLASSES"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))


def test_head_that_lists_no_parameters_is_told_how(tiny_cfg, custom_heads, tmp_path):
    tiny_cfg.MODEL.TOOD.HEAD.NAME = "PlainHead"
    TOODCheckpointer(build_model(tiny_cfg), str(tmp_path)).save("model")
    tiny_cfg.MODEL.TOOD.NUM_CLASSES = 9
    loaded = build_model(tiny_cfg)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        TOODCheckpointer(loaded).load(str(tmp_path / "model.pth"))
    for part in (
        "2 keys have another shape: head.cls.weight (5, 64, 1, 1), in the model (9, 64, 1, 1)",
        "class_specific_parameters = ('cls.weight', 'prior')",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match="Set MODEL.TOOD.NUM_CLASSES"):
        TOODCheckpointer(loaded, strict=True).load(str(tmp_path / "model.pth"))


@pytest.mark.parametrize(
    "shapes", [{"weight": (5, 7, 3, 3)}, {"weight": (9, 64, 3, 3)}, {"bias": (9,)}]
)
def test_classifier_of_another_kind_is_not_another_number_of_classes(model, tmp_path, shapes):
    weights = model.state_dict()
    weights |= {f"head.tood_cls.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"1 keys have another shape: head\.tood_cls"):
        TOODCheckpointer(model).load(str(tmp_path / "model.pth"))


def compare(expected, file, layout="detectron2", allow=True, **options):
    """The report on a file and a model that are given as shapes by name."""
    expected = {key: torch.zeros(shape) for key, shape in expected.items()}
    file = {key: torch.zeros(shape) for key, shape in file.items()}
    origins = {key: f"original.{key}" for key in file}
    return compare_keys(
        expected,
        LoadedWeights("file.pth", file, layout, origins),
        **{"allow_backbone_only": allow, "allow_new_classes": allow, **options},
    )


MODEL = {BACKBONE: (1,), OFFSET: (1,), "backbone.fpn_output3.bias": (2,), "head.cls.bias": (5,)}


def test_equal_keys_match():
    report = compare(MODEL, MODEL, allow=False)
    assert report.is_match
    assert not (report.backbone_only or report.untrained_offsets or report.new_classes)


def test_batch_counters_may_differ():
    counters = {"backbone.bottom_up.stem.conv1.norm.num_batches_tracked": ()}
    assert compare(MODEL, MODEL | counters, allow=False).is_match
    assert compare(MODEL | counters, MODEL, allow=False).is_match


def test_backbone_only_policy():
    file = {BACKBONE: (1,)}
    report = compare(MODEL, file, "torchvision-backbone")
    assert report.is_match and report.backbone_only and report.untrained_offsets
    report = compare(MODEL, file | {OFFSET: (1,)}, "torchvision-backbone")
    assert report.is_match and report.backbone_only and not report.untrained_offsets
    report = compare(MODEL, {OFFSET: (1,)}, "torchvision-backbone")
    assert report.missing == [BACKBONE]
    report = compare(MODEL, file, "torchvision-backbone", allow_backbone_only=False)
    assert report.missing == sorted(MODEL.keys() - file.keys())
    assert "holds only a backbone" in report.format()
    # The policy is about files of backbones: others must be complete.
    assert compare(MODEL, file).missing == sorted(MODEL.keys() - file.keys())


def test_new_classes_policy():
    file = MODEL | {"head.cls.bias": (9,)}
    listed = {"class_specific_parameters": ("cls.bias",)}
    report = compare(MODEL, file, **listed)
    assert report.is_match and report.new_classes == ["head.cls.bias"]
    report = compare(MODEL, file, **listed, allow_new_classes=False)
    assert report.mismatched == ["original.head.cls.bias (9,), in the model (5,)"]
    assert "Set MODEL.TOOD.NUM_CLASSES" in report.format()
    report = compare(MODEL, file)
    assert not report.is_match and "('cls.bias',)" in report.format()
    # More than the number of rows differs.
    report = compare(MODEL, MODEL | {"head.cls.bias": (9, 2)}, **listed)
    assert len(report.mismatched) == 1 and "class_specific_parameters" not in report.format()
    # Another difference means another model.
    report = compare(MODEL, file | {"backbone.fpn_output3.bias": (3,)}, **listed)
    assert len(report.mismatched) == 2 and "class_specific_parameters" not in report.format()
    report = compare(MODEL | {"head.extra": (1,)}, file)
    assert report.missing == ["head.extra"] and "class_specific" not in report.format()


def test_long_lists_are_cut():
    report = compare({}, {f"head.{i:02d}": (1,) for i in range(13)})
    lines = report.format().splitlines()
    assert lines[0] == "file.pth does not match the model:"
    assert lines[1].startswith("  13 keys of the file have no place in the model: original.head.00")
    assert lines[1].endswith("original.head.09; and 3 more")
    assert lines[2].startswith("  Use the config that the weights were trained with.")


def test_backbone_of_another_depth_is_refused(tiny_weights, tiny_cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    weights = {
        key.removeprefix("backbone."): value
        for key, value in tiny_weights[1].items()
        if key.startswith("backbone.")
    }
    weights["layer1.5.conv1.weight"] = torch.zeros(64, 64, 3, 3)
    torch.save(weights, tmp_path / "r34.pth")
    with pytest.raises(CheckpointError, match=r"have no place.*layer1\.5\.conv1\.weight"):
        TOODCheckpointer(build_model(tiny_cfg)).load(str(tmp_path / "r34.pth"))

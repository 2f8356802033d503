"""Fine-tuning on other classes: those of the same name keep their rows of the classifier."""

import logging

import pytest
import torch
from detectron2.modeling import build_model

from tests.helpers import published_cfg, recipe_weights
from tood.checkpoint import CheckpointInfo, TOODCheckpointer
from tood.model_zoo import get_weights_url

OLD = ["cat", "dog", "owl", "fox", "cow"]


def save(cfg, folder, names=OLD):
    """Weights of a model that knows its classes; return the model's state."""
    torch.manual_seed(1)
    model = build_model(cfg)
    for key in ("tood_cls.weight", "tood_cls.bias", "cls_score.weight", "cls_score.bias"):
        parameter = dict(model.head.named_parameters()).get(key)
        if parameter is not None:
            torch.nn.init.normal_(parameter)
    info = CheckpointInfo(class_names=list(names))
    TOODCheckpointer(model, str(folder), info=lambda: info).save("old")
    return {key: value.clone() for key, value in model.state_dict().items()}


def load(cfg, folder, names, **options):
    """Load into a new model; return its state before and after, and the checkpointer."""
    cfg.MODEL.TOOD.CLASS_NAMES, cfg.MODEL.TOOD.NUM_CLASSES = list(names), len(names)
    torch.manual_seed(2)
    model = build_model(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    checkpointer = TOODCheckpointer(model, **options)
    checkpointer.load(str(folder / "old.pth"))
    return before, model.state_dict(), checkpointer


@pytest.mark.parametrize("head", ["TOODHead", "ParallelHead"])
@pytest.mark.parametrize(
    "names, sources",
    [
        (["fox", "bee", "cat"], [3, None, 0]),
        (["bee", "cow", "ant", "dog", "owl", "fox", "cat"], [None, 4, None, 1, 2, 3, 0]),
        (["dog", "cat", "owl", "fox", "cow"], [1, 0, 2, 3, 4]),  # another order
        (["Cat", "dog ", "owl", "fox_", "cow"], [None, None, 2, None, 4]),  # as written
        (["ant", "bee"], [None, None]),
    ],
)
def test_rows_follow_their_names(tiny_cfg, tmp_path, head, names, sources):
    tiny_cfg.MODEL.TOOD.HEAD.NAME = head
    old = save(tiny_cfg, tmp_path)
    before, after, checkpointer = load(tiny_cfg, tmp_path, names)
    listed = {f"head.{key}" for key in checkpointer.model.head.class_specific_parameters}
    assert len(listed) == 2
    for key, value in after.items():
        if key not in listed:
            assert torch.equal(value, old[key]), key
            continue
        for row, source in enumerate(sources):
            expected = before[key][row] if source is None else old[key][source]
            assert torch.equal(value[row], expected), (key, row)


def test_what_was_kept_is_said(tiny_cfg, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    save(tiny_cfg, tmp_path)
    load(tiny_cfg, tmp_path, ["fox", "bee", "cat"])
    assert caplog.messages[-1] == (
        f"{tmp_path / 'old.pth'} was trained on other classes. Matched by name, 2 of 3 classes "
        "start from its classification weights (fox, cat), and 1 from the initialization (bee)."
    )
    assert "another number of classes" not in caplog.text
    caplog.clear()
    load(tiny_cfg, tmp_path, [f"new{i}" for i in range(12)])
    assert (
        "0 of 12 classes start from its classification weights, and 12 from" in caplog.messages[-1]
    )
    assert "new9, and 2 more)." in caplog.messages[-1]
    caplog.clear()
    load(tiny_cfg, tmp_path, OLD[::-1])
    assert "5 of 5 classes start" in caplog.text and "each in its new place." in caplog.text


def test_a_name_that_occurs_twice_is_not_matched(tiny_cfg, tmp_path):
    save(tiny_cfg, tmp_path, ["cat", "dog", "cat", "fox", "cow"])
    _, _, checkpointer = load(tiny_cfg, tmp_path, ["cat", "dog", "fox", "fox"])
    assert checkpointer.class_rows.kept == ["dog"]
    assert checkpointer.class_rows.fresh == ["cat", "fox", "fox"]


@pytest.mark.parametrize("old, new", [(OLD, OLD), ([], OLD), (OLD, [])])
def test_same_or_unknown_classes_are_loaded_as_they_are(tiny_cfg, tmp_path, caplog, old, new):
    expected = save(tiny_cfg, tmp_path, old)
    tiny_cfg.MODEL.TOOD.CLASS_NAMES = list(new)
    model = build_model(tiny_cfg)
    checkpointer = TOODCheckpointer(model)
    checkpointer.load(str(tmp_path / "old.pth"))
    assert checkpointer.class_rows is None and "Matched by name" not in caplog.text
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_evaluation_loads_rows_as_they_are(tiny_cfg, tmp_path):
    """A model that is to be evaluated is what its file says."""
    old = save(tiny_cfg, tmp_path)
    _, after, checkpointer = load(tiny_cfg, tmp_path, OLD[::-1], strict=True)
    assert checkpointer.class_rows is None
    assert all(torch.equal(value, old[key]) for key, value in after.items())


@pytest.mark.parametrize("with_names", [True, False])
def test_published_weights_know_cocos_classes(tmp_path, caplog, with_names):
    """Under the published file name; the file itself may lack the names."""
    caplog.set_level(logging.INFO)
    weights = recipe_weights("TOOD-R50-1x")
    name = get_weights_url("TOOD-R50-1x").rpartition("/")[2]
    content = {"state_dict": weights}
    if with_names:
        name, content["meta"] = "own.pth", {"CLASSES": ["dog", *map(str, range(79))]}
    torch.save(content, tmp_path / name)
    cfg = published_cfg("TOOD-R50-1x")
    cfg.MODEL.TOOD.NUM_CLASSES, cfg.MODEL.TOOD.CLASS_NAMES = 3, ["zebra", "Person", "dog"]
    model = build_model(cfg)
    TOODCheckpointer(model).load(str(tmp_path / name))
    bias, published = model.head.tood_cls.bias, weights["bbox_head.tood_cls.bias"]
    assert bias[2] == published[0 if with_names else 16]  # COCO's dog is class 16, zebra 22
    initial = model.head.tood_cls.bias[1]
    assert (bias[0] == published[22]) != with_names and initial not in published

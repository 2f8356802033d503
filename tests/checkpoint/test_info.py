"""What a checkpoint says about itself, and that none of it is trusted."""

import pytest
import torch

from tests.checkpoint.builders import META
from tood.checkpoint import CheckpointInfo, TOODCheckpointer, read_checkpoint
from tood.checkpoint.info import read_info
from tood.checkpoint.saving import write_checkpoint

INFO = CheckpointInfo(
    "SEED: 1\n", ["cat", "dog"], [7, "b"], "aligned", 12, "run-1", {"tood": "1", "torch": "2"}
)


def test_information_round_trip(model, tmp_path):
    TOODCheckpointer(model, str(tmp_path), info=lambda: INFO).save("model", iteration=12)
    path = str(tmp_path / "model.pth")
    assert torch.load(path, weights_only=True)["tood"] == INFO.to_dict()
    loaded = read_checkpoint(path)
    assert (
        loaded.info == INFO and loaded.extras == {"iteration": 12} and "tood" not in loaded.ignored
    )
    checkpointer = TOODCheckpointer(model)
    assert checkpointer.load(path) == {"iteration": 12} and checkpointer.loaded_info == INFO


def test_iteration_is_that_of_the_checkpoint(model, tmp_path):
    checkpointer = TOODCheckpointer(model, str(tmp_path), info=lambda: CheckpointInfo("A: 1"))
    checkpointer.save("model", iteration=5)
    info = read_checkpoint(str(tmp_path / "model.pth")).info
    assert info.iteration == 5 and set(info.versions) == {"tood", "torch", "detectron2"}


@pytest.mark.parametrize(
    "name, value",
    [
        ("config", 3),
        ("config", "x" * 2_000_000),
        ("class_names", "cat"),
        ("class_names", ["cat", 3]),
        ("category_ids", {"a": 1}),
        ("category_ids", [1, True]),
        ("category_ids", [7, 7]),
        ("category_ids", [7]),
        ("phase", ["aligned"]),
        ("iteration", -1),
        ("iteration", True),
        ("iteration", 2.5),
        ("iteration", 10**40),
        ("run_id", None),
        ("versions", {"torch": 2}),
        ("versions", torch.zeros(3)),
    ],
)
def test_damaged_values_are_ignored_with_a_warning(name, value, caplog):
    info = read_info({"tood": {**INFO.to_dict(), name: value}}, "a.pth")
    empty = CheckpointInfo(versions={})
    assert getattr(info, name) == getattr(empty, name)
    assert info.config == ("" if name == "config" else INFO.config)
    assert f"a.pth: its information about {name} is damaged" in caplog.text


@pytest.mark.parametrize("value", [None, 3, "text", [1], torch.zeros(2)])
def test_information_of_another_kind_is_ignored(value, caplog):
    assert read_info({"tood": value}, "a.pth") is None
    assert "is ignored" in caplog.text


def test_files_without_information():
    for data in ({}, {"model": {}}, [], 3, None):
        assert read_info(data, "a.pth") is None
    assert read_info({"tood": {}}, "a.pth") == CheckpointInfo(versions={})


@pytest.mark.parametrize(
    "meta, names",
    [
        (META, ["cat", "dog"]),
        ({"dataset_meta": {"classes": ("cat",), "palette": [(1, 2, 3)]}}, ["cat"]),
        ({"dataset_meta": {"CLASSES": ["a", "b"]}, "CLASSES": ["c"]}, ["a", "b"]),
        ({"CLASSES": "person"}, ["person"]),
        ({"CLASSES": [1, 2]}, None),
        ({"CLASSES": None}, None),
        ({"dataset_meta": 3}, None),
        (3, None),
    ],
)
def test_class_names_of_mmdetection(meta, names):
    info = read_info({"state_dict": {}, "meta": meta}, "a.pth")
    assert (None if info is None else info.class_names) == names


def test_converted_files_keep_the_information(tiny_weights, tmp_path):
    from tood.checkpoint.convert import convert_checkpoint

    write_checkpoint({"model": tiny_weights[0], "tood": INFO.to_dict()}, tmp_path / "a.pth")
    path = str(tmp_path / "a.pth")
    assert read_info(convert_checkpoint(path, "tood").contents, path) == INFO
    theirs = convert_checkpoint(path, "mmdet").contents
    assert theirs["meta"]["dataset_meta"] == {"classes": ("cat", "dog")}

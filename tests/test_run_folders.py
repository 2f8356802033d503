"""Which checkpoint and which classes the folder of a training run stands for."""

import pytest

from tood.checkpoint import CheckpointInfo
from tood.checkpoint.saving import write_checkpoint
from tood.data import class_info
from tood.errors import CheckpointError, ConfigError
from tood.model_zoo import find_weights, get_weights_url, resolve


@pytest.fixture
def run(tmp_path):
    """The output folder of a training run."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("SEED: 1\n")
    return folder


def checkpoint_of(run, name: str, **info) -> str:
    write_checkpoint({"model": {}, "tood": CheckpointInfo(**info).to_dict()}, run / name)
    return str(run / name)


def test_best_checkpoint_of_a_run_comes_first(run, caplog):
    caplog.set_level("INFO")
    final = checkpoint_of(run, "model_final.pth", iteration=999)
    assert resolve(run).require_weights() == final
    assert "model_final.pth, the last checkpoint of the run, iteration 999." in caplog.text
    best = checkpoint_of(run, "model_best.pth", iteration=499)
    model = resolve(run)
    assert "the best" not in caplog.text  # weights that nobody uses are not announced
    assert model.require_weights() == best
    assert "model_best.pth, the best checkpoint of the run, iteration 499." in caplog.text
    # detectron2's hook lets last_checkpoint name it.
    (run / "last_checkpoint").write_text("model_best.pth")
    assert resolve(run).weights == best


def test_best_checkpoint_of_an_earlier_run_is_not_taken(run):
    """A new training in a used folder leaves the checkpoints of the one before."""
    (run / "run.json").write_text('{"run_id": "new"}')
    checkpoint_of(run, "model_best.pth", run_id="old")
    final = checkpoint_of(run, "model_final.pth", run_id="new")
    assert resolve(run).weights == final


def test_classes_that_a_runs_config_does_not_name(run, tmp_path, monkeypatch):
    """They are those of the checkpoint, wherever the data and the folder are now."""
    (run / "config.yaml").write_text(
        "MODEL: {TOOD: {NUM_CLASSES: 2}}\nDATASETS: {TEST_ANNOTATIONS: moved/val.json}\n"
    )
    checkpoint_of(run, "model_final.pth", class_names=["cat", "dog"], category_ids=[7, 3])
    monkeypatch.chdir(tmp_path)
    moved = run.rename(tmp_path / "elsewhere")
    cfg = resolve(f"./{moved.name}/").load_config()
    assert class_info(cfg) == (["cat", "dog"], [7, 3])
    assert class_info(resolve(moved).load_config(["MODEL.TOOD.CLASS_NAMES", "['a', 'b']"])) == (
        ["a", "b"],
        [7, 3],
    )
    assert class_info(resolve(moved).load_config(["MODEL.TOOD.NUM_CLASSES", "1"]))[0] == ["class 0"]


def test_weights_may_be_a_name_a_run_or_a_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_weights("TOOD-R50-1x") == get_weights_url("TOOD-R50-1x")
    (tmp_path / "TOOD-R50-1x").write_bytes(b"")
    assert find_weights("TOOD-R50-1x") == "TOOD-R50-1x"  # a file comes first
    final = checkpoint_of(run, "model_final.pth")
    assert find_weights(run) == find_weights(f"{run}/") == final
    for source in ("", "a.pth", "https://a.b/c.pth", "detectron2://ImageNetPretrained/R-50.pkl"):
        assert find_weights(source) == source


def test_weights_that_a_name_or_a_folder_does_not_have(run):
    with pytest.raises(CheckpointError, match="No weights are published for TOOD-R18-shapes"):
        find_weights("quickstart/TOOD-R18-shapes")
    with pytest.raises(CheckpointError, match="must be downloaded by hand"):
        find_weights("TOOD-X101-64x4d-DCN-2x")
    with pytest.raises(CheckpointError, match="holds no checkpoint of its run"):
        find_weights(run)
    with pytest.raises(ConfigError, match="is not the output folder of a training run"):
        find_weights(run.parent)
